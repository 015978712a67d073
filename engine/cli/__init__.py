"""The `framestream` command line."""

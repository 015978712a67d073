"""The engine in Modal containers: thin shells, every decision about pixels is in `engine`."""

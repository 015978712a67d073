"""`python -m engine` is the `framestream` program."""

from engine.cli.main import main

main()

"""`python -m engine` is the `framestream` program."""

from engine.cli import main

main()

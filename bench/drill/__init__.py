"""A drill: the programs under faults, watched from outside. See `__main__.py`."""

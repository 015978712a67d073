"""Doing a plan, whole or in parts: where deciding and pixels meet."""

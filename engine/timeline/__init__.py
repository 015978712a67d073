"""Deciding: an edit becomes an exact plan. No file is opened, no pixel is touched."""

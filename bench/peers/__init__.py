"""The same edits through framestream and through what people use instead; see `__main__.py`."""

"""Media files: what they are, their frames out, finished frames in. No edit, no plan."""

"""The HTTP layer: uploads in, jobs, progress and finished videos out."""

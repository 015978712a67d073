"""The HTTP server: takes uploads, runs export jobs, serves progress and finished videos."""

"""Structured logs: one JSON object a line, with the export's id if there is one. No secrets."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs() -> None:
    """Sends the server's events and the libraries' warnings to standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(
                    show_locals=False
                )  # they hold secrets
            ),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    for chatty in ("alembic", "httpx", "botocore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

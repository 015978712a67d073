"""What the fork server loads once for all workers: the modules of their work, and all they import.

Importing it starts no thread and opens nothing, so that its process can be forked.
"""

from __future__ import annotations

from backend import export_tasks, inspection_tasks, preview_tasks, worker
from engine.timeline import document

__all__ = [
    "document",
    "export_tasks",
    "inspection_tasks",
    "preview_tasks",
    "worker",
]

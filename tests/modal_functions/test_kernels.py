"""No kernel is left for a container to compile."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.modal_functions import kernels_in_use


def test_what_exports_need_is_compiled_for_the_image() -> None:
    command = [sys.executable, "-W", "error", "-m", kernels_in_use.__name__]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"unreached": [], "missed": [], "not kept": []}

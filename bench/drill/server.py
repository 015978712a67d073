"""The server's program, started and ended from outside. All that it says goes to a log.

It speaks no TLS, so that no client loads certificates.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx

from bench.drill.round import Round
from tests.waiting import wait_until

START_S = 60
USER = "anna"
PROGRAM = (sys.executable, "-m", "engine")


class NotServingError(Exception):
    """The server ended at its start. The text is what it said."""


class Server:
    """One data folder's server. It asks for an API key, and is asked as the user that has it."""

    def __init__(
        self,
        drill: Round,
        data: Path,
        *,
        name: str = "server",
        system_user: str | None = None,
        **environment: str,
    ) -> None:
        """Starts nothing. `name` is its log's. `system_user`: who runs the program."""
        self.data = data
        self.log = drill.log(name)
        self.process: subprocess.Popen[bytes] | None = None
        self._drill = drill
        self._environment = drill.environment(**environment)
        self._system_user = system_user
        self._key = ""
        self._client: httpx.Client | None = None
        self._log_start = 0

    @property
    def client(self) -> httpx.Client:
        """Asks the server that was started last."""
        assert self._client is not None, "the server was never started"
        return self._client

    def start(self) -> None:
        """Starts it, with a key of its own the first time. Raises `NotServingError`."""
        if not self._key:
            self._key = self._new_key()
            self._drill.secrets["API key"] = self._key.encode()
        url = self._start()
        headers = {"Authorization": f"Bearer {self._key}"}
        self._client = self._drill.open_until_end.enter_context(
            httpx.Client(base_url=url, headers=headers, timeout=60, verify=False)
        )
        self._log_in(url)
        signing_key = self.data / "signing.key"
        if signing_key.exists():
            self._drill.secrets["signing key"] = signing_key.read_bytes()

    def refusal(self) -> str:
        """What it says where it must not start. The text is empty if it started all the same."""
        try:
            self._start()
        except NotServingError as error:
            return str(error)
        self.kill()
        return ""

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends it by a signal, and waits for its end."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(how)
            self.process.wait(30)

    def stop(self) -> None:
        """Ends it as an operator does."""
        self.kill(signal.SIGTERM)

    def said(self) -> str:
        """What it said since it was last started."""
        return self.log.read_bytes()[self._log_start :].decode(errors="replace")

    def _start(self) -> str:
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = process = subprocess.Popen(
                [*PROGRAM, "serve", "--port", "0", "--data-dir", str(self.data)],
                stdout=log,
                stderr=log,
                cwd=self._drill.folder,
                env=self._environment,
                user=self._system_user,
                start_new_session=True,
            )

        def answers() -> object:
            if process.poll() is not None:
                raise NotServingError(self.said())
            found = re.search(r'"url": "(http[^"]+)"', self.said())
            with suppress(httpx.TransportError):
                return found and httpx.get(f"{found[1]}api/health", verify=False).is_success
            return False

        wait_until(answers, START_S)
        found = re.search(r'"url": "(http[^"]+)"', self.said())
        assert found
        return found[1]

    def _new_key(self) -> str:
        with self.log.open("ab") as log:
            made = subprocess.run(
                [*PROGRAM, "key", USER, "--data-dir", str(self.data)],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._drill.folder,
                env=self._environment,
                user=self._system_user,
                check=True,
                timeout=START_S,
            )
        return made.stdout.decode().split()[-1]

    def _log_in(self, url: str) -> None:
        """Logs the page in: what is in its cookie is a secret, too."""
        page = httpx.Client(base_url=url, timeout=60, verify=False)
        with page, suppress(httpx.TransportError):
            page.post("/api/session", json={"key": self._key})
            for cookie in page.cookies.jar:
                self._drill.secrets[f"session cookie {len(self._drill.secrets)}"] = (
                    cookie.value or "no cookie"
                ).encode()
            page.get("/api/exports")

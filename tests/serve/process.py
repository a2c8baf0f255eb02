"""A real process of ``pusher serve``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, Final

import requests

from tests.support.waiting import PATIENCE

_AT: Final = re.compile(r"Listening on (https?://\S+:\d+)")


class Process:
    """The process, and where it listens."""

    def __init__(self, *options: str, stdin: str = "", env: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "pusher", "serve", *options]
        if "--listen" not in options:
            command += ["--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
        assert self.process.stdin is not None
        self.process.stdin.write(stdin)
        self.process.stdin.close()
        self.said: list[str] = []
        self.url = self.read_until(_AT)[1]
        self.http = requests.Session()
        self.http.trust_env = False

    def read_until(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Read its lines up to one that matches."""
        error: IO[str] | None = self.process.stderr
        assert error is not None
        for line in error:
            self.said.append(line)
            if found := pattern.search(line):
                return found
        raise AssertionError("".join(self.said))

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.http.request(method, f"{self.url}{path}", **{"timeout": PATIENCE, **options})

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def serving(*options: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Iterator[Process]:
    """Run ``pusher serve`` with these options; it is killed at the end if it still runs."""
    served = Process(*options, stdin=stdin, env=env)
    try:
        yield served
    finally:
        served.http.close()
        served.process.kill()
        served.process.wait()
        assert served.process.stderr is not None
        served.process.stderr.close()

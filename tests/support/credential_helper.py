"""A credential helper that is a real program: ``docker-credential-NAME`` in a folder for PATH."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

_PROGRAM = """#!{python} -ES
import json, pathlib, sys
folder = pathlib.Path({folder!r})
given = sys.stdin.read()
with open(folder / "calls", "a") as calls:
    calls.write(json.dumps([sys.argv[1:], given]) + "\\n")
path = folder / "logins"
logins = json.loads(path.read_text()) if path.exists() else {{}}
action = sys.argv[1]
if action == "store":
    login = json.loads(given)
    logins[login["ServerURL"]] = [login["Username"], login["Secret"]]
elif given not in logins:
    sys.exit(print("credentials not found in native keychain") or 1)
elif action == "erase":
    del logins[given]
else:
    username, secret = logins[given]
    print(json.dumps(dict(ServerURL=given, Username=username, Secret=secret)))
path.write_text(json.dumps(logins))
"""


class HelperProgram:
    """Keeps logins in a file beside it, and notes how it was called."""

    def __init__(self, folder: Path, name: str = "test") -> None:
        folder.mkdir(exist_ok=True)
        self.program = f"docker-credential-{name}"
        self._state = folder / f"{self.program}.state"
        self._state.mkdir()
        self._path = folder / self.program
        self._write(_PROGRAM.format(python=sys.executable, folder=str(self._state)))

    def behave(self, script: str) -> None:
        """Be this shell script from now on."""
        self._write(f"#!/bin/sh\n{script}\n")

    @property
    def calls(self) -> list[tuple[list[str], str]]:
        """Arguments and standard input of every call."""
        path = self._state / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(arguments, given) for arguments, given in map(json.loads, lines)]

    @property
    def logins(self) -> dict[str, list[str]]:
        """User name and secret by server."""
        path = self._state / "logins"
        logins: dict[str, list[str]] = json.loads(path.read_text()) if path.exists() else {}
        return logins

    def keep(self, server: str, username: str, secret: str) -> None:
        """As if it had been stored before."""
        (self._state / "logins").write_text(json.dumps({**self.logins, server: [username, secret]}))

    def _write(self, text: str) -> None:
        self._path.write_text(text)
        self._path.chmod(0o755)


def helper_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "test") -> HelperProgram:
    """A helper that is found by its name from now on, in this process and its children."""
    helper = HelperProgram(folder, name)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return helper

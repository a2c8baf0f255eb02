"""Run credential helpers, the programs ``docker-credential-NAME`` that store secrets outside of files.

The protocol is that of docker-credential-helpers (``credentials/credentials.go``, ``error.go``): the action
is the only argument, everything else goes through stdin and stdout, errors are printed on stdout too.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any, Final

from pusher.config.child_environment import helper_environment
from pusher.errors import CredentialHelperFailed
from pusher.oci.bounded_json import load_json
from pusher.registry.auth.credentials.credential import Credential
from pusher.waiting import communicate

_NOT_FOUND: Final = re.compile(
    r"""credentials?\ (?:were\ |was\ |are\ )?not\ (?:be\ )?found | no\ (?:stored\ |saved\ )?credentials?\b
    | (?:could|can)(?:\ ?not|n't)\ find\ (?:any\ |the\ )?credentials?
    | credentials?\ do(?:es)?(?:\ not|n't)\ exist
    | item\ could\ not\ be\ found\ in\ the\ keychain""",
    re.IGNORECASE | re.VERBOSE,
)
"""How helpers report that they have no login; the first is docker-credential-helpers'."""
_IDENTITY_TOKEN_USER: Final = "<token>"  # noqa: S105 - replaces a user name
_SECRET: Final = re.compile(r"""["']secret["']\s*:""", re.IGNORECASE)
_MAX_READ: Final = 4096
"""Characters of the output that are searched for these words."""
_MAX_MESSAGE: Final = 200
"""Characters of the output that are shown."""

time_limit = 30.0
"""Seconds for one answer: a helper may ask the user in a window."""


class CredentialHelper:
    """The helper that the configuration file ``place`` names for ``registry``, which it knows as ``server``.

    Every method raises CredentialHelperFailed, with the helper's output if that has no secret in it.
    """

    def __init__(self, name: str, place: str, registry: str, server: str) -> None:
        if not re.fullmatch(r"[^/\\\s\0-\x1f]+", name):
            raise CredentialHelperFailed(
                f"{place} names the credential helper {name!r}, which is not the name of a program",
                hint=f"fix credsStore or credHelpers in {place}",
            )
        self.program = f"docker-credential-{name}"
        self._place = place
        self._registry = registry
        self._server = server

    def get(self) -> Credential | None:
        """Return the stored login, or None."""
        code, output = self._run("get", self._server)
        if (code != 0 and _NOT_FOUND.search(output[:_MAX_READ])) or (code == 0 and not output.strip()):
            return None
        self._check("get", code, output)
        try:
            # some print another line before the JSON
            answer = load_json(re.sub(r"\A[^{]*\n(?=\s*\{)", "", output).encode("utf-8", "replace"))
            username, secret = answer.get("Username") or "", answer.get("Secret") or ""
        except (ValueError, AttributeError):
            username = secret = None
        if not (isinstance(username, str) and isinstance(secret, str)):
            raise self._error(f"returned something for {self._registry} that is not a credential")
        secret = secret.rstrip("\0")
        if not secret:
            return None
        if username == _IDENTITY_TOKEN_USER:
            return Credential(username, "", self.program, identity_token=secret)
        return Credential(username, secret, self.program)

    def store(self, username: str, password: str) -> None:
        """Store a login in place of the one before."""
        login = {"ServerURL": self._server, "Username": username, "Secret": password}
        code, output = self._run("store", json.dumps(login))
        self._check("store", code, output, password)

    def erase(self) -> None:
        """Remove the login."""
        self._check("erase", *self._run("erase", self._server))

    def find(self) -> str:
        """Return the path of the program."""
        path = shutil.which(self.program)
        if path is None:
            raise CredentialHelperFailed(
                f"the credential helper {self.program}, which {self._place} names, is not installed",
                hint=f"install it, or remove it from {self._place} and run: pusher login {self._registry}",
            )
        return path

    def _run(self, action: str, given: str) -> tuple[int, str]:
        """Return exit code and output. The helper stays in the process group, to ask on the terminal."""
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(
                [self.find(), action], stdin=pipe, stdout=pipe, stderr=pipe, env=helper_environment()
            )
        except OSError as error:
            raise self._error(f"cannot be started: {error.strerror}") from error
        try:
            said = given.encode("utf-8", "surrogateescape")
            output, errors = communicate(process, said, limit=time_limit, name=self.program)
        except subprocess.TimeoutExpired:
            raise self._error(f"did not respond within {time_limit:g} seconds") from None
        finally:
            _end(process)
        # some helpers of Windows answer in UTF-16, of which only ASCII is kept
        return process.returncode, _text(output) or _text(errors)

    def _check(self, action: str, code: int, output: str, secret: str = "") -> None:
        if code == 0:
            return
        words = re.sub(r"[\s\0-\x1f\x7f-\x9f]+", " ", output).strip()
        if _SECRET.search(output) or (secret and secret in output):
            words = ""
        words = words if len(words) <= _MAX_MESSAGE else words[: _MAX_MESSAGE - 3] + "..."
        raise self._error(f"cannot {action} the login for {self._registry}: {words or f'exit code {code}'}")

    def _error(self, what: str) -> CredentialHelperFailed:
        return CredentialHelperFailed(
            f"the credential helper {self.program} {what}",
            hint=f"check whether this works: {self.program} list; "
            f"or remove it from {self._place} and run: pusher login {self._registry}",
        )


def _text(output: bytes) -> str:
    return output.replace(b"\0", b"").decode("utf-8-sig", errors="replace")


def _end(process: subprocess.Popen[Any]) -> None:
    """End the process, without waiting for children that hold its pipes open."""
    if process.poll() is None:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None and not stream.closed:
            stream.close()

"""Credential helpers: the programs ``docker-credential-NAME`` that keep secrets outside of files.

The protocol is that of docker-credential-helpers (``credentials/credentials.go``, ``error.go``): the action
is the only argument, everything else goes through stdin and stdout, failures are told on stdout too.
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
"""How helpers say that they keep no login; the first as docker-credential-helpers has it."""
_IDENTITY_TOKEN_USER: Final = "<token>"  # noqa: S105 - stands in place of a user name
_SECRET: Final = re.compile(r"""["']secret["']\s*:""", re.IGNORECASE)
_LOOKED_AT: Final = 4096
"""Characters of its output in which such words are looked for."""
_LONGEST: Final = 200
"""Characters of a helper's own words that are shown."""

time_limit = 30.0
"""Seconds for one answer: a helper may be asking the user in a window of its own."""


class Helper:
    """The helper that ``place`` (a configuration file) names for ``registry``, known to it as ``server``.

    Every method raises CredentialHelperFailed, with the helper's own words where they hold no secret.
    """

    def __init__(self, name: str, place: str, registry: str, server: str) -> None:
        if not re.fullmatch(r"[^/\\\s\0-\x1f]+", name):
            raise CredentialHelperFailed(
                f"{place} asks for the credential helper {name!r}, which is no name of a program",
                hint=f"mend credsStore or credHelpers in {place}",
            )
        self.program = f"docker-credential-{name}"
        self._place = place
        self._registry = registry
        self._server = server

    def get(self) -> Credential | None:
        """The login it keeps, None if it keeps none."""
        code, output = self._run("get", self._server)
        if (code != 0 and _NOT_FOUND.search(output[:_LOOKED_AT])) or (code == 0 and not output.strip()):
            return None
        self._check("get", code, output)
        try:
            # some print a line of their own before it
            answer = load_json(re.sub(r"\A[^{]*\n(?=\s*\{)", "", output).encode("utf-8", "replace"))
            username, secret = answer.get("Username") or "", answer.get("Secret") or ""
        except (ValueError, AttributeError):
            username = secret = None
        if not (isinstance(username, str) and isinstance(secret, str)):
            raise self._failed(f"gives something for {self._registry} that is no credential")
        secret = secret.rstrip("\0")
        if not secret:
            return None
        if username == _IDENTITY_TOKEN_USER:
            return Credential(username, "", self.program, identity_token=secret)
        return Credential(username, secret, self.program)

    def store(self, username: str, password: str) -> None:
        """Keep this login, in place of the one before."""
        login = {"ServerURL": self._server, "Username": username, "Secret": password}
        code, output = self._run("store", json.dumps(login))
        self._check("store", code, output, password)

    def erase(self) -> None:
        """Forget the login."""
        self._check("erase", *self._run("erase", self._server))

    def find(self) -> str:
        """The program's path."""
        path = shutil.which(self.program)
        if path is None:
            raise CredentialHelperFailed(
                f"the credential helper {self.program}, which {self._place} asks for, is not installed",
                hint=f"install it, or take it out of {self._place} and run: pusher login {self._registry}",
            )
        return path

    def _run(self, action: str, given: str) -> tuple[int, str]:
        """Exit code and output; stays in our process group, for a helper may ask on the terminal."""
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(
                [self.find(), action], stdin=pipe, stdout=pipe, stderr=pipe, env=helper_environment()
            )
        except OSError as error:
            raise self._failed(f"cannot be started: {error.strerror}") from error
        try:
            said = given.encode("utf-8", "surrogateescape")
            output, complaint = communicate(process, said, limit=time_limit, whom=self.program)
        except subprocess.TimeoutExpired:
            raise self._failed(f"did not answer within {time_limit:g} seconds") from None
        finally:
            _end(process)
        # Some helpers of Windows answer in UTF-16, all but ASCII of which is lost here.
        return process.returncode, _text(output) or _text(complaint)

    def _check(self, action: str, code: int, output: str, secret: str = "") -> None:
        if code == 0:
            return
        words = re.sub(r"[\s\0-\x1f\x7f-\x9f]+", " ", output).strip()
        if _SECRET.search(output) or (secret and secret in output):
            words = ""
        words = words if len(words) <= _LONGEST else words[: _LONGEST - 3] + "..."
        raise self._failed(f"cannot {action} the login for {self._registry}: {words or f'exit code {code}'}")

    def _failed(self, what: str) -> CredentialHelperFailed:
        return CredentialHelperFailed(
            f"the credential helper {self.program} {what}",
            hint=f"see whether this works: {self.program} list; "
            f"or take it out of {self._place} and run: pusher login {self._registry}",
        )


def _text(output: bytes) -> str:
    return output.replace(b"\0", b"").decode("utf-8-sig", errors="replace")


def _end(process: subprocess.Popen[Any]) -> None:
    """Without waiting for children of it that hold its pipes open."""
    if process.poll() is None:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None and not stream.closed:
            stream.close()

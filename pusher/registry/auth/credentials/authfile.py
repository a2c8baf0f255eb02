"""Parse Docker's ``config.json``, Podman's ``auth.json`` and DOCKER_AUTH_CONFIG."""

from __future__ import annotations

import binascii
import codecs
import contextlib
import errno
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pusher.errors import CredentialsUnreadable
from pusher.oci.bounded_json import MAX_BYTES, load_json
from pusher.registry.auth.credentials.credential import Credential
from pusher.registry.auth.credentials.keys import find_entry

_HINT: Final = "fix or remove it, or push with --username and --password-stdin"
_IN_A_VARIABLE: Final = "DOCKER_AUTH_CONFIG"


class AuthFile:
    """A JSON object with ``auths``, and optionally the names of credential helpers.

    docker/cli ``cli/config/configfile/file.go``, containers-auth.json(5). The methods raise
    CredentialsUnreadable, which never quotes the content.
    """

    def __init__(self, content: dict[str, Any], place: str) -> None:
        self.content = content
        self.place = place
        """The path or variable, for messages."""
        self.auths = self._object("auths")
        """Entries by registry or namespace."""

    @classmethod
    def read(cls, path: Path) -> AuthFile:
        """Read a file; one that does not exist counts as empty."""
        try:
            data = _content(path)
        except (FileNotFoundError, NotADirectoryError):
            data = b""
        except OSError as error:
            raise _unreadable_error(str(path), error.strerror or "unknown error") from error
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: bytes, place: str) -> AuthFile:
        """Parse JSON from ``place``; no content is an empty object, as for Docker."""
        try:
            content = load_json(data.removeprefix(codecs.BOM_UTF8)) if data.strip() else {}
        except ValueError as error:
            # the original error and its traceback would quote the file
            raise _unreadable_error(place, str(error)) from None
        if not isinstance(content, dict):
            raise _unreadable_error(place, "it is not a JSON object")
        return cls(content, place)

    def credential(self, registry: str, repository: str = "") -> Credential | None:
        """Return the credential for a repository; None also for an entry whose secret a helper stores."""
        entry = find_entry(self.auths, registry, repository)
        if entry is None:
            return None
        if not isinstance(entry, dict):
            raise _unreadable_error(self.place, f"its entry for {registry} is not an object")
        username, password = self._login_of(entry, registry)
        identity, bearer = (self._text(entry, name, registry) for name in ("identitytoken", "registrytoken"))
        if not (identity or bearer or (username and password)):
            return None
        return Credential(username, password, self.place, identity or None, bearer or None)

    def helper_name(self, registry: str, *, for_all: bool = True) -> str | None:
        """Return the helper that stores the registry's login: ``credHelpers``, else (``for_all``)
        ``credsStore``.

        An empty name in ``credHelpers`` means the file itself, whatever ``credsStore`` is.
        """
        helpers = self._object("credHelpers")
        name = find_entry(helpers, registry)
        if name is None and for_all:
            name = self.content.get("credsStore")
        if name is not None and not isinstance(name, str):
            raise _unreadable_error(
                self.place, f"the name of its credential helper for {registry} is not text"
            )
        return name or None

    def _object(self, key: str) -> Mapping[str, Any]:
        value = self.content.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise _unreadable_error(self.place, f"its {key!r} is not an object")
        return value

    def _login_of(self, entry: Mapping[str, Any], registry: str) -> tuple[str, str]:
        """Return user name and password. ``auth`` wins: base64 of ``user:password``, split at the first
        colon, without trailing NULs."""
        if not entry.get("auth"):
            return self._text(entry, "username", registry), self._text(entry, "password", registry)
        username, colon, password = _decode(entry["auth"]).partition(":")
        if not colon:
            raise CredentialsUnreadable(
                f"the credentials in {self.place} cannot be read: "
                f"its entry for {registry} is not base64 of user:password",
                hint="put the output of `printf %s USER:PASSWORD | base64 -w0` there"
                if self.place == _IN_A_VARIABLE
                else f"store the login again: pusher login {registry}",
            )
        return username, password.rstrip("\0")

    def _text(self, entry: Mapping[str, Any], key: str, registry: str) -> str:
        value = entry.get(key) or ""
        if not isinstance(value, str):
            raise _unreadable_error(self.place, f"the {key!r} of its entry for {registry} is not text")
        return value


def _content(path: Path) -> bytes:
    """Read a file (or /dev/null). Raises OSError for a pipe, which would block."""
    if stat.S_ISFIFO(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is a pipe, not a file")
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _decode(auth: object) -> str:
    """Decode base64; return "" if it is invalid. Line breaks are allowed, as in Go's decoder that Docker and
    Podman use, and padding may be missing, as for Kubernetes and go-containerregistry."""
    if not isinstance(auth, str):
        return ""
    text = re.sub(r"[\r\n]", "", auth)
    with contextlib.suppress(binascii.Error, ValueError):
        padding = "" if "=" in text else "=" * (-len(text) % 4)
        data = binascii.a2b_base64(text + padding, strict_mode=True)
        return data.decode("utf-8", "surrogateescape")
    return ""


def _unreadable_error(place: str, why: str) -> CredentialsUnreadable:
    return CredentialsUnreadable(f"the credentials in {place} cannot be read: {why}", hint=_HINT)

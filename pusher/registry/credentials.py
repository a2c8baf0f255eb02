"""Where the credential for a registry comes from: what was given, else Docker's config file."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pusher.config import Settings
from pusher.errors import CredentialsUnreadable, PasswordMissing
from pusher.reference import canonical_registry


@dataclass(frozen=True)
class Credential:
    """A user name and password, and where they were found (an option, a variable, a file) for messages."""

    username: str
    password: str = field(repr=False)
    source: str


def find_credential(registry: str, settings: Settings, repository: str = "") -> Credential | None:
    """The credential for ``registry`` (``host[:port]``), or None: then the registry is asked without one.

    Raises PasswordMissing for a user name without password, CredentialsUnreadable for a broken file.
    """
    registry = canonical_registry(registry)
    if settings.username is not None and settings.login_registry in (None, registry):
        if not settings.password:
            raise PasswordMissing(
                f"there is no password for user {settings.username!r} at {registry}",
                hint="give it with --password-stdin or in PUSHER_PASSWORD",
            )
        return Credential(settings.username, settings.password, settings.login_source)
    if settings.docker_config is not None:
        return _from_docker_config(settings.docker_config, registry)
    return None


def _from_docker_config(path: Path, registry: str) -> Credential | None:
    """``auths`` of Docker's ``config.json`` (docker/cli ``cli/config/configfile/file.go``)."""
    config = _read(path)
    auths = config.get("auths") or {}
    if not isinstance(auths, dict):
        raise _unreadable(path, "its 'auths' is not an object")
    entry = _entry_of(auths, registry)
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise _unreadable(path, f"its entry for {registry} is not an object")
    username, password = _login_of(entry, path, registry)
    # Without a password there is only an identity token, or the secret is kept by a credential helper.
    return Credential(username, password, str(path)) if username and password else None


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise _unreadable(path, error.strerror or "unknown error") from error
    except ValueError:
        # The parser's message and its traceback would quote the file.
        raise _unreadable(path, "it is not JSON") from None
    if not isinstance(config, dict):
        raise _unreadable(path, "it is not a JSON object")
    return config


def _entry_of(auths: dict[str, Any], registry: str) -> Any:
    """Keys are hosts, or URLs as with Docker Hub (``https://index.docker.io/v1/``); a plain host wins."""
    if registry in auths:
        return auths[registry]
    for key, entry in auths.items():
        host = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
        if canonical_registry(host) == registry:
            return entry
    return None


def _login_of(entry: dict[str, Any], path: Path, registry: str) -> tuple[str, str]:
    """``auth`` is base64 of ``user:password``, cut at the first colon, trailing NULs dropped; it wins."""
    if not entry.get("auth"):
        return str(entry.get("username") or ""), str(entry.get("password") or "")
    try:
        decoded = base64.b64decode(entry["auth"], validate=True).decode()
    except (binascii.Error, ValueError, TypeError):
        raise _unreadable(path, f"its entry for {registry} is not base64 of user:password") from None
    username, colon, password = decoded.partition(":")
    if not colon:
        raise _unreadable(path, f"its entry for {registry} is not base64 of user:password")
    return username, password.rstrip("\0")


def _unreadable(path: Path, why: str) -> CredentialsUnreadable:
    return CredentialsUnreadable(
        f"the credentials in {path} cannot be read: {why}",
        hint="mend the file, or give --username with --password-stdin",
    )

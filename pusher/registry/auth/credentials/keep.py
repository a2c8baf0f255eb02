"""Keep a login where Docker would, and forget it there."""

from __future__ import annotations

import base64
import contextlib

from pusher.config import Settings
from pusher.errors import CredentialsUnwritable
from pusher.registry.auth.credentials.authfile import AuthFile
from pusher.registry.auth.credentials.helper import Helper
from pusher.registry.auth.credentials.keys import docker_key, keys_of
from pusher.registry.auth.credentials.rewrite import rewriting


class Keeper:
    """The place where Docker keeps the login for ``registry``: a helper, or its ``config.json``.

    Making one raises CredentialsUnreadable or CredentialHelperFailed where that place cannot be used.
    """

    def __init__(self, registry: str, settings: Settings) -> None:
        if settings.docker_config is None:
            raise CredentialsUnwritable(
                "there is no file in which a login could be stored", hint="set DOCKER_CONFIG to a folder"
            )
        self._registry = registry
        self._path = settings.docker_config
        name = AuthFile.read(self._path).helper(registry)
        self._helper = Helper(name, str(self._path), registry, docker_key(registry)) if name else None
        if self._helper is not None:
            self._helper.find()

    @property
    def in_the_open(self) -> bool:
        """Whether whoever may read the file can read the password."""
        return self._helper is None

    def store(self, username: str, password: str) -> str:
        """Keep the login in place of the one before; returns the helper's program or the file's path.

        Raises CredentialHelperFailed, CredentialsUnreadable, CredentialsUnwritable.
        """
        if self._helper is None:
            auth = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
            self._write({"auth": auth})
            return str(self._path)
        self._helper.store(username, password)
        # Docker notes in the file with an empty entry that the helper has it. It works without, unless an
        # older password stands there.
        outdated = any(self._entries())
        with contextlib.nullcontext() if outdated else contextlib.suppress(CredentialsUnwritable):
            self._write({})
        return self._helper.program

    def forget(self) -> list[str]:
        """Remove the login wherever ``store`` may have put it; returns the places that had one.

        Raises CredentialHelperFailed, CredentialsUnreadable, CredentialsUnwritable.
        """
        places = []
        if self._helper is not None and self._helper.get() is not None:
            self._helper.erase()
            places.append(self._helper.program)
        entries = self._entries()
        if entries:
            with rewriting(self._path) as content:
                for key in keys_of(content["auths"], self._registry):
                    del content["auths"][key]
        if any(entries):
            places.append(str(self._path))
        return places

    def _entries(self) -> list[object]:
        auths = AuthFile.read(self._path).auths
        return [auths[key] for key in keys_of(auths, self._registry)]

    def _write(self, entry: dict[str, str]) -> None:
        with rewriting(self._path) as content:
            content["auths"] = {**(content.get("auths") or {}), docker_key(self._registry): entry}

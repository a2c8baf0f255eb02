"""Store and remove a login in Docker's configuration or helper."""

from __future__ import annotations

import base64
import contextlib

from pusher.config import Settings
from pusher.errors import CredentialsUnwritable
from pusher.registry.auth.credentials.authfile import AuthFile
from pusher.registry.auth.credentials.helper import CredentialHelper
from pusher.registry.auth.credentials.keys import docker_key, matching_keys
from pusher.registry.auth.credentials.rewrite import rewrite_auth_file


class LoginStore:
    """Where Docker stores the login for ``registry``: a helper, or its ``config.json``.

    The constructor raises CredentialsUnreadable or CredentialHelperFailed if that cannot be used.
    """

    def __init__(self, registry: str, settings: Settings) -> None:
        if settings.docker_config is None:
            raise CredentialsUnwritable(
                "there is no file in which a login could be stored", hint="set DOCKER_CONFIG to a folder"
            )
        self._registry = registry
        self._path = settings.docker_config
        name = AuthFile.read(self._path).helper_name(registry)
        self._helper = (
            CredentialHelper(name, str(self._path), registry, docker_key(registry)) if name else None
        )
        if self._helper is not None:
            self._helper.find()

    @property
    def is_plain_text(self) -> bool:
        """Return whether the password is stored unencrypted in the file."""
        return self._helper is None

    def store(self, username: str, password: str) -> str:
        """Store the login in place of the one before; return the helper's program or the file's path.

        Raises CredentialHelperFailed, CredentialsUnreadable, CredentialsUnwritable.
        """
        if self._helper is None:
            auth = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
            self._write({"auth": auth})
            return str(self._path)
        self._helper.store(username, password)
        # Docker marks in the file, by an empty entry, that the helper has it. That is optional, unless the
        # file has an older password.
        outdated = any(self._entries())
        with contextlib.nullcontext() if outdated else contextlib.suppress(CredentialsUnwritable):
            self._write({})
        return self._helper.program

    def forget(self) -> list[str]:
        """Remove the login from all places that ``store`` may use; return the places that had one.

        Raises CredentialHelperFailed, CredentialsUnreadable, CredentialsUnwritable.
        """
        places = []
        if self._helper is not None and self._helper.get() is not None:
            self._helper.erase()
            places.append(self._helper.program)
        entries = self._entries()
        if entries:
            with rewrite_auth_file(self._path) as content:
                for key in matching_keys(content["auths"], self._registry):
                    del content["auths"][key]
        if any(entries):
            places.append(str(self._path))
        return places

    def _entries(self) -> list[object]:
        auths = AuthFile.read(self._path).auths
        return [auths[key] for key in matching_keys(auths, self._registry)]

    def _write(self, entry: dict[str, str]) -> None:
        with rewrite_auth_file(self._path) as content:
            content["auths"] = {**(content.get("auths") or {}), docker_key(self._registry): entry}

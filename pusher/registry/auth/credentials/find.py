"""Look up credentials in their order of precedence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pusher.config import Settings
from pusher.errors import CredentialHelperFailed, CredentialsUnreadable, PasswordMissing, PusherError
from pusher.reference import canonical_registry
from pusher.registry.auth.credentials.authfile import AuthFile
from pusher.registry.auth.credentials.credential import Credential
from pusher.registry.auth.credentials.helper import CredentialHelper
from pusher.registry.auth.credentials.keys import docker_key
from pusher.secret import raw

_Lookup = Callable[[], Credential | None]


def _refuse(problem: PusherError) -> None:
    raise problem


def find_credential(
    registry: str,
    settings: Settings,
    repository: str = "",
    *,
    on_problem: Callable[[PusherError], None] = _refuse,
) -> Credential | None:
    """Return the credential for a repository of ``registry`` (``host[:port]``), or None if there is none.

    The order: flags and PUSHER_*, DOCKER_AUTH_CONFIG, helpers of Docker's config.json, its ``auths``,
    Podman's files; or ``auth_file`` alone. ``on_problem`` is called with the error of an unusable file or
    helper, and the search continues, as in Docker; by default it ends there.

    Raises PasswordMissing for a user name without password; without ``on_problem`` CredentialsUnreadable and
    CredentialHelperFailed.
    """
    registry = canonical_registry(registry)
    if settings.username is not None and settings.login_registry == registry:
        if not settings.password:
            raise PasswordMissing(
                f"there is no password for user {settings.username!r} at {registry}",
                hint="give it with --password-stdin or in PUSHER_PASSWORD",
            )
        return Credential(settings.username, settings.password, settings.login_source)
    reported = set()
    for lookup in _lookups(registry, settings, repository):
        try:
            if found := lookup():
                return found
        except (CredentialsUnreadable, CredentialHelperFailed) as error:
            if error.message not in reported:  # two lookups read the same file
                on_problem(error)
            reported.add(error.message)
    return None


def _lookups(registry: str, settings: Settings, repository: str) -> Iterator[_Lookup]:
    """Yield the lookups in order; an error ends only the lookup that raises it."""
    if (only := settings.at(registry).auth_file) is not None:
        yield partial(_from_helper, only, registry, registry, for_all=False)
        yield partial(_from_file, only, registry, repository)
        return
    yield partial(_from_environment, registry, settings, repository)
    if (docker := settings.docker_config) is not None:
        yield partial(_from_helper, docker, registry, docker_key(registry))
        yield partial(_from_file, docker, registry, repository)
    for path in settings.auth_files:
        # a file's helper precedes its entries (containers/image pkg/docker/config)
        yield partial(_from_helper, path, registry, registry, for_all=False)
        yield partial(_from_file, path, registry, repository)


def _from_environment(registry: str, settings: Settings, repository: str) -> Credential | None:
    if not settings.docker_auth_config:
        return None
    file = AuthFile.parse(raw(settings.docker_auth_config), "DOCKER_AUTH_CONFIG")
    return file.credential(registry, repository)


def _from_helper(path: Path, registry: str, server: str, *, for_all: bool = True) -> Credential | None:
    file = AuthFile.read(path)
    name = file.helper_name(registry, for_all=for_all)
    return CredentialHelper(name, file.place, registry, server).get() if name else None


def _from_file(path: Path, registry: str, repository: str) -> Credential | None:
    return AuthFile.read(path).credential(registry, repository)

"""The order in which credentials are looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pusher.config import Settings
from pusher.errors import CredentialHelperFailed, CredentialsUnreadable, PasswordMissing, PusherError
from pusher.reference import canonical_registry
from pusher.registry.auth.credentials.authfile import AuthFile
from pusher.registry.auth.credentials.credential import Credential
from pusher.registry.auth.credentials.helper import Helper
from pusher.registry.auth.credentials.keys import docker_key
from pusher.secret import raw

_Look = Callable[[], Credential | None]


def _refuse(problem: PusherError) -> None:
    raise problem


def find_credential(
    registry: str,
    settings: Settings,
    repository: str = "",
    *,
    on_problem: Callable[[PusherError], None] = _refuse,
) -> Credential | None:
    """The credential for work on a repository of ``registry`` (``host[:port]``), or None: then without one.

    Flags and PUSHER_*, DOCKER_AUTH_CONFIG, helpers of Docker's config.json, its ``auths``, Podman's files.
    ``on_problem`` is told of a file or a helper that cannot be used, and the search goes on, as Docker's
    does; without it, it ends there.

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
    told = set()
    for look in _places(registry, settings, repository):
        try:
            if found := look():
                return found
        except (CredentialsUnreadable, CredentialHelperFailed) as error:
            if error.message not in told:  # a broken file has no helper and no entry
                on_problem(error)
            told.add(error.message)
    return None


def _places(registry: str, settings: Settings, repository: str) -> Iterator[_Look]:
    """One look after the other, in the order in which they count; what a look raises ends that one alone."""
    yield partial(_in_environment, registry, settings, repository)
    if (docker := settings.docker_config) is not None:
        yield partial(_of_helper, docker, registry, docker_key(registry))
        yield partial(_of_file, docker, registry, repository)
    for path in settings.auth_files:
        # a file's helper is asked before its entries (containers/image pkg/docker/config)
        yield partial(_of_helper, path, registry, registry, for_all=False)
        yield partial(_of_file, path, registry, repository)


def _in_environment(registry: str, settings: Settings, repository: str) -> Credential | None:
    if not settings.docker_auth_config:
        return None
    file = AuthFile.parse(raw(settings.docker_auth_config), "DOCKER_AUTH_CONFIG")
    return file.credential(registry, repository)


def _of_helper(path: Path, registry: str, server: str, *, for_all: bool = True) -> Credential | None:
    file = AuthFile.read(path)
    name = file.helper(registry, for_all=for_all)
    return Helper(name, file.place, registry, server).get() if name else None


def _of_file(path: Path, registry: str, repository: str) -> Credential | None:
    return AuthFile.read(path).credential(registry, repository)

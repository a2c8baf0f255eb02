"""The order in which credentials are looked for."""

from __future__ import annotations

from pusher.config import Settings
from pusher.errors import PasswordMissing
from pusher.reference import canonical_registry
from pusher.registry.credentials.authfile import AuthFile
from pusher.registry.credentials.credential import Credential
from pusher.registry.credentials.helper import Helper
from pusher.registry.credentials.keys import docker_key


def find_credential(registry: str, settings: Settings, repository: str = "") -> Credential | None:
    """The credential for work on a repository of ``registry`` (``host[:port]``), or None: then without one.

    Flags and PUSHER_*, DOCKER_AUTH_CONFIG, helpers of Docker's config.json, its ``auths``, Podman's files.

    Raises PasswordMissing for a user name without password, CredentialsUnreadable for a broken file,
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
    return (
        _in_environment(registry, settings, repository)
        or _in_docker(registry, settings, repository)
        or _in_podman(registry, settings, repository)
    )


def _in_environment(registry: str, settings: Settings, repository: str) -> Credential | None:
    if not settings.docker_auth_config:
        return None
    file = AuthFile.parse(settings.docker_auth_config, "DOCKER_AUTH_CONFIG")
    return file.credential(registry, repository)


def _in_docker(registry: str, settings: Settings, repository: str) -> Credential | None:
    if settings.docker_config is None:
        return None
    file = AuthFile.read(settings.docker_config)
    name = file.helper(registry)
    found = Helper(name, file.place, registry, docker_key(registry)).get() if name else None
    return found or file.credential(registry, repository)


def _in_podman(registry: str, settings: Settings, repository: str) -> Credential | None:
    """A file's helper is asked before its entries (containers/image ``pkg/docker/config``)."""
    for path in settings.auth_files:
        file = AuthFile.read(path)
        name = file.helper(registry, for_all=False)
        found = Helper(name, file.place, registry, registry).get() if name else None
        if found or (found := file.credential(registry, repository)):
            return found
    return None

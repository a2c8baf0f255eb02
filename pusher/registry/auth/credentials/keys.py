"""The names under which registries stand in files of Docker and Podman."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from pusher.reference import DOCKER_HUB, canonical_registry

T = TypeVar("T")

_DOCKER_HUB_KEY: Final = "https://index.docker.io/v1/"
_NO_NAMESPACE: Final = frozenset({"", "v1", "v1/", "v2", "v2/"})


def docker_key(registry: str) -> str:
    """The name under which Docker stores a registry's login and asks a helper for it."""
    return _DOCKER_HUB_KEY if registry == DOCKER_HUB else registry


def keys_of(keys: Iterable[str], registry: str) -> list[str]:
    """Those of ``keys`` that mean the whole registry, the one that counts first."""
    meant = [key for key in keys if _meaning(key) == registry]
    # What Docker writes today, then a plain host, then a URL as old versions of Docker wrote it.
    return sorted(meant, key=lambda key: (key != docker_key(registry), "://" in key))


def entry_of(entries: Mapping[str, T], registry: str, repository: str = "") -> T | None:
    """The entry for a repository: the longest namespace wins (containers-auth.json(5)), then the host's."""
    path = repository
    while path:
        for key, entry in entries.items():
            if _meaning(key) == f"{registry}/{path}":
                return entry
        path = path.rpartition("/")[0]
    return next((entries[key] for key in keys_of(entries, registry)), None)


def _meaning(key: str) -> str:
    """``host[:port]``, or ``host[:port]/namespace``; a URL means its host, whatever its path."""
    _, is_url, rest = key.rpartition("://")
    host, _, path = rest.partition("/")
    if is_url or path in _NO_NAMESPACE:
        return canonical_registry(host)
    return f"{canonical_registry(host)}/{path}"

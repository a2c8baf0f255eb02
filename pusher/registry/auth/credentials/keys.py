"""Compute the keys of registries in files of Docker and Podman."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from pusher.reference import DOCKER_HUB, canonical_registry

T = TypeVar("T")

_DOCKER_HUB_KEY: Final = "https://index.docker.io/v1/"
_NO_NAMESPACE: Final = frozenset({"", "v1", "v1/", "v2", "v2/"})


def docker_key(registry: str) -> str:
    """Return the name under which Docker stores a registry's login, and asks a helper for it."""
    return _DOCKER_HUB_KEY if registry == DOCKER_HUB else registry


def matching_keys(keys: Iterable[str], registry: str) -> list[str]:
    """Return the keys of a whole registry, by precedence."""
    meant = [key for key in keys if _normalize(key) == registry]
    # what Docker writes today, then a plain host, then a URL as old versions of Docker wrote it
    return sorted(meant, key=lambda key: (key != docker_key(registry), "://" in key))


def find_entry(entries: Mapping[str, T], registry: str, repository: str = "") -> T | None:
    """Return the entry of the longest namespace of a repository (containers-auth.json(5)), else the host."""
    path = repository
    while path:
        for key, entry in entries.items():
            if _normalize(key) == f"{registry}/{path}":
                return entry
        path = path.rpartition("/")[0]
    return next((entries[key] for key in matching_keys(entries, registry)), None)


def _normalize(key: str) -> str:
    """Return ``host[:port]`` or ``host[:port]/namespace``; a URL means its host, whatever its path."""
    _, is_url, rest = key.rpartition("://")
    host, _, path = rest.partition("/")
    if is_url or path in _NO_NAMESPACE:
        return canonical_registry(host)
    return f"{canonical_registry(host)}/{path}"

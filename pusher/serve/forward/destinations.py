"""Map the name that a client uses to the destination repository."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import ReferenceMalformed
from pusher.reference import Reference, RegistryPath, names_registry
from pusher.serve.errors import ApiError

_WITH_PORT: Final = re.compile(r"(.+)_([0-9]{1,5})")
"""A colon cannot stand in a repository's name."""


@dataclass(frozen=True)
class Repository:
    """A repository of a registry (``host[:port]``)."""

    registry: str
    path: str


@dataclass(frozen=True)
class Destinations:
    """The destinations of names: below one place, or the registry in a name's first part."""

    to: RegistryPath | None
    port: int
    """At which pusher serve listens itself."""
    aliases: Mapping[str, RegistryPath] = field(default_factory=dict)
    """Places by the first parts of names, which they replace."""

    def of(self, name: str) -> Repository:
        """Return the repository of ``name``. Raises ApiError NAME_UNKNOWN if there is none:
        after NAME_INVALID docker push retries for a minute before it shows the message."""
        try:
            found = Reference.parse(f"{self.to}/{name}" if self.to else self._with_registry(name))
        except ReferenceMalformed as error:
            raise ApiError(404, "NAME_UNKNOWN", f"{error.message}; {error.hint}") from error
        if found.registry in (f"localhost:{self.port}", f"127.0.0.1:{self.port}"):
            raise ApiError(404, "NAME_UNKNOWN", f"{found.registry} is this pusher serve itself")
        return Repository(found.registry, found.repository)

    def _with_registry(self, name: str) -> str:
        first, slash, rest = name.partition("/")
        if (place := self.aliases.get(first)) is not None:
            return f"{place}/{rest}"
        if port := _WITH_PORT.fullmatch(first):
            first = f"{port[1]}:{port[2]}"
        if not names_registry(f"{first}{slash}{rest}"):
            raise ApiError(
                404,
                "NAME_UNKNOWN",
                f"{first} is not a registry: push to localhost:{self.port}/registry.example.com/{name}, with "
                "the registry as the first part of the name (registry.example.com_5000 if it has a port), "
                "name it below [serve.registries] in pusher.toml, or start pusher serve with --to",
            )
        return f"{first}/{rest}"

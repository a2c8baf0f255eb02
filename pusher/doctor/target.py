"""What is to be examined: an image on its way to a registry, a registry, or this machine alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pusher.errors import ReferenceMalformed
from pusher.reference import Place, api_host, is_loopback
from pusher.sources import select
from pusher.sources.archive.stream import is_stream
from pusher.sources.registry.names import PREFIX
from pusher.worker.destination import Destination, resolve

_HOST: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?")


class Kind(Enum):
    """How the argument is read."""

    MACHINE = "this machine"
    REGISTRY = "a registry"
    REPOSITORY = "a repository"
    IMAGE = "an image"
    FILE = "an image in a file or folder"
    PIPE = "an image from a pipe"
    REMOTE = "an image in a registry"


@dataclass(frozen=True)
class RegistryTarget:
    """Where a push would go: ``host[:port]``, and what is known of the rest."""

    registry: str
    repository: str = ""
    tag: str = ""

    def __str__(self) -> str:
        path = f"/{self.repository}" if self.repository else ""
        return f"{self.registry}{path}" + (f":{self.tag}" if self.tag else "")


@dataclass(frozen=True)
class Target:
    """The argument, with the --to option and the default registry that complete it."""

    kind: Kind
    text: str = ""
    to: str | None = None
    default: str | None = None

    @property
    def has_image(self) -> bool:
        """Whether there is an image to look for."""
        return self.kind in (Kind.IMAGE, Kind.FILE, Kind.PIPE, Kind.REMOTE)

    @property
    def named_by_file(self) -> bool:
        """Whether the name that a file or folder gives its image makes the destination, or a part of it."""
        if self.kind is not Kind.FILE:
            return False
        try:
            return self.resolved.needs_name
        except ReferenceMalformed:
            return False

    @property
    def resolved(self) -> Destination:
        """Where the image would be pushed. Raises ReferenceMalformed, InvalidOption."""
        return resolve(self.text, self.to, self.default, command="doctor")

    def destination(self, own_name: str | None) -> RegistryTarget:
        """``own_name`` is the one that a file or folder gives its image.

        Raises ReferenceMalformed, InvalidOption.
        """
        if not self.has_image:
            place = Place.parse(self.text)
            return RegistryTarget(place.registry, place.namespace)
        found = self.resolved.named(own_name if self.kind in (Kind.FILE, Kind.PIPE) else self._typed_name())
        return RegistryTarget(found.registry, found.repository, found.tag or "")

    def _typed_name(self) -> str | None:
        if self.kind is Kind.IMAGE and "://" in self.text:
            return self.text  # refused as a reference: here a registry's address is more likely than a file's
        return select.own_name(self.text)


def read_target(text: str | None, *, to: str | None = None, default: str | None = None) -> Target:
    """Tell an image from a registry.

    With ``to``, and for a file or folder, it is an image. ``host``, ``host:port`` and either with a slash at
    the end are a registry, where ``host`` has a dot, is ``localhost`` or an IPv6 address in brackets; with a
    path and neither tag nor digest it is a repository there. Everything else is an image, by its name.
    """
    if text is None:
        return Target(Kind.MACHINE, default=default)
    if text.startswith(PREFIX):
        return Target(Kind.REMOTE, text, to, default)
    if is_stream(text):
        return Target(Kind.PIPE, text, to, default)
    if select.is_file(text):
        return Target(Kind.FILE, text, to, default)
    first, slash, path = text.partition("/")
    if to is None and _is_registry(first, sure=bool(slash)):
        if not path:
            return Target(Kind.REGISTRY, text)
        if ":" not in path and "@" not in path:
            return Target(Kind.REPOSITORY, text)
    return Target(Kind.IMAGE, text, to, default)


def base_url(registry: str, *, plain_http: bool) -> str:
    """Where the distribution API is asked for first: on this machine without TLS."""
    scheme = "http" if plain_http or is_loopback(registry) else "https"
    return f"{scheme}://{api_host(registry)}/v2/"


def _is_registry(host: str, *, sure: bool) -> bool:
    """Whether the part before the first slash is a host; ``sure``: there is a slash, as after a host."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name, port = found.groups()
    return name.lower() == "localhost" or name.startswith("[") or "." in name or (sure and bool(port))

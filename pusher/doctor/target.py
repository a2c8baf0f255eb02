"""What is to be examined: an image on its way to a registry, a registry, or this machine alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pusher import reference
from pusher.errors import InvalidOption, ReferenceMalformed
from pusher.reference import Place, api_host, is_loopback
from pusher.sources.engine.command import ENGINES
from pusher.sources.engine.disk.source import STORAGES
from pusher.sources.image_names import is_image_id
from pusher.sources.select import is_file
from pusher.text import suggest
from pusher.worker.sources import PREFIX, check_elsewhere

_HOST: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?")


class Kind(Enum):
    """How the argument is read."""

    MACHINE = "this machine"
    REGISTRY = "a registry"
    REPOSITORY = "a repository"
    IMAGE = "an image"
    FILE = "an image in a file or folder"
    REMOTE = "an image in a registry"


@dataclass(frozen=True)
class Destination:
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
        return self.kind in (Kind.IMAGE, Kind.FILE, Kind.REMOTE)

    @property
    def named_by_file(self) -> bool:
        """Whether the name that a file or folder gives its image makes the destination, or a part of it."""
        if self.kind is not Kind.FILE:
            return False
        try:
            return reference.destination(None, to=self.to, default=self.default) is None
        except ReferenceMalformed:
            return False

    def destination(self, own_name: str | None) -> Destination:
        """``own_name`` is the one that a file or folder gives its image.

        Raises ReferenceMalformed, InvalidOption.
        """
        if not self.has_image:
            place = Place.parse(self.text)
            return Destination(place.registry, place.namespace)
        if self.kind is Kind.REMOTE:
            check_elsewhere(self.text, self.to, self.default)
        name = own_name if self.kind is Kind.FILE else _name_in(self.text)
        found = reference.destination(name, to=self.to, default=self.default)
        if found is None:
            where = (self.to or self.default or "registry.example.com/team").removesuffix("/")
            raise InvalidOption(
                f"{self.text} has no name of its own to push it under",
                hint=suggest("pusher doctor {} --to {}", self.text, f"{where}/app:1.2"),
            )
        if found.tag is None or found.digest is not None:
            raise ReferenceMalformed(
                f"{found} ends in a digest, and an image is pushed to a tag",
                hint=f"leave out @{found.digest}",
            )
        return Destination(found.registry, found.repository, found.tag)


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
    if is_file(text):
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


def _name_in(image: str) -> str | None:
    """The name that an image in an engine or its storage is asked for by; None for an image ID."""
    prefix, _, rest = image.removeprefix(PREFIX).partition(":")
    name = rest if prefix in ENGINES or prefix in STORAGES else image.removeprefix(PREFIX)
    if prefix in STORAGES:
        name = name.rpartition("]")[2]  # [driver@root]NAME
    return None if is_image_id(name) else name


def _is_registry(host: str, *, sure: bool) -> bool:
    """Whether the part before the first slash is a host; ``sure``: there is a slash, as after a host."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name, port = found.groups()
    return name.lower() == "localhost" or name.startswith("[") or "." in name or (sure and bool(port))

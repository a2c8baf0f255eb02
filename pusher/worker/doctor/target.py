"""What is to be examined: an image on its way to a registry, a registry, or this machine alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pusher import reference
from pusher.errors import InvalidOption, ReferenceMalformed
from pusher.reference import Place, api_host, is_loopback
from pusher.sources.archive import KIND as ARCHIVE
from pusher.sources.engine_cli import ENGINES
from pusher.sources.names import is_image_id
from pusher.sources.select import is_path

_HOST: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?")


class Kind(Enum):
    """How the argument is read."""

    MACHINE = "this machine"
    REGISTRY = "a registry"
    REPOSITORY = "a repository"
    IMAGE = "an image"
    ARCHIVE = "an image archive"


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
        return self.kind in (Kind.IMAGE, Kind.ARCHIVE)

    @property
    def named_by_archive(self) -> bool:
        """Whether the archive's own name makes the destination, or a part of it."""
        if self.kind is not Kind.ARCHIVE:
            return False
        try:
            return reference.destination(None, to=self.to, default=self.default) is None
        except ReferenceMalformed:
            return False

    def destination(self, own_name: str | None) -> Destination:
        """``own_name`` is the one that an archive gives its image.

        Raises ReferenceMalformed, InvalidOption.
        """
        if not self.has_image:
            place = Place.parse(self.text)
            return Destination(place.registry, place.namespace)
        name = own_name if self.kind is Kind.ARCHIVE else _name_in(self.text)
        found = reference.destination(name, to=self.to, default=self.default)
        if found is None:
            where = (self.to or self.default or "registry.example.com/team").removesuffix("/")
            raise InvalidOption(
                f"{self.text} has no name of its own to push it under",
                hint=f"pusher doctor {self.text} --to {where}/app:1.2",
            )
        if found.tag is None or found.digest is not None:
            raise ReferenceMalformed(
                f"{found} ends in a digest, and an image is pushed to a tag",
                hint=f"leave out @{found.digest}",
            )
        return Destination(found.registry, found.repository, found.tag)


def read_target(text: str | None, *, to: str | None = None, default: str | None = None) -> Target:
    """Tell an image from a registry.

    With ``to``, and for an archive, it is an image. ``host``, ``host:port`` and either with a slash at the
    end are a registry, where ``host`` has a dot, is ``localhost`` or an IPv6 address in brackets; with a path
    and neither tag nor digest it is a repository there. Everything else is an image, by its name.
    """
    if text is None:
        return Target(Kind.MACHINE, default=default)
    if text.startswith(f"{ARCHIVE}:") or is_path(text):
        return Target(Kind.ARCHIVE, text, to, default)
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
    """The name that an image in Docker or Podman is asked for by; None for an image ID."""
    prefix, _, rest = image.partition(":")
    name = rest if prefix in ENGINES else image
    return None if is_image_id(name) else name


def _is_registry(host: str, *, sure: bool) -> bool:
    """Whether the part before the first slash is a host; ``sure``: there is a slash, as after a host."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name, port = found.groups()
    return name.lower() == "localhost" or name.startswith("[") or "." in name or (sure and bool(port))

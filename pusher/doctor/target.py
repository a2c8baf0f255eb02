"""Resolve the target of the checks: an image and its destination, a registry, or only this machine."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import ReferenceMalformed
from pusher.reference import RegistryPath, api_host, api_schemes
from pusher.sources import image_grammar, select
from pusher.sources.archive.stream import is_stream
from pusher.sources.registry.names import PREFIX
from pusher.worker.destination import Destination, resolve

_HOST: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?")


class TargetKind(Enum):
    """How the argument is parsed."""

    MACHINE = "this machine"
    REGISTRY = "a registry"
    REPOSITORY = "a repository"
    IMAGE = "an image"
    FILE = "an image in a file or folder"
    PIPE = "an image from a pipe"
    REMOTE = "an image in a registry"


@dataclass(frozen=True)
class RegistryTarget:
    """The destination of a push: ``host[:port]``, and the rest if it is known."""

    registry: str
    repository: str = ""
    tag: str = ""

    def __str__(self) -> str:
        path = f"/{self.repository}" if self.repository else ""
        return f"{self.registry}{path}" + (f":{self.tag}" if self.tag else "")


@dataclass(frozen=True)
class Target:
    """The argument, with the --to option and the default registry that complete it."""

    kind: TargetKind
    text: str = ""
    to: str | None = None
    default: str | None = None

    @property
    def has_image(self) -> bool:
        """Return whether there is an image to look for."""
        return self.kind in (TargetKind.IMAGE, TargetKind.FILE, TargetKind.PIPE, TargetKind.REMOTE)

    @property
    def needs_file_name(self) -> bool:
        """Return whether the name in a file or folder is the destination, or a part of it."""
        if self.kind is not TargetKind.FILE:
            return False
        try:
            return self.resolve().needs_name
        except ReferenceMalformed:
            return False

    def resolve(self) -> Destination:
        """Return the destination of the image. Raises ReferenceMalformed, InvalidOption."""
        return resolve(self.text, self.to, self.default, command="doctor")

    def destination(self, own_name: str | None) -> RegistryTarget:
        """Return the destination of a push. ``own_name``: the image's name in a file or folder.

        Raises ReferenceMalformed, InvalidOption.
        """
        if not self.has_image:
            place = RegistryPath.parse(self.text)
            return RegistryTarget(place.registry, place.namespace)
        found = self.resolve().complete(
            own_name if self.kind in (TargetKind.FILE, TargetKind.PIPE) else self._find_name()
        )
        return RegistryTarget(found.registry, found.repository, found.tag or "")

    def _find_name(self) -> str | None:
        if self.kind is TargetKind.IMAGE and "://" in self.text:
            return self.text  # refused as a reference: a registry's address is more likely than a file's
        return select.own_name(self.text)


def parse_target(text: str | None, *, to: str | None = None, default: str | None = None) -> Target:
    """Read the argument: an image or a registry.

    With ``to``, and for a file or folder, it is an image. ``host``, ``host:port`` and either with a slash at
    the end are a registry, where ``host`` has a dot, is ``localhost`` or an IPv6 address in brackets; with a
    path and neither tag nor digest it is a repository there. Everything else is an image, by its name.
    """
    if text is None:
        return Target(TargetKind.MACHINE, default=default)
    if text.startswith(PREFIX):
        return Target(TargetKind.REMOTE, text, to, default)
    if is_stream(text):
        return Target(TargetKind.PIPE, text, to, default)
    if image_grammar.is_file(text):
        return Target(TargetKind.FILE, text, to, default)
    first, slash, path = text.partition("/")
    if to is None and _is_registry(first, sure=bool(slash)):
        if not path:
            return Target(TargetKind.REGISTRY, text)
        if ":" not in path and "@" not in path:
            return Target(TargetKind.REPOSITORY, text)
    return Target(TargetKind.IMAGE, text, to, default)


def api_url(registry: str, *, plain_http: bool) -> str:
    """Return the first address of the distribution API to try: on this machine without TLS."""
    return f"{api_schemes(registry, plain_http=plain_http)[0]}://{api_host(registry)}/v2/"


def _is_registry(host: str, *, sure: bool) -> bool:
    """Return whether the part before the first slash is a host; ``sure``: there is a slash after it."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name, port = found.groups()
    return name.lower() == "localhost" or name.startswith("[") or "." in name or (sure and bool(port))

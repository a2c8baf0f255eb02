"""Resolve where an image is pushed, from IMAGE, ``--to`` and the setting ``registry``."""

from __future__ import annotations

from typing import Final

from pusher import reference
from pusher.dataclass import dataclass
from pusher.errors import InvalidOption, ReferenceMalformed
from pusher.reference import Reference, RegistryPath
from pusher.sources.registry.names import PREFIX, read_reference
from pusher.sources.select import own_name
from pusher.text import suggest

_EXAMPLE: Final = "registry.example.com/team"


@dataclass(frozen=True)
class Destination:
    """Where IMAGE is pushed; without its own name until the image is found."""

    image: str
    to: str | None
    """The value of ``--to``; None: the image's own name is the destination."""
    default: str | None
    """The setting ``registry``, for names without a registry of their own."""
    command: str
    """The command that was typed, for hints."""
    parsed_to: Reference | RegistryPath | None
    tag: str | None = None
    """The value of ``--tag``, which replaces the tag of the image's own name."""

    @property
    def needs_name(self) -> bool:
        """Return whether the image's own name is the destination or a part of it."""
        return not isinstance(self.parsed_to, Reference)

    def registry(self) -> str:
        """Return the ``host[:port]``, if need be from the image's own name.

        May open a file; contacts no engine and no registry. Raises the errors of ``complete`` and
        ``Source.own_name``.
        """
        return self.parsed_to.registry if self.parsed_to else self.complete(own_name(self.image)).registry

    def complete(self, name: str | None) -> Reference:
        """Return the destination of the image with this name; None: it has no name.

        Raises InvalidOption if a name is needed, and ReferenceMalformed.
        """
        found = reference.destination(name, to=self.to, default=self.default)
        if found is not None and self.tag is not None:
            found = found.with_tag(self.tag)
        if found is None:
            place = (self.to or self.default or _EXAMPLE).removesuffix("/")
            raise InvalidOption(
                f"{self.image} has no name to be pushed as",
                hint=suggest(f"pusher {self.command} {{}} --to {{}}", self.image, f"{place}/app:1.2"),
            )
        _check_tag(found)
        return found


def resolve(
    image: str, to: str | None, default: str | None, *, tag: str | None = None, command: str = "push"
) -> Destination:
    """Read ``to``, as ``reference.parse_to`` does, and check that IMAGE can be pushed there under ``tag``.

    Raises ReferenceMalformed; InvalidOption for an image in a registry without another destination, and for
    a tag in ``to`` beside ``tag``.
    """
    parsed_to = reference.parse_to(to, default)
    if tag is not None:
        reference.check_tag(tag)
    if isinstance(parsed_to, Reference):
        if tag is not None and reference.has_tag(str(to)):
            raise InvalidOption(
                f"{to} has a tag, and --tag {tag} is another",
                hint=suggest("leave out one of them: --to {} --tag {}", parsed_to.name, tag),
            )
        _check_tag(parsed_to)
    if image.startswith(PREFIX):
        source = read_reference(image)
        if parsed_to is None and tag is None:
            where = (default or _EXAMPLE).removesuffix("/")
            name = f"{source.repository.rpartition('/')[2]}:{source.tag or '1.2'}"
            raise InvalidOption(
                f"{image} is already in a registry, and no destination is given",
                hint=suggest(f"pusher {command} {{}} --to {{}}", image, f"{where}/{name}"),
            )
    return Destination(image, to, default, command, parsed_to, tag)


def _check_tag(found: Reference) -> None:
    if found.digest is not None:
        raise ReferenceMalformed(
            f"{found.name}@{found.digest} ends in a digest, and an image is pushed to a tag",
            hint=f"leave out @{found.digest}",
        )

"""Where an image may be found: on this machine, or in a registry, for which the worker joins the parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from pusher import reference, sources
from pusher.config import Settings
from pusher.errors import CredentialsMissing, InvalidOption
from pusher.reference import Reference
from pusher.sources.base import EVERYTHING, Choice, Source
from pusher.sources.registry.source import PREFIX, RegistrySource, without_login
from pusher.store.store import Store
from pusher.text import suggest
from pusher.worker.registries import Registries

__all__ = ["PREFIX", "check_elsewhere", "found"]


@contextmanager
def found(
    image: str,
    choice: Choice = EVERYTHING,
    *,
    store: Store | None,
    settings: Settings,
    to: str | None,
    default: str | None,
) -> Iterator[tuple[Source, str | None]]:
    """The source that IMAGE names, and the image's own name; good until the context ends.

    ``to`` and ``default`` are where it is to go, as ``reference.destination`` takes them. Raises what
    ``sources.find`` raises, InvalidOption for an image in a registry that is to go nowhere else.
    """
    if not image.startswith(PREFIX):
        yield sources.find(image, choice)
        return
    place = check_elsewhere(image, to, default)
    destination = reference.destination("app", to=to, default=default)
    if settings.login_registry is None and settings.password is not None and destination is not None:
        settings = replace(settings, login_registry=settings.holder_of_login({destination.registry}))
    with closing(Registries(store, settings)) as registries:
        source = RegistrySource(place, lambda *name: registries.get(*name).client, choice)
        try:
            yield source, source.own_name()
        except CredentialsMissing as error:
            other = None if destination is None else destination.registry
            raise without_login(error, place.registry, other) from error


def check_elsewhere(image: str, to: str | None, default: str | None) -> Reference:
    """The reference of an image in a registry. Raises ReferenceMalformed; InvalidOption without ``to``."""
    place = Reference.parse(image.removeprefix(PREFIX))
    if to is None:
        where = (default or "registry.example.com/team").removesuffix("/")
        name = f"{place.repository.rpartition('/')[2]}:{place.tag or '1.2'}"
        raise InvalidOption(
            f"{image} is in its registry already, and nothing says where else it is to go",
            hint=suggest("pusher push {} --to {}", image, f"{where}/{name}"),
        )
    return place

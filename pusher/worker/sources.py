"""Open the source of an image, on this machine or in a registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace

from pusher import sources
from pusher.config import Settings
from pusher.errors import CredentialsMissing, InvalidOption, SourceError
from pusher.reference import has_tag
from pusher.sources.base import EVERYTHING, BlobKeeper, Choice, Source
from pusher.sources.registry.names import PREFIX, read_reference
from pusher.sources.registry.source import RegistrySource, add_login_hint
from pusher.sources.registry.tags import list_tags
from pusher.sources.tagged import TaggedImage
from pusher.store.store import Store
from pusher.worker.destination import Destination
from pusher.worker.registries import Registries


def list_tagged(image: str, *, settings: Settings) -> list[TaggedImage]:
    """Return the images that IMAGE names without a tag: all of a repository, an archive or a layout.

    Raises InvalidOption, ImageUnsupported, ImageNotFound, and the errors of a source or a client.
    """
    if not image.startswith(PREFIX):
        return sources.list_tagged(image)
    if has_tag(image.removeprefix(PREFIX)) or "@" in image:
        raise InvalidOption(
            f"--all-tags pushes every tag of a repository, and {image} is one image",
            hint=f"leave out the tag: {PREFIX}{read_reference(image).name}",
        )
    reference = read_reference(image)
    with closing(Registries(None, settings)) as registries:
        tags = list_tags(registries.client(reference.registry, reference.repository), reference)
    return [TaggedImage(f"{PREFIX}{reference.name}:{tag}", tag) for tag in tags]


@contextmanager
def open_source(
    image: str,
    choice: Choice = EVERYTHING,
    *,
    store: Store | None,
    settings: Settings,
    destination: Destination | None,
    keeper: BlobKeeper | None = None,
    registries: Registries | None = None,
) -> Iterator[tuple[Source, str | None]]:
    """Yield the source that IMAGE names and the image's own name; both valid until the context ends.

    ``destination`` is used only for an image in a registry: a given login may be for either. ``keeper`` gets
    the blobs that pass while the image is looked for. ``registries``: those of the run that pushes the image,
    with the same settings. Raises the errors of ``sources.find``.
    """
    if not image.startswith(PREFIX):
        try:
            yield sources.find(image, choice, docker_root=settings.docker_root, keeper=keeper)
        except SourceError as error:
            sources.mention_path(image, error)
            raise
        return
    place, registry = read_reference(image), destination.registry() if destination else None
    if settings.login_registry is None and settings.password is not None and registry is not None:
        settings = replace(settings, login_registry=settings.registry_of_login({registry}))
        registries = None
    with nullcontext(registries) if registries else closing(Registries(store, settings)) as opened:
        source = RegistrySource(place, opened.client, choice, retry=settings.retry)
        try:
            yield source, source.own_name()
        except CredentialsMissing as error:
            raise add_login_hint(error, place.registry, registry) from error

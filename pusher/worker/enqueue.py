"""Record a job: find and pin the image, resolve the destination, list every layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

from pusher.config import Settings
from pusher.dataclass import dataclass
from pusher.errors import ImageIncomplete, ImageUnsupported, PusherError
from pusher.reference import Reference
from pusher.sources import find, reopen
from pusher.sources.base import EVERYTHING, Choice, Source, SourceImage
from pusher.sources.pins import RegistryPin
from pusher.sources.registry.names import PREFIX
from pusher.store.records import JobRecord, NewBlob, NewJob, Queueing
from pusher.store.store import Store
from pusher.text import suggest
from pusher.worker.compression import RequestedCompression
from pusher.worker.destination import resolve
from pusher.worker.documents import documents_of
from pusher.worker.kept_blobs import SpoolKeeper
from pusher.worker.machine import record_machine
from pusher.worker.registries import Registries
from pusher.worker.sources import open_source

_MAX_ABSENT: Final = 200
"""Most blobs that a source may lack if the destination has them; one request each."""


@dataclass(frozen=True)
class PreparedImage:
    """An image that was found and pinned, and where it goes: all that its jobs need."""

    image: str
    found: SourceImage
    destinations: Sequence[Reference]
    options: Mapping[str, str | int | None]
    machine: str | None = None
    spool: str | None = None
    """Both as in NewJob."""

    def record(self, store: Store, queueing: Queueing | None = None) -> list[JobRecord]:
        """Record a job for each destination. Raises JobUnknown, StoreError."""
        return record(
            store,
            self.found,
            self.destinations,
            image=self.image,
            queueing=queueing or Queueing(),
            options=self.options,
            machine=self.machine,
            spool=self.spool,
        )


def enqueue(
    store: Store, image: str, *, priority: int = 0, keeps_older: bool = False, **options: Any
) -> list[JobRecord]:
    """Prepare the image, and record its jobs. ``options`` and the errors are those of ``prepare``."""
    queueing = Queueing(priority=priority, keeps_older=keeps_older)
    return prepare(store, image, **options).record(store, queueing)


def prepare(
    store: Store | None,
    image: str,
    *,
    settings: Settings,
    to: Sequence[str] = (),
    tags: Sequence[str] = (),
    default_registry: str | None = None,
    compression: str | None = None,
    compression_level: int | None = None,
    command: str = "enqueue",
    choice: Choice = EVERYTHING,
    split_layers: int | None = None,
    note: Callable[[str], object] = str,
    registries: Registries | None = None,
) -> PreparedImage:
    """Find ``image`` and pin it: a tag that is moved later does not change the push. Records nothing.

    It goes to where ``destination.resolve`` says: to each place in ``to``, with each of ``tags``; those that
    come to the same are counted once. ``note`` is called with what is left out of the image or changed in it.
    ``split_layers``: bytes of a blob over which a layer is split; the image is then read once now.
    ``command``: the one that was typed, for hints. ``registries``: as for ``open_source``.

    Raises SourceError, ReferenceMalformed, InvalidOption, StoreError, and for an image in a registry the
    errors of a client; HomeUnusable if this machine cannot be identified to others.
    """
    if compression is not None:
        RequestedCompression.parse(compression, compression_level)
    # mistyped destinations are reported before the image is looked for
    typed = [
        resolve(image, text, default_registry, tag=tag, command=command)
        for text in to or (None,)
        for tag in tags or (None,)
    ]
    keeper = None
    if split_layers is None and store is not None:  # a split makes other blobs
        keeper = SpoolKeeper(store, settings, typed, note)
    with open_source(
        image,
        choice,
        store=store,
        settings=settings,
        destination=typed[0],
        keeper=keeper,
        registries=registries,
    ) as (source, name):
        destinations = [each.complete(name) for each in typed]
        if split_layers is not None:
            source = _split(source, image, split_layers)
            note("reading the image once to see where its large layers can be split")
        try:
            found = source.resolve()
        except ImageIncomplete as incomplete:
            if split_layers is not None:
                raise
            absent = incomplete.missing
            for place in destinations:
                _check_destination_has(incomplete, place, store, settings)
                note(f"not in {image}, and at {place.registry} already: {len(absent)} of its blobs")
            source, _ = find(image, replace(choice, absent=absent), docker_root=settings.docker_root)
            found = source.resolve()
    for text in found.notes:
        note(text)
    machine, spool = _places_of(found, store, settings)
    return PreparedImage(
        image,
        found,
        list(dict.fromkeys(destinations)),
        {"compression": compression, "compression_level": compression_level},
        machine,
        spool,
    )


def _split(source: Source, image: str, size: int) -> Source:
    """Return the source with its layers of more than ``size`` bytes split. Raises ImageUnsupported."""
    if image.startswith(PREFIX):
        name = image.removeprefix(PREFIX)
        raise ImageUnsupported(
            f"the layers of {image} cannot be split on their way from registry to registry",
            hint=suggest("pull it first, and push it from there: docker pull {}", name),
        )
    from pusher.sources.split.source import SplitSource

    return SplitSource(source, size, reopen)


def _places_of(found: SourceImage, store: Store | None, settings: Settings) -> tuple[str | None, str | None]:
    """Return the machine that has the image, and the spool that has it if it came through a pipe.

    None for an image in a registry, which all machines can read.
    """
    if store is None or isinstance(found.pin, RegistryPin):
        return None, None
    machine, path = record_machine(store, settings), getattr(found.pin, "path", None)
    if machine is None:
        return None, None
    is_piped = path is not None and path.is_relative_to(settings.spool)
    return machine.id, machine.spool if is_piped else None


def record(
    store: Store,
    found: SourceImage,
    destinations: Sequence[Reference],
    *,
    image: str,
    queueing: Queueing | None = None,
    options: Mapping[str, str | int | bool | None] | None = None,
    received: bool = False,
    machine: str | None = None,
    spool: str | None = None,
) -> list[JobRecord]:
    """Record a job for each destination, and the documents and config that they need. A destination without a
    tag is pushed by digest. ``image``: its name for people. ``received``: its blobs may have a job already,
    as ``pusher serve`` received them. ``machine``, ``spool``: as in NewJob. Raises StoreError."""
    if found.config is not None:
        store.documents.put(found.config_digest, found.config)
    for document in found.all_documents:
        store.documents.put(document.digest, document.raw)
    add = store.received_jobs.add_manifest if received else store.jobs.add
    return [
        add(
            NewJob(
                image=image,
                source=found.pin.to_json(),
                config_digest=found.config_digest,
                config_size=_config_size(found),
                registry=destination.registry,
                repository=destination.repository,
                tag=destination.tag,
                blobs=_blobs(found),
                options=options or {},
                documents=documents_of(found),
                machine=machine,
                spool=spool,
                **vars(queueing or Queueing()),
            )
        )
        for destination in destinations
    ]


def _check_destination_has(
    incomplete: ImageIncomplete, destination: Reference, store: Store | None, settings: Settings
) -> None:
    """Raise ``incomplete`` unless the destination has all blobs that the source lacks."""
    if not 0 < len(incomplete.missing) <= _MAX_ABSENT:
        raise incomplete
    with closing(Registries(store, settings)) as registries:
        client = registries.get(destination.registry, destination.repository).client
        try:
            there = all(client.blob_exists(destination.repository, digest) for digest in incomplete.missing)
        except PusherError:
            there = False
    if not there:
        raise incomplete


def _config_size(image: SourceImage) -> int | None:
    """Return the config's size in bytes, from its manifest if the source lacks it."""
    if image.config is not None:
        return len(image.config)
    configs = {manifest.config.digest: manifest.config.size for manifest in image.manifests}
    return configs.get(image.config_digest)


def _blobs(image: SourceImage) -> tuple[NewBlob, ...]:
    """Return the job's blobs, with digest and size if the source has the final blob."""
    return tuple(
        NewBlob(layer.diff_id)
        if layer.blob is None
        else NewBlob(layer.diff_id, layer.blob.media_type, layer.blob.digest, layer.blob.size)
        for layer in image.layers
    )

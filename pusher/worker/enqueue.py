"""Recording a job: the image found and pinned, the destination read, every layer listed."""

from __future__ import annotations

from pusher import reference
from pusher.errors import InvalidOption, ReferenceMalformed
from pusher.reference import Reference
from pusher.sources import find
from pusher.sources.base import SourceImage
from pusher.store.records import JobRecord, NewJob, NewLayer
from pusher.store.store import Store


def enqueue(
    store: Store,
    image: str,
    *,
    to: str | None = None,
    default_registry: str | None = None,
    priority: int = 0,
    compression_level: int | None = None,
) -> JobRecord:
    """Find ``image``, pin it, and record the job of pushing it to where ``reference.destination`` says.

    The config digest is recorded: a tag that is moved later does not change what is pushed. Raises
    SourceError, ReferenceMalformed, InvalidOption, StoreError.
    """
    # a typing error is told before the image is looked for
    destination = _with_tag(reference.destination(None, to=to, default=default_registry))
    source, name = find(image)
    found = source.resolve()
    if destination is None:
        destination = _with_tag(reference.destination(name, to=to, default=default_registry))
    if destination is None:
        place = (to or default_registry or "registry.example.com/team").removesuffix("/")
        raise InvalidOption(
            f"{image} has no name of its own to push it under",
            hint=f"pusher enqueue {image} --to {place}/app:1.2",
        )
    if found.config is not None:
        store.memos.put_config(found.config_digest, found.config)
    if found.manifest is not None:
        store.memos.put_config(found.manifest.digest, found.manifest.raw)
    return store.jobs.add(
        NewJob(
            image=image,
            source=found.pinned,
            config_digest=found.config_digest,
            config_size=None if found.config is None else len(found.config),
            registry=destination.registry,
            repository=destination.repository,
            tag=destination.tag,
            layers=_layers(found),
            priority=priority,
            options={
                "compression_level": compression_level,
                "manifest": None if found.manifest is None else found.manifest.digest,
            },
        )
    )


def _with_tag(destination: Reference | None) -> Reference | None:
    if destination is not None and destination.digest is not None:
        raise ReferenceMalformed(
            f"{destination.name}@{destination.digest} ends in a digest, and an image is pushed to a tag",
            hint=f"leave out @{destination.digest}",
        )
    return destination


def _layers(image: SourceImage) -> tuple[NewLayer, ...]:
    """Digest and size are known where the source has the final blob."""
    layers = []
    for position, layer in enumerate(image.layers):
        if image.manifest is not None:
            blob = image.manifest.layers[position]
            layers.append(NewLayer(layer.diff_id, blob.media_type, blob.digest, blob.size))
        elif layer.slice is not None:
            part = layer.slice
            layers.append(NewLayer(layer.diff_id, layer.media_type, part.digest, part.length))
        else:
            layers.append(NewLayer(layer.diff_id))
    return tuple(layers)

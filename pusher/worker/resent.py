"""Explain uploads that restart repeatedly: why, what it has cost, and how to avoid it."""

from __future__ import annotations

from pusher.oci.digest import provisional_digest
from pusher.registry.upload.profiles import MIB
from pusher.store.records import UploadRecord
from pusher.store.store import Store
from pusher.units import human_bytes


def describe_losses(store: Store, job_id: int, upload: UploadRecord, *, restarts: bool) -> str:
    """Return a sentence about a blob whose upload has been lost several times.

    ``restarts``: its registry restarts a blob when the connection breaks inside a chunk.
    """
    layers = store.blobs.of_job(job_id)
    wasted = sum(
        layer.bytes_wasted
        for layer in layers
        if upload.digest in (layer.digest, provisional_digest(layer.key))
    )
    registry = upload.registry
    cost = f"its upload was lost {upload.losses} times, and {human_bytes(wasted)} had to be sent again"
    if not restarts:
        return f"{cost}; to find out why: pusher doctor {registry}"
    facts = store.facts.get(registry)
    size = f"{max(1, round(facts.carries / 2 / MIB))}MiB" if facts.carries and facts.breaks else "SIZE"
    return (
        f"{cost}: {registry} starts a blob again when the connection breaks inside a chunk. To avoid that, "
        "use "
        f"a more stable link, smaller layers (pusher push IMAGE --split-layers {size}, which changes the "
        "image's "
        "digest), or a registry that resumes after a break, such as distribution 3"
    )

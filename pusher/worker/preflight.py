"""What is looked at before anything of a job is made or sent: only the user can mend it, and minutes are
saved by telling it at once. What passes by itself is left to the uploads, which wait for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pusher.errors import PusherError, Retry
from pusher.registry.http.body import Blob
from pusher.registry.upload import blob_sizes
from pusher.sources.registry.source import mountable
from pusher.store.records import JobRecord
from pusher.worker.blob_sender import BlobSender


def check(sender: BlobSender, job: JobRecord, known: Iterable[Sequence[Blob]]) -> None:
    """``known``: for each layer the blobs that may stand for it, none where they are not made yet.

    Raises a wrong password or certificate, and LayerTooLarge.
    """
    try:
        sender.registries.get(job.registry, job.repository).client.ping()
        _refuse_too_large(sender, job, known)
    except PusherError as error:
        if error.retry is Retry.NEVER:
            raise


def _refuse_too_large(sender: BlobSender, job: JobRecord, known: Iterable[Sequence[Blob]]) -> None:
    """An ordinary image costs no request: its layers are not too large for any registry."""
    suspects = [
        blobs for blobs in known if blobs and all(blob_sizes.may_be_too_large(one.size) for one in blobs)
    ]
    missing = [blobs for blobs in suspects if not any(_may_be_there(sender, job, blob) for blob in blobs)]
    if not missing:
        return
    connection = sender.registries.get(job.registry, job.repository)
    forced = sender.settings.at(job.registry).profile
    profile = blob_sizes.find_profile(connection.client, job.repository, connection.link, forced)
    for blobs in missing:
        smallest = min(blobs, key=lambda blob: blob.size)
        blob_sizes.check_size(smallest.digest, smallest.size, profile, job.registry)


def _may_be_there(sender: BlobSender, job: JobRecord, blob: Blob) -> bool:
    """Whether the repository has the blob, or one that it may be mounted from."""
    if mountable(job.source, job.registry) or sender.store.uploads.holders(job.registry, blob.digest):
        return True
    client = sender.registries.get(job.registry, job.repository).client
    return client.blob_exists(job.repository, blob.digest, blob.size)

"""Check login, certificate and sizes before any blob of a job is prepared or sent.

This finds errors that only the user can fix, minutes earlier than the uploads would. Temporary errors are
left to the uploads, which retry.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pusher.errors import PusherError, Retry
from pusher.registry.http.body import BlobFile
from pusher.registry.upload import blob_sizes
from pusher.sources.registry.source import mountable_repositories
from pusher.store.records import JobRecord
from pusher.worker.worker import Worker


def check(worker: Worker, job: JobRecord, known: Iterable[Sequence[BlobFile]]) -> None:
    """Check login, certificate and layer sizes. ``known``: for each layer the blobs it may have, if any.

    Raises the errors of a login or a certificate, and LayerTooLarge.
    """
    try:
        client = worker.registries.get(job.registry, job.repository).client
        client.connect_ahead()
        client.log_in(job.repository)
        refuse_too_large(worker, job, known)
    except PusherError as error:
        if error.retry is Retry.NEVER:
            raise


def refuse_too_large(worker: Worker, job: JobRecord, known: Iterable[Sequence[BlobFile]]) -> None:
    """Raise LayerTooLarge for a layer that the registry cannot store. An ordinary image costs no request."""
    suspects = [
        blobs for blobs in known if blobs and all(blob_sizes.may_be_too_large(one.size) for one in blobs)
    ]
    missing = [blobs for blobs in suspects if not any(_may_exist(worker, job, blob) for blob in blobs)]
    if not missing:
        return
    connection = worker.registries.get(job.registry, job.repository)
    forced = worker.settings.at(job.registry).profile
    profile = blob_sizes.find_profile(connection.client, job.repository, connection.link, forced)
    for blobs in missing:
        smallest = min(blobs, key=lambda blob: blob.size)
        blob_sizes.check_size(smallest.digest, smallest.size, profile, job.registry)


def _may_exist(worker: Worker, job: JobRecord, blob: BlobFile) -> bool:
    """Return whether the repository has the blob, or another that it may be mounted from."""
    if mountable_repositories(job.source, job.registry) or worker.store.uploads.holders(
        job.registry, blob.digest
    ):
        return True
    client = worker.registries.get(job.registry, job.repository).client
    return client.blob_exists(job.repository, blob.digest, blob.size)

"""Tell a layer that is damaged on disk from one whose file was changed while it was sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pusher.errors import LayerMismatch
from pusher.registry.http.body import BlobFile
from pusher.store.records import JobRecord


def refuse_damaged_file(blob: BlobFile, job: JobRecord, check: Callable[[], None]) -> None:
    """Read a file that a blob is sent from in place; ``check`` may raise to stop.

    Raises LayerMismatch if its bytes do not have the blob's digest, so that they are not sent again, and
    BlobDamaged if the file was replaced or cannot be read. Blobs in the spool are made again instead.
    """
    if blob.verifier is None:
        return
    found = blob.compute_digest(check)
    if found != blob.digest:
        where = job.image if blob.path == Path() else blob.path
        raise LayerMismatch(
            f"a layer in {where} should have digest {blob.digest}, its bytes have {found}",
            hint="the source is damaged: copy, save or pull the image again",
        )

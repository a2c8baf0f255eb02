"""What tests run in processes of its own: ``python -m tests.store.programs NAME URL ...``."""

from __future__ import annotations

import sys
from collections.abc import Callable

from pusher.store.records import BlobState, NewBlob
from pusher.store.store import Store
from tests.support.databases import REGISTRY, digest, new_job


def claim(url: str, owner: str) -> None:
    """Claim until nothing is left, once the parent says so; print the ids."""
    with Store.open(url) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        while (job := store.jobs.claim(owner, lease=60)) is not None:
            print(job.id)


def churn(url: str, owner: str) -> None:
    """Work jobs forever, with a line before every change; the parent kills us in the middle of one."""
    blob = digest(owner[-1])
    layer = NewBlob(digest("1"), "application/gzip", blob, 1000)
    with Store.open(url) as store:
        while True:
            print("add", flush=True)
            added = store.jobs.add(new_job(layer, repository=owner))
            print("claim", flush=True)
            job = store.jobs.claim(owner, lease=60, only=[added.id])
            assert job is not None
            upload = store.uploads.acquire(REGISTRY, f"{owner}/{job.id}", blob, owner=owner, lease=60)
            assert upload is not None
            upload = store.uploads.record_session(
                upload, location="http://r/0", chunk_size=100, min_chunk=None, max_chunk=None, profile=None
            )
            for offset in range(100, 1001, 100):
                print("chunk", flush=True)
                upload = store.uploads.record_chunk(upload, 100)
                upload = store.uploads.record_offset(
                    upload, location=f"http://r/{offset}", offset=offset, job_id=job.id, sent=100
                )
            print("close", flush=True)
            store.uploads.release(store.uploads.record_closing(upload))
            store.blobs.set_done(job, blob, BlobState.UPLOADED)
            store.jobs.succeed(job, digest("f"))


def open_only(url: str) -> None:
    """Open the store and say what was imported of that which a current store does not need."""
    with Store.open(url) as store:
        store.jobs.list(limit=1)
    print({"alembic", "filelock", "psycopg"} & set(sys.modules))


if __name__ == "__main__":
    programs: dict[str, Callable[..., None]] = {"claim": claim, "churn": churn, "open": open_only}
    programs[sys.argv[1]](*sys.argv[2:])

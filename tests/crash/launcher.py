"""Run ``pusher`` and kill it at a chosen point.

``python -m tests.crash.launcher POINT WHEN NTH ARGUMENT...``: the process sends itself SIGKILL ``before`` or
``after`` the NTH call of what POINT names. Nothing of this is in pusher itself.

With BLOCK_OF_SOURCE=N in the environment layers are read in small blocks, each is written before the next
one is read, and block N never arrives: the process sends what it has compressed, until it is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import wraps
from importlib import import_module
from typing import Any, Final

BLOCK: Final = 4096
HELD_BLOCK: Final = "BLOCK_OF_SOURCE"

POINTS: Final = {
    "claim": "pusher.store.jobs:Jobs.claim",
    "read a source": "pusher.spool.pipeline:read_block",
    "write a blob": "pusher.spool.temporary:TemporaryFile.write",
    "keep a blob": "pusher.spool.temporary:TemporaryFile.commit",
    "remember a blob": "pusher.store.known_blobs:KnownBlobs.remember",
    "give a layer its blob": "pusher.store.job_blobs:JobBlobs.set_blob",
    "take an upload": "pusher.store.uploads:Uploads.acquire",
    "give an upload its digest": "pusher.store.uploads:Uploads.give_digest",
    "take over a session": "pusher.store.uploads:Uploads.take_session",
    "open a session": "pusher.registry.client:RegistryClient.open_upload",
    "record a session": "pusher.worker.store_journal:StoreJournal.record_session",
    "record a beginning": "pusher.worker.store_journal:StoreJournal.record_prefix",
    "record an intent": "pusher.worker.store_journal:StoreJournal.record_chunk",
    "read a chunk": "pusher.registry.http.body:Body.read_slice",
    "send a chunk": "pusher.registry.client:RegistryClient.send_chunk",
    "record a chunk": "pusher.worker.store_journal:StoreJournal.record_offset",
    "record a closing": "pusher.worker.store_journal:StoreJournal.record_closing",
    "close an upload": "pusher.registry.client:RegistryClient.close_upload",
    "record a blob as present": "pusher.store.uploads:Uploads.record_present",
    "record a layer as done": "pusher.store.job_blobs:JobBlobs.set_done",
    "put the manifest": "pusher.registry.client:RegistryClient.put_manifest",
    "record the success": "pusher.store.jobs:Jobs.succeed",
    "evict": "pusher.spool.spool:Spool.all_files",
    "leave": "pusher.worker.liveness:WorkerIdentity.__exit__",
}

OF_UNFINISHED_BLOBS: Final = frozenset(
    {"give an upload its digest", "take over a session", "record a beginning"}
)
"""Points that are only reached if a layer was sent while it was compressed."""


def arm(point: str, when: str, nth: int) -> None:
    """Have the ``nth`` call at ``point`` kill this process."""
    module_name, _, path = POINTS[point].partition(":")
    *owners, name = path.split(".")
    holder: Any = import_module(module_name)
    for owner in owners:
        holder = getattr(holder, owner)
    original, calls, lock = getattr(holder, name), 0, threading.Lock()

    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        with lock:
            calls += 1
            ours = calls == nth
        if ours and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if ours and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(holder, name, call)


def hold_source(at: int) -> None:
    """Read layers in blocks of ``BLOCK`` bytes, of which block ``at`` never arrives (0: they all do), or
    block ``-at`` once a chunk of an unfinished blob was acknowledged."""
    from pusher.oci.digest import diff_id_in
    from pusher.spool import blocks, pipeline
    from pusher.worker.store_journal import StoreJournal

    original, record, count = blocks.read_block, StoreJournal.record_offset, 0
    go = threading.Event()

    def read(stream: Any) -> bytes:
        nonlocal count
        count += 1
        if count == abs(at):
            go.wait()
        return original(stream, BLOCK)

    def record_and_go(journal: StoreJournal, *arguments: Any) -> None:
        record(journal, *arguments)
        if at < 0 and diff_id_in(journal.upload.digest) is not None:
            go.set()

    def write(writer: Any, part: Any) -> None:
        writer._take(part.result())

    pipeline._Writer.put = write  # type: ignore[method-assign, assignment]
    pipeline.read_block = read  # type: ignore[attr-defined, assignment]
    StoreJournal.record_offset = record_and_go  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    from pusher.cli import main

    at = os.environ.get(HELD_BLOCK)
    if at is not None:
        hold_source(int(at))
    arm(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    main(sys.argv[4:])

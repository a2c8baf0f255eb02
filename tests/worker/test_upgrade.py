"""A job that an older version began is finished by this one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from pusher.sources.pins import ArchivePin, pin_from_json
from pusher.store import migrate, schema
from pusher.store.records import JobState
from pusher.store.store import Store
from pusher.store.url import file_of, parse_url
from tests.store.test_migrations import make_store
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import CHUNK, Home, blob_bytes, cut_off, pushed
from tests.support.images import Image

_SAME = ("events", "registries", "uploads", "dead_sessions")


def test_an_upload_that_was_cut_off_before_an_upgrade_goes_on(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    cut_off(home, registry, 2)
    url = home.settings.database_url
    write_as_0006(home)
    assert migrate.check(url).current == "0006"
    home.store.close()

    home.store = Store.open(url)  # upgrades it
    assert migrate.check(url).current == schema.head()
    sent = home.figures(job.id)[2]
    assert 0 < sent < blob_bytes_of(image)
    kept = home.store.blobs.of_job(job.id)
    assert sum(blob.offset for blob in kept) > 0, "the registry has a part of a blob"
    home.progress.calls.clear()
    assert home.run([job.id]).exit_code == 0, home.events(job.id)
    assert home.state(job.id) == JobState.SUCCEEDED
    pushed(registry, "app", "1", image)
    assert home.progress.of("preparing") == [], "every layer was compressed before"
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK, (
        "what arrived is not sent again"
    )
    home.assert_clean()


def blob_bytes_of(image: Image) -> int:
    return sum(len(layer.tar) for layer in image.layers)


OF_JOBS = ("labels", "after_job", "not_before", "time_window", "machine", "spool", "speed", "in_flight")
OF_UNFINISHED_BLOBS = ("compression", "prefix_size", "prefix_sha256")


def write_as_0006(home: Home) -> None:
    """Put a store in the place of the home's, which holds the same as version 0006 wrote it."""
    path = file_of(parse_url(home.settings.database_url))
    old = path.parent / "old" / "jobs.db"
    make_store(f"sqlite:///{old}", "0006")
    with closing(sqlite3.connect(path)) as now, closing(sqlite3.connect(old)) as before:
        now.row_factory = sqlite3.Row

        def rows(table: str) -> list[dict[str, Any]]:
            return [dict(row) for row in now.execute(f"SELECT * FROM {table}")]

        def write(table: str, written: list[dict[str, Any]]) -> None:
            for row in written:
                of_table = OF_UNFINISHED_BLOBS if table == "uploads" else ()
                for later in ("link_rate", "gzip_level", *of_table):
                    row.pop(later, None)
                columns, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
                before.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", (*row.values(),))

        write("jobs", [job_of_0006(row) for row in rows("jobs")])
        write("layers", [layer_of_0006(row) for row in rows("job_blobs")])
        write("blob_memos", rows("known_blobs"))
        write("configs", rows("documents"))
        for table in _SAME:
            write(table, rows(table))
        before.commit()
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    old.rename(path)


def job_of_0006(row: dict[str, Any]) -> dict[str, Any]:
    pin = pin_from_json(json.loads(row["source"]))
    assert isinstance(pin, ArchivePin)
    source = {
        "kind": pin.kind,
        "path": str(pin.path),
        "name": pin.name,
        "config": pin.config_digest,
        "size": pin.size,
        "mtime_ns": pin.mtime_ns,
        "unpacked": None,
    }
    assert row.pop("documents") == "[]"
    for later in (*OF_JOBS, "waiting_since", "waiting_reported"):
        del row[later]
    options = {**json.loads(row["options"]), "documents": None, "drafts": None}
    return {**row, "source": json.dumps(source), "options": json.dumps(options)}


def layer_of_0006(row: dict[str, Any]) -> dict[str, Any]:
    kind = row.pop("kind")
    assert kind in ("config", "layer")
    return {**row, "position": row["position"] - 1, "diff_id": row["diff_id"] or row["digest"]}

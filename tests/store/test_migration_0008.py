"""Upgrades of stores of versions 0006 and 0007, in which data had other names."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Connection, DateTime, MetaData

from pusher.errors import StoreCorrupt
from pusher.oci import media_types
from pusher.oci.layer_blob import COMPARED, LayerBlob
from pusher.oci.platform import Platform
from pusher.sources.base import EVERYTHING, Choice, Pin
from pusher.sources.decompression import Unpacked
from pusher.sources.pins import (
    ArchivePin,
    ContentStorePin,
    DirPin,
    EnginePin,
    LayoutPin,
    ListPin,
    RegistryPin,
    SplitPin,
    StoragePin,
    pin_from_json,
)
from pusher.sources.split.layer_plan import LayerPlan, Part
from pusher.store import migrate, schema
from pusher.store.records import FINAL_STATES, BlobKind, BlobState, JobDocument, JobState, UploadState
from pusher.store.store import Store
from tests.store.test_migrations import changing, make_store
from tests.support.databases import FakeClock, digest, new_job

_A, _B, _C = ("sha256:" + letter * 64 for letter in "abc")
_CHOICE = Choice((Platform("linux", "arm64", "v8"),), skip_missing=True, absent=(_C,))
_OLD_CHOICE = json.dumps({**vars(_CHOICE), "platforms": ["linux/arm64/v8"]})
_OLD_EVERYTHING = json.dumps({**vars(EVERYTHING), "platforms": []})

_OLD_ARCHIVE: dict[str, Any] = {
    "kind": "docker-archive",
    "path": "/images/app.tar",
    "name": "app:1",
    "config": _A,
    "size": 7168,
    "mtime_ns": 1_700_000_000_000_000_001,
    "unpacked": json.dumps([{"digest": _B, "diff_id": _C, "size": 1024, "is_plain": True}]),
}
_ARCHIVE = ArchivePin(
    Path("/images/app.tar"),
    "app:1",
    _A,
    7168,
    1_700_000_000_000_000_001,
    unpacked=(Unpacked(_B, _C, 1024, is_plain=True),),
)
_ARCHIVE_PLAIN = ArchivePin(Path("/images/app.tar"), "app:1", "sha256:" + "c" * 64, 7168, _ARCHIVE.mtime_ns)
_SOURCES: list[tuple[dict[str, Any], Pin]] = [
    (_OLD_ARCHIVE, _ARCHIVE),
    (
        {**_OLD_ARCHIVE, "name": None, "unpacked": None, "root": _B, "choice": _OLD_CHOICE},
        ArchivePin(_ARCHIVE.path, None, _A, 7168, _ARCHIVE.mtime_ns, _B, _CHOICE),
    ),
    (
        {"kind": "oci", "path": "/images/l", "name": "1", "root": _A, "choice": _OLD_CHOICE},
        LayoutPin("oci", Path("/images/l"), "1", _A, _CHOICE),
    ),
    (
        {"kind": "oci-archive", "path": "/l.tar", "name": None, "root": _A, "choice": _OLD_EVERYTHING},
        LayoutPin("oci-archive", Path("/l.tar"), None, _A, EVERYTHING),
    ),
    (
        {"kind": "dir", "path": "/images/d", "root": _A, "choice": _OLD_EVERYTHING},
        DirPin(Path("/images/d"), _A, EVERYTHING),
    ),
    (
        {
            "kind": "docker-daemon",
            "name": "app:1",
            "id": _A,
            "config": _A,
            "layers": f"{_B} {_C}",
            "choice": _OLD_EVERYTHING,
            "DOCKER_HOST": "unix:///run/docker.sock",
            "DOCKER_CONTEXT": None,
            "storage": "/var/lib/docker",
            "driver": "overlay2",
        },
        EnginePin(
            "docker-daemon",
            "app:1",
            _A,
            (_B, _C),
            EVERYTHING,
            {"DOCKER_HOST": "unix:///run/docker.sock", "DOCKER_CONTEXT": None},
            storage=Path("/var/lib/docker"),
            driver="overlay2",
        ),
    ),
    (
        {
            "kind": "nerdctl",
            "name": "app:1",
            "id": _A,
            "config": _A,
            "layers": "",
            "choice": _OLD_CHOICE,
            "CONTAINERD_NAMESPACE": "k8s.io",
            "root": _A,
            "documents": json.dumps(["{}", '"\udcff"']),
        },
        EnginePin(
            "nerdctl",
            "app:1",
            _A,
            (),
            _CHOICE,
            {"CONTAINERD_ADDRESS": None, "CONTAINERD_NAMESPACE": "k8s.io", "NERDCTL_TOML": None},
            root_digest=_A,
            documents=(b"{}", b'"\xff"'),
        ),
    ),
    (
        {"kind": "docker-storage", "name": "app:1", "root": "/d", "driver": None, "id": _A},
        StoragePin("docker-storage", "app:1", Path("/d"), None, _A),
    ),
    (
        {
            "kind": "podman-list",
            "name": "list:1",
            "root": "/p",
            "driver": "overlay",
            "save": 1,
            "documents": json.dumps(["{}"]),
            "configs": json.dumps(["[]"]),
        },
        ListPin("list:1", Path("/p"), "overlay", True, (b"{}",), (b"[]",)),
    ),
    (
        {"kind": "containerd-store", "path": "/c", "root": _A, "name": "app:1", "choice": _OLD_CHOICE},
        ContentStorePin(Path("/c"), _A, "app:1", _CHOICE),
    ),
    (
        {
            "kind": "docker",
            "registry": "r.example",
            "repository": "team/app",
            "root": _A,
            "choice": _OLD_EVERYTHING,
        },
        RegistryPin("r.example", "team/app", _A, EVERYTHING),
    ),
    (
        {
            "kind": "split",
            "inner": json.dumps(_OLD_ARCHIVE),
            "size": 1 << 20,
            "config": '{"rootfs": {}}',
            "plan": json.dumps([[_A, _B, 99, 10, [[_C, 50], [_A, 60]], ["bGF0ZQ==", ""]]]),
        },
        SplitPin(
            _ARCHIVE,
            1 << 20,
            b'{"rootfs": {}}',
            (LayerPlan(_A, _B, 99, 10, (Part(_C, 50), Part(_A, 60)), (b"late", b"")),),
        ),
    ),
]


def _insert_job(url: str, source: str) -> None:
    with changing(url) as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (image, source, config_digest, host, repository, tag, state, priority,"
            f" attempts, options, bytes_sent, created_at, lease_token) VALUES ('app:1', '{source}',"
            " 'sha256:c', 'r.example', 'app', '1', 'paused', 0, 0, '{}', 0, '2026-01-01 00:00:00', 3)"
        )


def test_sources_of_every_kind_are_carried_over(empty_url: str) -> None:
    make_store(empty_url, "0007")
    for old, _ in _SOURCES:
        _insert_job(empty_url, json.dumps(old).replace("'", "''").replace("%", "%%"))
    migrate.upgrade(empty_url)
    with Store.open(empty_url) as store:
        found = [job.source for job in store.jobs.list()]
    assert [pin_from_json(source) for source in found] == [pin for _, pin in _SOURCES]


@pytest.mark.parametrize(
    "source", ['{"kind": "moon"}', '{"kind": "oci"}', '{"kind": "oci", "choice": 3}', "[]"]
)
def test_a_damaged_source_stops_no_upgrade(empty_url: str, source: str) -> None:
    make_store(empty_url, "0007")
    _insert_job(empty_url, source)
    migrate.upgrade(empty_url)
    with Store.open(empty_url) as store:
        (job,) = store.jobs.list()
    assert job.source == json.loads(source)
    with pytest.raises(StoreCorrupt, match="source cannot be read"):
        pin_from_json(job.source)


_STORE: dict[str, list[dict[str, Any]]] = json.loads(
    Path(__file__).with_name("store_0006.json").read_text(encoding="utf-8")
)
"""All rows of a store that version 0006 wrote."""


def _write_0006(url: str) -> None:
    make_store(url, "0006")
    with changing(url) as connection:
        tables = MetaData()
        tables.reflect(connection)
        for table in tables.sorted_tables:
            for row in _STORE.get(table.name, []):
                values = {name: _value(table.c[name], value, connection) for name, value in row.items()}
                connection.execute(table.insert().values(values))
        if connection.dialect.name != "sqlite":
            for name in ("jobs", "uploads", "events", "dead_sessions"):
                connection.exec_driver_sql(f"SELECT setval('{name}_id_seq', 1000)")


def _value(column: Column[Any], value: Any, connection: Connection) -> Any:
    if isinstance(column.type, DateTime):
        time = datetime.fromisoformat(value)
        return time if connection.dialect.name == "sqlite" else time.replace(tzinfo=UTC)
    if isinstance(value, dict) and "base64" in value:
        return base64.b64decode(value["base64"])
    return value


@pytest.fixture
def upgraded(empty_url: str, clock: FakeClock) -> Iterator[Store]:
    """A store of version 0006 with jobs in every state, after the upgrade."""
    _write_0006(empty_url)
    assert migrate.upgrade(empty_url) == ("0006", schema.head())
    assert migrate.check(empty_url).problems == ()
    with Store.open(empty_url, clock=clock) as store:
        yield store


def test_every_job_is_there_as_it_was(upgraded: Store) -> None:
    jobs = {job.tag: job for job in upgraded.jobs.list()}
    assert len(upgraded.jobs.list()) == len(_STORE["jobs"]) == 11
    for row in _STORE["jobs"]:
        job = upgraded.jobs.get(row["id"])
        assert (job.image, job.tag, job.state) == (row["image"], row["tag"], row["state"])
        assert (job.priority, job.attempts, job.bytes_sent) == (
            row["priority"],
            row["attempts"],
            row["bytes_sent"],
        )
        assert (job.lease_owner, job.lease_token) == (row.get("lease_owner"), row["lease_token"])
        assert job.created_at == datetime.fromisoformat(row["created_at"]).replace(tzinfo=UTC)
        assert (job.error is None) == ("error_code" not in row)
        assert job.options.keys() == {"compression", "compression_level"}
    newer = {JobState.SUPERSEDED, JobState.RECEIVING}
    assert {job.state for job in jobs.values()} | newer == set(JobState)
    assert jobs["queued"].source == _ARCHIVE_PLAIN.to_json()
    assert pin_from_json(jobs["index"].source) == LayoutPin(
        "oci", Path("/images/layout"), "1", digest("9"), EVERYTHING
    )
    assert jobs["index"].documents == (JobDocument(digest("8")), JobDocument(digest("9")))
    assert jobs["list"].documents == (JobDocument(digest("8"), (digest("1"),)), JobDocument(digest("9"), ()))
    assert jobs["list"].options == {"compression": "zstd", "compression_level": 9}
    assert jobs["queued"].documents == ()


def test_events_registries_and_dead_sessions_are_there(upgraded: Store) -> None:
    for job in upgraded.jobs.list():
        old = [row["kind"] for row in _STORE["events"] if row["job_id"] == job.id]
        assert [event.kind for event in upgraded.events.of(job.id)] == old
    facts = upgraded.facts.get("r.example")
    assert (facts.max_chunk, facts.uplink, facts.carries, facts.breaks) == (7_000_000, 1.5e6, 9e6, 2)
    assert [dead.location for dead in upgraded.dead_sessions.all()] == ["https://r.example/v2/dead"]


def test_documents_and_known_blobs_are_there(upgraded: Store) -> None:
    assert [upgraded.documents.get(digest(each)) for each in "c987"] == [
        b'{"of": "%s"}' % each.encode() for each in "c987"
    ]
    known = upgraded.known_blobs.of_layers([digest(each) for each in "1234"])
    assert [[blob.digest for blob in known[digest(each)]] for each in "1234"] == [
        [digest("a")],
        [digest("e"), digest("b")],
        [digest("f")],
        [],
    ]
    assert known[digest("3")] == [
        LayerBlob(digest("f"), 1000, COMPARED, media_types.DOCKER_LAYER_GZIP, digest("3"), 10240)
    ]


def test_blobs_of_jobs_say_what_they_are(upgraded: Store) -> None:
    jobs = {job.tag: job for job in upgraded.jobs.list()}

    def blobs(tag: str) -> list[tuple[Any, ...]]:
        found = upgraded.blobs.of_job(jobs[tag].id)
        assert [blob.position for blob in found] == list(range(len(found)))
        return [(blob.kind, blob.diff_id, blob.digest, blob.state, blob.offset) for blob in found]

    config, layer, other = BlobKind.CONFIG, BlobKind.LAYER, BlobKind.OTHER
    assert blobs("queued") == [
        (config, None, digest("c"), BlobState.READY, 0),
        (layer, digest("1"), None, BlobState.PENDING, 0),
        (layer, digest("2"), None, BlobState.PENDING, 0),
    ]
    assert blobs("running")[:2] == [
        (config, None, digest("c"), BlobState.EXISTS, 120),
        (layer, digest("1"), digest("a"), BlobState.UPLOADING, 400),
    ]
    assert blobs("index") == [
        (config, None, digest("c"), BlobState.READY, 0),
        (layer, digest("1"), digest("a"), BlobState.UPLOADING, 400),
        (other, None, digest("f0"), BlobState.READY, 0),
        (layer, digest("e"), digest("e"), BlobState.READY, 0),
    ]
    assert blobs("list")[-1] == (other, None, digest("7"), BlobState.READY, 0)
    totals = upgraded.jobs.totals([jobs["running"].id, jobs["succeeded"].id])
    running, done = totals[jobs["running"].id], totals[jobs["succeeded"].id]
    assert (running.bytes_sent, running.bytes_wasted, running.bytes_done) == (410, 10, 520)
    assert (done.bytes_done, done.sizes_known) == (4000, False)


def test_uploads_go_on_where_they_were(upgraded: Store, clock: FakeClock) -> None:
    (running,) = upgraded.jobs.list(states=[JobState.RUNNING])
    clock.advance(60)
    gone = running.lease_owner or ""
    claimed = upgraded.jobs.claim("new", lease=30, only=[running.id], expired_owners=[gone])
    assert claimed is not None
    upload = upgraded.uploads.acquire(
        *(running.registry, running.repository, digest("a")), owner="new", lease=30, expired_owners=[gone]
    )
    assert upload is not None
    assert (upload.state, upload.offset, upload.in_flight) == (UploadState.OPEN, 400, 300)
    upgraded.uploads.record_present(upload)
    upgraded.blobs.set_done(claimed, digest("a"), BlobState.UPLOADED)
    upgraded.blobs.set_blob(claimed, digest("2"), digest=digest("b"), size=1000, media_type="m")
    assert [blob.state for blob in upgraded.blobs.of_job(running.id)] == [
        BlobState.EXISTS,
        BlobState.UPLOADED,
        BlobState.UPLOADING,
    ]
    upgraded.jobs.succeed(claimed, digest("d"))
    assert [upload.digest for upload in upgraded.abandoned.all()] == [digest("6")]


def test_what_no_job_needs_is_pruned_after_the_upgrade(upgraded: Store, clock: FakeClock) -> None:
    for job in upgraded.jobs.list():
        if job.state not in FINAL_STATES:
            upgraded.jobs.cancel(job.id)
    new = upgraded.jobs.add(new_job())
    assert new.id > 11, "an id is not used twice"
    clock.advance(8 * 86400)
    assert upgraded.retention.prune(clock.now).jobs == 11
    assert [upgraded.documents.get(digest(each)) for each in "987"] == [None, None, None]
    assert upgraded.blobs.of_jobs([1, 2]) == {1: [], 2: []}

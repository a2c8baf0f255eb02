"""Upgrades of a store of version 0007."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pusher.errors import StoreCorrupt
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
from pusher.store import migrate
from pusher.store.store import Store
from tests.store.test_migrations import closing_database, make_store

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
    with closing_database(url) as database, database.write() as connection:
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

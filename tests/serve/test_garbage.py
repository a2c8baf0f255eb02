"""Blobs that no manifest names are deleted from a local registry, and no others."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.serve.garbage import Collected, collect_garbage, collecting
from tests.cli.conftest import Pusher, home, pusher  # noqa: F401 - pytest finds fixtures by name
from tests.serve.served import Repository, Served, descriptor, index, manifest, sha256, sha512
from tests.support.waiting import wait_until

AGE = 3600.0
LAYER = os.urandom(5000)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path / "registry") as served:
        yield served


@pytest.fixture
def app(served: Served) -> Repository:
    return Repository(served, "team/app")


def age(served: Served) -> None:
    """Let every blob be two hours old."""
    for path in served.registry.blobs_folder.glob("*/*"):
        os.utime(path, (time.time() - 7200, time.time() - 7200))


def collect(served: Served) -> Collected:
    return collect_garbage(served.registry, AGE)


def has(repository: Repository, data: bytes) -> bool:
    """Whether the blob is there, without a request that uses it."""
    return repository.served.registry.catalog.has_blob(sha256(data), repository.name)


def test_what_a_manifest_names_stays_and_the_rest_goes(served: Served, app: Repository) -> None:
    raw = app.image(LAYER)
    child = app.image(b"of the index")
    assert app.push(raw, "1").ok
    assert app.push(child).ok
    listed = index(child)
    assert app.push(listed, "all").ok
    app.push_blob(b"useless")
    app.push_blob(b"useless, too", sha512(b"useless, too"))
    age(served)
    assert collect(served) == Collected(2, len(b"useless" + b"useless, too"))
    assert not has(app, b"useless")
    assert app.ask("GET", f"blobs/{sha256(LAYER)}").content == LAYER
    assert app.ask("GET", f"blobs/{sha256(b'of the index')}").status_code == 200
    assert len(list(served.registry.blobs_folder.glob("*/*"))) == 3  # with the config
    assert collect(served) == Collected(0, 0)


def test_the_layers_of_a_deleted_image_go(served: Served, app: Repository) -> None:
    raw = app.image(LAYER)
    assert app.push(raw, "1").ok
    assert app.ask("DELETE", f"manifests/{sha256(raw)}").ok
    age(served)
    assert collect(served).blobs == 2
    assert not list(served.registry.blobs_folder.glob("*/*"))
    assert app.ask("HEAD", f"blobs/{sha256(LAYER)}").status_code == 404
    assert app.push(app.image(LAYER), "1").ok, "and may come again"


def test_what_another_repository_names_stays_there(served: Served, app: Repository) -> None:
    other = Repository(served, "team/other")
    assert other.push(other.image(LAYER), "1").ok
    app.push_blob(LAYER)
    age(served)
    assert collect(served) == Collected(1, 0)
    assert not has(app, LAYER)
    assert other.ask("GET", f"blobs/{sha256(LAYER)}").content == LAYER


def test_a_blob_that_is_new_or_looked_for_stays(served: Served, app: Repository) -> None:
    app.push_blob(LAYER)
    assert collect(served) == Collected(0, 0)
    age(served)
    assert app.ask("HEAD", f"blobs/{sha256(LAYER)}").ok  # the client will not send it
    assert collect(served) == Collected(0, 0)
    age(served)
    assert app.ask("POST", f"blobs/uploads/?mount={sha256(LAYER)}&from=team/app").status_code == 201
    assert collect(served) == Collected(0, 0)
    age(served)
    app.push_blob(LAYER)
    assert collect(served) == Collected(0, 0)


def test_a_refused_manifest_keeps_what_it_names_for_the_next_try(served: Served, app: Repository) -> None:
    app.push_blob(LAYER)
    age(served)
    absent = descriptor(sha256(b"absent"), b"absent")
    assert app.push(manifest(absent, descriptor(sha256(LAYER), LAYER))).status_code == 404
    assert collect(served) == Collected(0, 0)


def test_files_that_a_crash_left_go(served: Served) -> None:
    path = served.registry.blob_path(sha256(b"left"))
    path.write_bytes(b"left")
    assert collect(served) == Collected(0, 0)
    age(served)
    assert collect(served) == Collected(1, 4)
    assert not path.exists()


def test_it_is_told_and_ends_with_the_server(served: Served, app: Repository) -> None:
    app.push_blob(LAYER)
    age(served)
    told: list[str] = []
    with collecting(served.registry, AGE, told.append):
        wait_until(lambda: told)
    assert told == ["Deleted 1 blob that no manifest names: 4.9 KiB."]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (("--delete-unused", "24h"), "add --local DIR"),
        (("--local", "registry", "--delete-unused", "5m"), "give at least 1h"),
        (("--local", "registry", "--delete-unused", "soon"), "write it like 7d"),
    ],
)
def test_options_that_make_no_sense(pusher: Pusher, options: tuple[str, ...], hint: str) -> None:  # noqa: F811
    result = pusher("serve", *options)
    assert result.code == 2
    assert hint in result.err

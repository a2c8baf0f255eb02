"""Blobs that are read from Docker's content store while they are sent: no export, no copy in the spool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.retry import Backoff
from pusher.store.records import JobState
from tests.support.content_api import ContentApi, stored_blobs
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import FakeRegistry, On
from tests.support.home import CHUNK, Background, Home, blob_bytes, cut_off, pushed
from tests.support.images import Image, write_archive
from tests.support.quick import QUICK

NAME = "docker-daemon:registry.example.com/team/app:1.2"


@pytest.fixture
def docker(tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(engine.folder))
    monkeypatch.setattr("pusher.sources.engine.local_engine.usual_roots", list)
    engine.has(image, write_archive(tmp_path / "a.tar", image, shape="containerd"), containerd=True)
    return engine


@pytest.fixture
def api(docker: FakeEngine, image: Image) -> Iterator[ContentApi]:
    with ContentApi(stored_blobs(image)) as api:
        api.serve(docker)
        yield api
        api.wait_for_no_connection()


def saves(docker: FakeEngine) -> int:
    return sum(call.startswith("save ") for call in docker.calls())


def to(registry: FakeRegistry) -> str:
    return f"{registry.address}/team/app:1"


@pytest.mark.parametrize("over_ssh", [False, True], ids=["socket", "dial-stdio"])
def test_blobs_go_straight_from_docker_to_the_registry(
    home: Home,
    registry: FakeRegistry,
    image: Image,
    docker: FakeEngine,
    api: ContentApi,
    over_ssh: bool,
) -> None:
    api.serve(docker, over_ssh=over_ssh)
    home.push(NAME, to(registry))
    pushed(registry, "team/app", "1", image)
    assert registry.manifests["team/app"]["1"][1] == image.manifest
    assert registry.body_bytes_received() == blob_bytes(registry, "team/app")
    assert saves(docker) == 0
    assert {digest for digest, _, _ in home.spool.blobs()} <= {image.config_digest}
    # one call for each document, and one for each layer, however many chunks it has
    layers = {layer.digest for layer in image.layers}
    assert sorted(digest for digest, _ in api.reads if digest in layers) == sorted(layers)


def test_a_second_push_reads_no_blob(
    home: Home, registry: FakeRegistry, image: Image, docker: FakeEngine, api: ContentApi
) -> None:
    home.push(NAME, to(registry))
    api.reads.clear()
    home.push(NAME, to(registry))
    assert not {layer.digest for layer in image.layers} & {digest for digest, _ in api.reads}
    assert saves(docker) == 0


def test_a_break_inside_a_chunk_sends_nothing_twice(
    home: Home, registry: FakeRegistry, image: Image, docker: FakeEngine, api: ContentApi
) -> None:
    api.break_at = {CHUNK // 2, CHUNK + CHUNK // 2, 2 * CHUNK + 100}
    home.push(NAME, to(registry))
    pushed(registry, "team/app", "1", image)
    assert not api.break_at
    assert registry.body_bytes_received() == blob_bytes(registry, "team/app")


def test_a_daemon_that_restarts_costs_one_chunk_at_most(
    home: Home, registry: FakeRegistry, image: Image, docker: FakeEngine, api: ContentApi
) -> None:
    away = api.path.with_name("away")
    job = home.enqueue(NAME, to(registry))
    worker = Background(home, parallel=1)
    registry.wait_for(lambda r: len(r.requests(On.CHUNK)) >= 2)
    api.path.rename(away)
    api.drop_connections()
    home.progress.wait_for("waiting")
    away.rename(api.path)
    assert worker.join().exit_code == 0, home.events(job.id)
    pushed(registry, "team/app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "team/app") + CHUNK
    assert saves(docker) == 0


def test_a_daemon_that_is_away_for_long_is_not_taken_for_a_bad_session(
    home: Home, registry: FakeRegistry, image: Image, docker: FakeEngine, api: ContentApi
) -> None:
    job = home.enqueue(NAME, to(registry))
    worker = Background(home, parallel=1, retry=replace(QUICK, step=Backoff(0.001, 0.002, tries=2000)))
    registry.wait_for(lambda r: len(r.requests(On.CHUNK)) >= 2)
    api.offered = False
    api.drop_connections()
    home.progress.wait_for("waiting", 25)
    api.offered = True
    assert worker.join().exit_code == 0, home.events(job.id)
    pushed(registry, "team/app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "team/app") + CHUNK
    assert not [kind for kind in home.kinds(job.id) if "lost" in kind]


def test_a_daemon_that_restarts_quickly_costs_nothing(
    tmp_path: Path, registry: FakeRegistry, image: Image, docker: FakeEngine, api: ContentApi
) -> None:
    patient = replace(QUICK, source=Backoff(first=0.02, longest=0.05, tries=400, jitter=False))
    with Home(tmp_path / "patient", retry=patient) as home:
        job = home.enqueue(NAME, to(registry))
        worker = Background(home, parallel=1)
        registry.wait_for(lambda r: len(r.requests(On.CHUNK)) >= 2)
        api.offered = False
        before = api.connections
        api.drop_connections()
        api.wait_for(lambda: api.connections >= before + 2)
        api.offered = True
        assert worker.join().exit_code == 0, home.events(job.id)
        assert home.progress.of("waiting") == []
    pushed(registry, "team/app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "team/app")


def test_after_a_cut_the_next_run_continues_at_the_registrys_offset(
    home: Home, registry: FakeRegistry, image: Image, docker: FakeEngine, api: ContentApi
) -> None:
    job = home.enqueue(NAME, to(registry))
    cut_off(home, registry, 3)
    assert home.state(job.id) is JobState.WAITING
    assert home.run().exit_code == 0
    pushed(registry, "team/app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "team/app") + CHUNK


def test_wrong_bytes_never_become_the_blob(
    home: Home, registry: FakeRegistry, image: Image, docker: FakeEngine, api: ContentApi
) -> None:
    digest = image.layers[0].digest
    damaged = bytearray(api.blobs[digest])
    damaged[50_000] ^= 1
    api.blobs[digest] = bytes(damaged)
    job = home.enqueue(NAME, to(registry))
    assert home.run().exit_code != 0
    error = home.job(job.id).error
    assert error is not None
    assert error.code == "layer-mismatch"
    assert f"a layer in {NAME} should have digest {digest}" in error.message
    assert registry.body_bytes_received() < blob_bytes(registry, "team/app") + 2 * len(damaged)
    assert digest not in registry.blobs["team/app"]
    assert not registry.sessions


def test_an_image_that_was_deleted(
    home: Home, registry: FakeRegistry, image: Image, docker: FakeEngine, api: ContentApi
) -> None:
    job = home.enqueue(NAME, to(registry))
    api.blobs.clear()
    docker.fails("save", "Error response from daemon: No such image")
    docker.fails("inspect", "Error response from daemon: No such image")
    assert home.run().exit_code != 0
    error = home.job(job.id).error
    assert error is not None
    assert error.code == "image-changed"


def test_a_blob_that_was_deleted(
    home: Home, registry: FakeRegistry, image: Image, docker: FakeEngine, api: ContentApi
) -> None:
    job = home.enqueue(NAME, to(registry))
    del api.blobs[image.layers[0].digest]
    assert home.run().exit_code != 0
    error = home.job(job.id).error
    assert error is not None
    assert error.code == "image-changed"
    assert "was deleted from Docker after it was enqueued" in error.message


def test_a_docker_that_offers_it_no_longer_is_asked_for_an_export(
    home: Home, registry: FakeRegistry, image: Image, docker: FakeEngine, api: ContentApi
) -> None:
    home.enqueue(NAME, to(registry))
    api.offered = False
    assert home.run().exit_code == 0
    pushed(registry, "team/app", "1", image)
    assert saves(docker) == 1


def test_docker_standing_still_is_noticed(
    home: Home,
    registry: FakeRegistry,
    image: Image,
    docker: FakeEngine,
    api: ContentApi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pusher.worker.stall_notices.NOTICE_AFTER", 1.0)
    home.enqueue(NAME, to(registry))
    api.stands_still.set()
    worker = Background(home)
    home.progress.wait_for_note("has delivered no data")
    api.stands_still.clear()
    assert worker.join().exit_code == 0
    pushed(registry, "team/app", "1", image)


def test_several_destinations_read_it_each(
    home: Home, registry: FakeRegistry, image: Image, docker: FakeEngine, api: ContentApi
) -> None:
    home.enqueue(NAME, to(registry))
    home.enqueue(NAME, f"{registry.address}/other/app:1")
    assert home.run().exit_code == 0
    pushed(registry, "team/app", "1", image)
    pushed(registry, "other/app", "1", image)
    assert saves(docker) == 0


def test_the_job_keeps_its_documents(
    home: Home, registry: FakeRegistry, image: Image, docker: FakeEngine, api: ContentApi
) -> None:
    job = home.enqueue(NAME, to(registry))
    assert json.loads(image.manifest) in [json.loads(text) for text in job.source["documents"]]

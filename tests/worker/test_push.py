"""One job from the queue to the registry: states, figures, and what is not sent again."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection
from pathlib import Path

import pytest

from pusher.errors import ExitCode, InvalidOption, ReferenceMalformed
from pusher.store.records import BlobState, JobRecord, JobState
from pusher.worker.job_claims import JobClaims
from tests.support.fakeregistry import DISTRIBUTION_2, DISTRIBUTION_3, Answer, FakeRegistry, Fault, On
from tests.support.home import CHUNK, Background, Home, blob_bytes, manifest_digest, pushed
from tests.support.images import SHAPES, Image, Shape, make_image, write_archive

_DENIED = Answer(403, body=b'{"errors": [{"code": "DENIED", "message": "not yours"}]}')


def test_a_job_from_queue_to_registry(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    job = home.enqueue(archive, f"{registry.address}/team/app:1.2")
    assert (job.state, job.destination) == (JobState.QUEUED, f"{registry.address}/team/app:1.2")
    assert [blob.key for blob in home.store.blobs.of_job(job.id)] == [
        image.config_digest,
        *image.diff_ids,
    ]
    assert registry.log == []

    result = home.run()

    assert (result.exit_code, [done.id for done in result.succeeded]) == (ExitCode.DONE, [job.id])
    pushed(registry, "team/app", "1.2", image)
    job = home.job(job.id)
    assert job.digest == manifest_digest(registry, "team/app", "1.2")
    assert job.state == JobState.SUCCEEDED
    assert (job.attempts, job.error, job.lease_owner) == (1, None, None)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.created_at <= job.started_at <= job.finished_at
    assert home.kinds(job.id) == ["queued", "running", "succeeded"]
    assert {layer.state for layer in home.store.blobs.of_job(job.id)} == {BlobState.UPLOADED}
    home.assert_clean()


def test_figures_are_bytes_of_bodies(home: Home, registry: FakeRegistry, archive: Path) -> None:
    job = home.push(archive, f"{registry.address}/app:1")
    blobs = blob_bytes(registry, "app")
    manifest = len(registry.manifests["app"]["1"][1])
    assert home.figures(job.id) == (blobs, blobs, blobs + manifest)
    assert registry.body_bytes_received() == blobs
    assert max(registry.chunks) == CHUNK
    assert sum(registry.chunks) < blobs, "what fits in one request is sent in one PUT"


def test_the_manifest_comes_last_and_blobs_before_it(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    home.push(archive, f"{registry.address}/app:1")
    kinds = [record.kind for record in registry.requests(On.CLOSE, On.CHUNK, On.PUT_MANIFEST)]
    assert kinds[-1] is On.PUT_MANIFEST
    assert kinds.count(On.PUT_MANIFEST) == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_archives_of_every_shape(
    home: Home, registry: FakeRegistry, image: Image, tmp_path: Path, shape: Shape
) -> None:
    archive = write_archive(tmp_path / "shape.tar", image, shape=shape)
    home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    if shape == "containerd":
        assert registry.manifests["app"]["1"][1] == image.manifest, "a manifest that exists is not made anew"
    if shape in ("containerd", "compressed"):
        assert [digest for digest, _, _ in home.spool.blobs()] == [image.config_digest], (
            "no final bytes are copied"
        )


@pytest.mark.parametrize("rules", [DISTRIBUTION_2, DISTRIBUTION_3], ids=lambda rules: rules.name)
def test_other_registries(home: Home, archive: Path, image: Image, rules: object) -> None:
    with FakeRegistry(rules) as registry:  # type: ignore[arg-type]
        job = home.push(archive, f"{registry.address}/app:1")
        pushed(registry, "app", "1", image)
        assert registry.body_bytes_received() == home.figures(job.id)[0]


# --- what need not be sent --------------------------------------------------------------------------------


def test_a_second_push_reads_no_source_and_sends_no_blob(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    home.push(archive, f"{registry.address}/app:1")
    job = home.enqueue(archive, f"{registry.address}/app:2")
    for digest, _, _ in list(home.spool.blobs()):
        home.spool.remove(digest)
    archive.unlink()
    before = len(registry.log)

    assert home.run().exit_code == ExitCode.DONE

    pushed(registry, "app", "2", image)
    sent = [record for record in registry.log[before:] if record.body_received]
    assert [record.kind for record in sent] == [On.PUT_MANIFEST]
    assert {layer.state for layer in home.store.blobs.of_job(job.id)} == {BlobState.EXISTS}
    total, done, sent_bytes = home.figures(job.id)
    assert (done, sent_bytes) == (total, len(registry.manifests["app"]["2"][1]))


def test_blobs_are_mounted_from_another_repository(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    home.push(archive, f"{registry.address}/one/app:1")
    before = registry.body_bytes_received()
    job = home.push(archive, f"{registry.address}/two/app:1")
    pushed(registry, "two/app", "1", image)
    assert registry.body_bytes_received() == before
    assert {layer.state for layer in home.store.blobs.of_job(job.id)} == {BlobState.MOUNTED}
    assert registry.sessions == {}


@pytest.mark.parametrize("still_there", [True, False])
def test_what_another_job_brought_meanwhile_is_mounted_and_not_sent_to_its_end(
    home: Home, registry: FakeRegistry, tmp_path: Path, still_there: bool
) -> None:
    """A worker died with a session half way, which the login of the next job may not continue."""
    archive = write_archive(tmp_path / "app.tar", make_image(10 * CHUNK, compressible=0.0))
    first = home.enqueue(archive, f"{registry.address}/one/app:1")
    registry.faults.add(Fault(On.CHUNK, Answer(503), times=None, nth=4))
    assert home.run(chunk_size=CHUNK, give_up_after=0.2).exit_code == ExitCode.UNFINISHED
    registry.faults.clear()
    registry.faults.add(Fault(On.CHUNK, _DENIED, times=None, path="/one/"))
    home.run([home.enqueue(archive, f"{registry.address}/two/app:1").id], chunk_size=CHUNK)
    registry.faults.clear()
    before = registry.body_bytes_received()
    if not still_there:
        registry.blobs["two/app"].clear()
    assert home.run(chunk_size=CHUNK).exit_code == ExitCode.DONE
    sent = registry.body_bytes_received() - before
    layer = home.store.blobs.of_job(first.id)[1]
    if still_there:
        assert (layer.state, sent) == (BlobState.MOUNTED, 0)
        assert layer.bytes_wasted >= 3 * CHUNK
    else:
        assert layer.state is BlobState.UPLOADED
        assert sent < 8 * CHUNK, "its session was continued"
    assert registry.sessions == {}
    assert home.store.abandoned.all() == []


def test_a_refused_mount_opens_no_second_session(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    home.push(archive, f"{registry.address}/one/app:1")
    registry.blobs["one/app"].clear()
    home.push(archive, f"{registry.address}/two/app:1")
    pushed(registry, "two/app", "1", image)
    opened = [r for r in registry.requests(On.OPEN) if "/two/" in r.path]
    assert len(opened) == len(image.layers) + 1
    assert registry.sessions == {}


def test_a_layer_that_stands_twice_in_an_image_is_sent_once(
    home: Home, registry: FakeRegistry, tmp_path: Path
) -> None:
    once = make_image(30_000, compressible=0.0)
    twice = Image((*once.layers, *once.layers), ("app:1",))
    job = home.push(write_archive(tmp_path / "twice.tar", twice), f"{registry.address}/app:1")
    digests = pushed(registry, "app", "1", twice)
    assert registry.body_bytes_received() == blob_bytes(registry, "app") == home.figures(job.id)[0]
    assert digests[1] == digests[2]


def test_the_same_blob_in_two_jobs_is_sent_once(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """Both jobs run at once; one repository gets the blobs, the other has them mounted."""
    jobs = [home.enqueue(archive, f"{registry.address}/{name}/app:1") for name in ("one", "two")]
    assert home.run().exit_code == ExitCode.DONE
    for name in ("one", "two"):
        pushed(registry, f"{name}/app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "one/app")
    assert sum(home.figures(job.id)[2] for job in jobs) == blob_bytes(registry, "one/app") + sum(
        len(registry.manifests[f"{name}/app"]["1"][1]) for name in ("one", "two")
    )


def test_two_workers_share_a_store(home: Home, registry: FakeRegistry, image: Image, archive: Path) -> None:
    """Each job is done by one of them, and each blob sent by one of them."""
    jobs = [home.enqueue(archive, f"{registry.address}/r{n}/app:1") for n in range(4)]
    workers = [Background(home, parallel=1) for _ in range(2)]
    results = [worker.join() for worker in workers]
    assert [result.exit_code for result in results] == [ExitCode.DONE, ExitCode.DONE]
    done = [job.id for result in results for job in result.succeeded]
    assert sorted(done) == [job.id for job in jobs]
    for n in range(4):
        pushed(registry, f"r{n}/app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "r0/app")
    home.assert_clean()


# --- the order --------------------------------------------------------------------------------------------


def test_higher_priority_first_then_the_older(home: Home, registry: FakeRegistry, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "small.tar", make_image(100))
    for name, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 5)):
        home.enqueue(archive, f"{registry.address}/{name}:1", priority=priority)
    home.run(parallel=1)
    manifests = [record.path.split("/")[2] for record in registry.requests(On.PUT_MANIFEST)]
    assert manifests == ["high", "first", "second", "low"]


def test_big_blobs_of_known_size_go_first(home: Home, registry: FakeRegistry, tmp_path: Path) -> None:
    image = make_image(3_000, 40_000, 200, compressible=0.0)
    archive = write_archive(tmp_path / "gz.tar", image, shape="containerd")
    home.push(archive, f"{registry.address}/warm:1")
    with FakeRegistry(registry.rules) as other:
        job = home.enqueue(archive, f"{other.address}/app:1")
        home.run([job.id], parallel=1)
        closed = [record.query["digest"] for record in other.requests(On.CLOSE)]
    sizes = {layer.digest: len(layer.gzip) for layer in image.layers}
    order = [sizes[digest] for digest in closed if digest in sizes]
    assert order == sorted(order, reverse=True)


def test_parallel_bounds_requests_in_flight(home: Home, registry: FakeRegistry, tmp_path: Path) -> None:
    image = make_image(*[25_000] * 6, compressible=0.0)
    home.settings = home.settings.__class__(**{**vars(home.settings), "parallel": 3})
    home.push(write_archive(tmp_path / "wide.tar", image), f"{registry.address}/app:1")
    # two threads more take small blobs
    assert len({record.connection for record in registry.requests(On.CHUNK)}) <= 3 + 2
    assert threading.active_count() < 50


# --- what enqueue refuses ---------------------------------------------------------------------------------


def test_the_destination_is_the_images_own_name(home: Home, tmp_path: Path) -> None:
    image = make_image(100, names=["registry.example.com/team/app:1.2"])
    job = home.enqueue(write_archive(tmp_path / "named.tar", image))
    assert job.destination == "registry.example.com/team/app:1.2"


def test_an_image_without_a_name_needs_a_destination(home: Home, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "nameless.tar", make_image(100, names=[]))
    with pytest.raises(InvalidOption) as caught:
        home.enqueue(archive)
    assert "--to" in caught.value.hint
    assert home.store.jobs.list() == []


def test_a_destination_ends_in_a_tag(home: Home, archive: Path) -> None:
    with pytest.raises(ReferenceMalformed):
        home.enqueue(archive, "registry.example.com/app@sha256:" + "0" * 64)
    assert home.store.jobs.list() == []


def test_the_level_chosen_for_a_job_is_its_own(home: Home, registry: FakeRegistry, tmp_path: Path) -> None:
    image = make_image(60_000, compressible=1.0)
    archive = write_archive(tmp_path / "text.tar", image)
    home.push(archive, f"{registry.address}/app:best", compression_level=9)
    manifest = json.loads(registry.manifests["app"]["best"][1])
    (known,) = home.store.known_blobs.of_layers([image.diff_ids[0]])[image.diff_ids[0]]
    assert known.compression.startswith("deflate")
    assert known.digest == manifest["layers"][0]["digest"]


def test_a_run_of_given_jobs_looks_for_no_other_while_they_run(
    home: Home, registry: FakeRegistry, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look is a transaction that writes, beside those of the uploads."""
    at_work: list[int] = []
    claim = JobClaims.claim

    def count(self: JobClaims, others: Collection[JobRecord]) -> JobRecord | None:
        at_work.append(len(others))
        return claim(self, others)

    monkeypatch.setattr(JobClaims, "claim", count)
    job = home.enqueue(archive, f"{registry.address}/app:1")
    assert home.run([job.id], parallel=4).exit_code == ExitCode.DONE
    assert set(at_work) == {0}

"""What goes wrong while a job is pushed: job state, exit code, what is kept, what is said."""

from __future__ import annotations

import gzip
import itertools
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.errors import ExitCode, LeaseLost, RegistryUnreachable
from pusher.oci.layer_blob import LayerBlob
from pusher.registry.client import RegistryClient
from pusher.registry.upload import profiles
from pusher.store.records import BlobState, JobState
from pusher.worker.blob_sender import BlobSender
from pusher.worker.preparation import BlobPreparer
from tests.support.fakeregistry import (
    SERVERLESS,
    Answer,
    DropReply,
    FakeRegistry,
    Fault,
    On,
    ResetAfter,
    Stall,
    bad_gateway,
    busy,
)
from tests.support.home import CHUNK, Background, Home, blob_bytes, cut_off, pushed
from tests.support.images import Image, make_image, write_archive
from tests.support.layouts import Layout

# --- the registry is away ---------------------------------------------------------------------------------


def test_a_registry_that_goes_away_and_comes_back(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """The job waits with the time of its next try, and goes on where the registry stands."""
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    worker = Background(home)
    registry.wait_for_fault(On.CHUNK)
    registry.stop()
    home.progress.wait_for("job_ended")
    waiting = home.job(job.id)
    if waiting.state == JobState.WAITING:  # else it is being tried again at this moment
        assert waiting.next_try_at is not None
    assert waiting.error is not None
    assert waiting.error.code == "registry-unreachable"
    registry.faults.clear()
    registry.start()
    assert worker.join().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert home.job(job.id).error is None
    assert home.job(job.id).attempts == 1, "being offline is no attempt"
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + 2 * CHUNK
    home.assert_clean()


def test_a_waiting_job_is_seen_in_the_store(
    home: Home, registry: FakeRegistry, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.stop()
    job = home.enqueue(archive, f"{registry.address}/app:1")
    assert home.run(give_up_after=0.05).exit_code == ExitCode.UNFINISHED
    waiting = home.job(job.id)
    assert waiting.state == JobState.WAITING
    assert waiting.next_try_at is not None
    assert waiting.lease_owner is None
    assert waiting.error is not None
    assert (waiting.error.code, waiting.attempts) == ("registry-unreachable", 0)
    registry.start()


def test_a_drain_gives_up_after_long_silence_and_a_later_run_succeeds(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    registry.stop()
    job = home.enqueue(archive, f"{registry.address}/app:1")
    result = home.run(give_up_after=4)
    assert result.exit_code == ExitCode.UNFINISHED
    assert [left.id for left in result.unfinished] == [job.id]
    assert home.kinds(job.id).count("waiting") > 1, "it was tried more than once"
    registry.start()
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)


def test_a_failing_registry_counts_as_attempts(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    registry.faults.add(Fault(On.OPEN, bad_gateway(), times=30))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert home.job(job.id).attempts > 1


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_front_that_fails_for_a_while_costs_no_session(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, status: int
) -> None:
    registry.faults.add(Fault(On.CHUNK, bad_gateway(status), nth=3, times=12))
    job = home.push(archive, f"{registry.address}/app:1")
    registry.faults.assert_all_fired()
    pushed(registry, "app", "1", image)
    assert "session-lost" not in home.kinds(job.id)
    assert sum(registry.chunks) < blob_bytes(registry, "app"), "no chunk that was taken is sent again"


def test_a_long_retry_after_is_obeyed_by_the_job(home: Home, registry: FakeRegistry, archive: Path) -> None:
    registry.faults.add(Fault(On.OPEN, busy("600"), times=None))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    assert home.run(give_up_after=0.05).exit_code == ExitCode.UNFINISHED
    waiting = home.job(job.id)
    assert waiting.next_try_at is not None
    assert waiting.error is not None
    assert waiting.error.code == "registry-busy"
    assert 500 < (waiting.next_try_at - home.store.now()).total_seconds() <= 600
    assert not any("is tried again in" in note for (note,) in home.progress.of("note"))


def test_a_run_that_waits_for_jobs_of_an_earlier_one_says_so(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    registry.faults.add(Fault(On.OPEN, busy("600"), times=None))
    jobs = [home.enqueue(archive, f"{registry.address}/{name}:1") for name in ("a", "b")]
    assert home.run(give_up_after=0.05).exit_code == ExitCode.UNFINISHED
    assert not [note for (note,) in home.progress.of("note") if "is tried again in" in note]
    first = min(jobs, key=lambda job: home.job(job.id).next_try_at or home.store.now())
    worker = Background(home)
    home.progress.wait_for_note(f"s, and 1 more after it: {registry.address}")
    (note,) = [note for (note,) in home.progress.of("note") if "is tried again in" in note]
    assert note.startswith(f"job {first.id} is tried again in ")
    for job in jobs:
        home.store.jobs.cancel(job.id)
    worker.join()


@pytest.mark.parametrize("on", [On.OPEN, On.CHUNK, On.CLOSE, On.PUT_MANIFEST, On.HEAD_BLOB])
@pytest.mark.parametrize("action", [DropReply(), DropReply(reset=True), bad_gateway(503), ResetAfter(0)])
def test_one_fault_costs_no_more_than_one_chunk(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, on: On, action: object
) -> None:
    registry.faults.add(Fault(on, action, nth=2 if on is not On.PUT_MANIFEST else 1))  # type: ignore[arg-type]
    job = home.push(archive, f"{registry.address}/app:1")
    registry.faults.assert_all_fired()
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK
    total, done, sent = home.figures(job.id)
    assert done == total == blob_bytes(registry, "app")
    assert sent >= total
    home.assert_clean()


def test_a_link_that_breaks_at_every_other_chunk_is_bad_and_no_trouble(
    home: Home, registry: FakeRegistry, tmp_path: Path
) -> None:
    """Patience is counted from the last byte that got through: many breaks in one attempt are fine."""
    image = make_image(300_000, compressible=0.0)
    turn = itertools.count()
    breaks = Fault(On.CHUNK, ResetAfter(CHUNK // 2), times=None, where=lambda _: next(turn) % 2 == 0)
    registry.faults.add(breaks)
    job = home.push(write_archive(tmp_path / "long.tar", image), f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    assert breaks.fired > 12
    assert home.kinds(job.id) == ["queued", "running", "succeeded"]
    counted = [text for kind, text in home.events(job.id) if kind == "connection-breaks"]
    layer = next(blob.digest for blob in home.store.blobs.of_job(job.id) if not blob.is_config)
    counts = [
        re.fullmatch(rf"{layer}: the connection broke (once|(\d+) times) on the way", text)
        for text in counted
    ]
    assert sum(int(count[2] or 1) for count in counts if count) == breaks.fired, (
        "also while it was compressed"
    )
    assert not [note for note, *_ in home.progress.of("note") if "broke" in note]
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + breaks.fired * CHUNK


def test_bytes_sent_counts_what_is_sent_again(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    registry.faults.add(Fault(On.CHUNK, DropReply(), nth=1), Fault(On.CHUNK, ResetAfter(CHUNK), nth=3))
    job = home.push(archive, f"{registry.address}/app:1")
    manifest = len(registry.manifests["app"]["1"][1])
    assert home.figures(job.id)[2] == registry.body_bytes_received() + manifest
    assert registry.body_bytes_received() == blob_bytes(registry, "app") + CHUNK


# --- the registry refuses ---------------------------------------------------------------------------------


def test_a_wrong_password_fails_at_once(home: Home, image: Image, archive: Path) -> None:
    with FakeRegistry(credentials=("user", "right")) as registry:
        job = home.enqueue(archive, f"{registry.address}/app:1")
        result = home.run(username="user", password="wrong")
        assert result.exit_code == ExitCode.AUTH
        error = home.job(job.id).error
        assert error is not None
        assert (home.state(job.id), error.code) == (JobState.FAILED, "credentials-rejected")
        assert "wrong" not in error.message + error.hint
        assert registry.body_bytes_received() == 0
        home.store.jobs.retry(job.id)
        assert home.run(username="user", password="right").exit_code == ExitCode.DONE
        pushed(registry, "app", "1", image)


def test_no_password_where_one_is_wanted(home: Home, archive: Path) -> None:
    with FakeRegistry(credentials=("user", "right")) as registry:
        job = home.enqueue(archive, f"{registry.address}/app:1")
        assert home.run().exit_code == ExitCode.AUTH
        error = home.job(job.id).error
        assert error is not None
        assert error.code == "credentials-missing"


def test_a_refusal_ends_the_job(home: Home, registry: FakeRegistry, archive: Path) -> None:
    registry.faults.add(Fault(On.OPEN, Answer(400, body=b"no such thing"), times=None))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    assert home.run().exit_code == ExitCode.REFUSED
    assert home.state(job.id) == JobState.FAILED
    assert registry.body_bytes_received() == 0


def test_several_failures_of_several_kinds_exit_with_3(
    home: Home, registry: FakeRegistry, archive: Path, tmp_path: Path
) -> None:
    lost = write_archive(tmp_path / "lost.tar", make_image(500, seed=9))
    home.enqueue(lost, f"{registry.address}/lost:1")
    lost.unlink()
    refused = Answer(400, body=b'{"errors": [{"code": "NAME_INVALID"}]}')
    registry.faults.add(Fault(On.OPEN, refused, times=None, path="/app/"))
    home.enqueue(archive, f"{registry.address}/app:1")
    good = home.enqueue(
        write_archive(tmp_path / "good.tar", make_image(600, seed=8)), f"{registry.address}/good:1"
    )
    result = home.run()
    assert result.exit_code == ExitCode.FAILED
    assert [job.id for job in result.succeeded] == [good.id], "one job's trouble is not another's"


def test_a_layer_that_the_registry_cannot_store_is_refused_before_a_byte(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeRegistry(SERVERLESS.scaled(min=1_000, max=CHUNK, blob=50_000)) as registry:
        small = replace(profiles.SERVERLESS, min_chunk=1_000, max_chunk=CHUNK, max_blob=50_000)
        monkeypatch.setitem(profiles.PROFILES, small.name, small)
        archive = write_archive(tmp_path / "big.tar", make_image(200, 60_000, compressible=0.0))
        job = home.enqueue(archive, f"{registry.address}/app:1")
        # one after the other: what is stopped beside it may have opened a session, for the next run
        assert home.run(parallel=1).exit_code == ExitCode.REFUSED
        error = home.job(job.id).error
        assert error is not None
        assert (home.state(job.id), error.code) == (JobState.FAILED, "layer-too-large")
        assert "50000" in error.message
        big = max(layer.size or 0 for layer in home.store.blobs.of_job(job.id))
        assert big > 50_000
        assert registry.requests(On.CHUNK) == []
        assert registry.body_bytes_received() < 5_000, "the config and the little layer at most"
        assert registry.manifests == {}
        assert registry.sessions == {}, "the session that told its limits is deleted"

        layout = Layout()
        layout.add(layout.image(make_image(200, 60_000, seed=3, compressible=0.0)))
        before = len(registry.requests(On.OPEN)), registry.body_bytes_received()
        job = home.enqueue(f"oci:{layout.write_folder(tmp_path / 'layout')}", f"{registry.address}/app:2")
        assert home.run().exit_code == ExitCode.REFUSED
        error = home.job(job.id).error
        assert error is not None
        assert (error.code, "--split-layers 50000" in error.hint) == ("layer-too-large", True)
        assert registry.body_bytes_received() == before[1], "sizes are known: no other blob is sent either"
        assert len(registry.requests(On.OPEN)) == before[0] + 1
        assert registry.sessions == {}


def test_a_layer_that_a_registry_has_is_not_too_large_for_it(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeRegistry(SERVERLESS.scaled(min=1_000, max=CHUNK)) as registry:
        layout = Layout()
        layout.add(layout.image(make_image(200, 60_000, compressible=0.0)))
        written = f"oci:{layout.write_folder(tmp_path / 'layout')}"
        home.push(written, f"{registry.address}/app:1")
        small = replace(profiles.SERVERLESS, min_chunk=1_000, max_chunk=CHUNK, max_blob=50_000)
        monkeypatch.setitem(profiles.PROFILES, small.name, small)
        home.push(written, f"{registry.address}/app:2")


def test_blob_unknown_on_the_manifest_sends_those_blobs_again(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """HEAD and the store say that the blob is there, and it is not."""
    home.push(archive, f"{registry.address}/app:1")
    digest = pushed(registry, "app", "1", image)[1]
    registry.remove_blob("app", digest)
    lie = Answer(200, {"Docker-Content-Digest": digest})
    registry.faults.add(Fault(On.HEAD_BLOB, lie, times=1, path=digest))
    job = home.push(archive, f"{registry.address}/app:2")
    registry.faults.assert_all_fired()
    pushed(registry, "app", "2", image)
    states = {layer.digest: layer.state for layer in home.store.blobs.of_job(job.id)}
    assert states.pop(digest) == BlobState.UPLOADED
    assert set(states.values()) == {BlobState.EXISTS}, "only what it missed is sent again"
    assert "blobs-unknown" in home.kinds(job.id)
    assert [record.status for record in registry.requests(On.PUT_MANIFEST)] == [201, *[400] * 3, 201]


def test_a_registry_that_never_knows_a_blob_ends_the_job(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    body = b'{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown","detail":null}]}'
    registry.faults.add(Fault(On.PUT_MANIFEST, Answer(400, body=body), times=None))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    assert home.run().exit_code == ExitCode.REFUSED
    assert home.state(job.id) == JobState.FAILED
    assert len(registry.requests(On.PUT_MANIFEST)) == 6, "each time with two looks at what may be late"


# --- what lies on disk ------------------------------------------------------------------------------------


def test_a_blob_damaged_in_the_spool_is_made_anew(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    registry.stop()
    job = home.enqueue(archive, f"{registry.address}/app:1")
    home.run(give_up_after=0.05)
    digest, size, _ = max(home.spool.blobs(), key=lambda blob: blob[1])
    path = home.spool.path(digest)
    data = bytearray(path.read_bytes())
    data[size // 2] ^= 0xFF
    path.write_bytes(data)
    registry.start()
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert home.spool.verify(digest)
    assert home.state(job.id) == JobState.SUCCEEDED


def test_a_truncated_blob_in_the_spool_is_made_anew(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    registry.stop()
    home.enqueue(archive, f"{registry.address}/app:1")
    home.run(give_up_after=0.05)
    digest, size, _ = max(home.spool.blobs(), key=lambda blob: blob[1])
    with home.spool.path(digest).open("r+b") as file:
        file.truncate(size - 1)
    registry.start()
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)


def test_a_half_sent_blob_that_is_compressed_again_goes_on_in_its_session(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """The spool was emptied between two runs: compression gives the same bytes, so the session is good."""
    job = home.enqueue(archive, f"{registry.address}/app:1")
    cut_off(home, registry, 3)
    assert home.state(job.id) == JobState.WAITING
    assert 0 < len(registry.chunks) < 4
    for digest, _, _ in list(home.spool.blobs()):
        home.spool.remove(digest)
    assert home.run().exit_code == ExitCode.DONE
    digests = pushed(registry, "app", "1", image)
    assert len({r.path for r in registry.requests(On.CHUNK)}) == 1, "one session"
    sent = sum(record.body_received for record in registry.requests(On.CHUNK) if record.status == 202)
    assert sent == len(registry.blob("app", digests[1]))


# --- bugs and lost leases ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "name"), [(BlobSender, "send"), (BlobPreparer, "prepare"), (RegistryClient, "put_manifest")]
)
def test_a_bug_fails_the_job_and_hangs_nothing(
    home: Home, registry: FakeRegistry, archive: Path, monkeypatch: pytest.MonkeyPatch, where: type, name: str
) -> None:
    def bug(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("here")

    monkeypatch.setattr(where, name, bug)
    job = home.enqueue(archive, f"{registry.address}/app:1")
    result = Background(home).join()
    assert result.exit_code == ExitCode.UNEXPECTED
    error = home.job(job.id).error
    assert error is not None
    assert (home.state(job.id), error.code) == (JobState.FAILED, "unexpected")
    assert "ZeroDivisionError" in error.message


@pytest.mark.parametrize("where", ["set_done", "set_blob"])
def test_a_job_taken_over_is_left_alone(
    home: Home, registry: FakeRegistry, archive: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A worker that slept through its lease writes nothing more about the job."""
    job = home.enqueue(archive, f"{registry.address}/app:1")
    original = getattr(home.store.blobs, where)
    taken = threading.Event()

    def take(*args: object, **kwargs: object) -> None:
        if not taken.is_set():
            taken.set()
            owner = home.job(job.id).lease_owner
            assert owner is not None
            assert home.store.jobs.claim("elsewhere/1", lease=60, dead_owners={owner}) is not None
        original(*args, **kwargs)

    monkeypatch.setattr(home.store.blobs, where, take)
    result = Background(home).join()
    assert [left.id for left in result.unfinished] == [job.id]
    assert home.job(job.id).lease_owner == "elsewhere/1"
    assert home.state(job.id) == JobState.RUNNING
    assert registry.requests(On.PUT_MANIFEST) == []
    assert [args[1] for args in home.progress.of("job_ended")] == ["taken"]


def test_an_upload_taken_over_is_taken_up_again(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease of one upload is lost and free again, the job's is not: the blob is looked at afresh."""
    uploads = home.store.uploads
    original, lost = uploads.record_offset, list[bool]()

    def lose_once(upload, **values):  # type: ignore[no-untyped-def]
        if not lost:
            lost.append(True)
            raise LeaseLost("slept too long")
        return original(upload, **values)

    monkeypatch.setattr(uploads, "record_offset", lose_once)
    home.push(archive, f"{registry.address}/app:1")
    assert lost
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK


def test_a_known_blob_of_another_kind_is_not_used(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """A zstd blob of the same layer cannot stand in a Docker manifest."""
    layer = image.layers[0]
    home.store.known_blobs.remember(
        LayerBlob(
            "sha256:" + "e" * 64,
            5,
            "original",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            layer.diff_id,
            len(layer.tar),
        )
    )
    home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)


def test_a_layer_known_under_two_blobs_takes_the_one_that_is_there(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """Another tool compressed it once; the registry has that blob, so nothing is read or sent of it."""
    home.push(archive, f"{registry.address}/first:1")
    layer = image.layers[0]
    theirs = gzip.compress(layer.tar, 9, mtime=0)
    digest = registry.add_blob("app", theirs)
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    home.store.known_blobs.remember(
        LayerBlob(digest, len(theirs), "theirs", media_type, layer.diff_id, len(layer.tar))
    )
    for spooled, _, _ in list(home.spool.blobs()):
        home.spool.remove(spooled)
    job = home.enqueue(archive, f"{registry.address}/app:1")
    archive.unlink()
    assert home.run().exit_code == ExitCode.DONE
    assert pushed(registry, "app", "1", image)[1] == digest
    assert home.store.blobs.of_job(job.id)[1].state == BlobState.EXISTS


def test_unreachable_is_told_while_it_lasts(home: Home, registry: FakeRegistry, archive: Path) -> None:
    registry.stop()
    home.enqueue(archive, f"{registry.address}/app:1")
    home.run(give_up_after=0.05)
    told = home.progress.of("waiting")
    assert told
    assert all(registry.address in reason for _, _, reason in told)
    assert any(what.startswith("job ") and seconds > 0 for what, seconds, _ in told), (
        "the job's own pause too"
    )
    assert home.progress.of("job_ended")[-1][1] == "waiting"


def test_states_of_layers_while_a_job_waits(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    cut_off(home, registry, 2)
    half = [layer for layer in home.store.blobs.of_job(job.id) if layer.state == BlobState.UPLOADING]
    assert [layer.offset for layer in half] == [CHUNK]
    total, done, _ = home.figures(job.id)
    assert done == sum(layer.offset for layer in home.store.blobs.of_job(job.id)) < total


def test_the_error_says_which_registry(home: Home, registry: FakeRegistry, archive: Path) -> None:
    registry.stop()
    job = home.enqueue(archive, f"{registry.address}/app:1")
    home.run(give_up_after=0.01)
    error = home.job(job.id).error
    assert error is not None
    assert registry.address in error.message
    assert error.code == RegistryUnreachable.code

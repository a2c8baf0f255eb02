"""A large layer is sent while it is being compressed, and never as anything but what it is."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pusher.config.timetable import Timetable
from pusher.errors import ExitCode, SourceError
from pusher.oci.digest import provisional_digest
from pusher.registry.upload.profiles import PROFILES
from pusher.spool import compress
from pusher.store.records import BlobState, JobState, UploadRecord, UploadState
from pusher.worker import run
from pusher.worker import unfinished as unfinished_module
from pusher.worker.cleanup import cancel
from pusher.worker.control import Control
from pusher.worker.unfinished import EarlyStart, UnfinishedBlob
from tests.registry.helpers import RULES
from tests.registry.kinds import KINDS, Kind
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import (
    DISTRIBUTION_2,
    DISTRIBUTION_3,
    SERVERLESS,
    FakeRegistry,
    Fault,
    On,
    ResetAfter,
    Rules,
)
from tests.support.home import Background, Home, blob_bytes, pushed
from tests.support.images import (
    UNCOMPRESSED,
    Image,
    Layer,
    Shape,
    make_image,
    random_bytes,
    sha256,
    tar_of,
    write_archive,
)
from tests.support.slow_source import SlowSource
from tests.support.waiting import PATIENCE

CHUNK: Final = 10_000
HALF: Final = 13
"""The block in the middle of the layer."""


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> SlowSource:
    return SlowSource(monkeypatch)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(DISTRIBUTION_3) as registry:
        yield registry


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home", chunk_size=CHUNK) as home:
        yield home


@pytest.fixture
def image() -> Image:
    """Ten chunks, and a layer that goes whole."""
    return make_image(100_000, 300, compressible=0.0)


@pytest.fixture
def archive(tmp_path: Path, image: Image) -> Path:
    return write_archive(tmp_path / "app.tar", image)


def chunks(registry: FakeRegistry, count: int) -> None:
    """Wait until the registry has acknowledged so many chunks."""
    registry.wait_for(lambda r: sum((record.status or 999) < 300 for record in r.requests(On.CHUNK)) >= count)


def test_it_is_told_how_much_is_to_come_and_when(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished_module, "time", SimpleNamespace(monotonic=lambda: 102.0))
    begun: list[UnfinishedBlob] = []
    unfinished = UnfinishedBlob(f"sha256:{64 * '1'}", 100_000, compress.GZIP)
    early = EarlyStart(unfinished, 100_000, 20_000, begun.append, begun_at=100.0)
    early.start_if_large(10_000)
    assert begun == [], "nothing is compressed yet"
    unfinished.arrival.record_write(5_000, hashlib.sha256())
    early.start_if_large(10_000)
    assert begun == [unfinished]
    size, seconds = unfinished.arrival.forecast()
    assert 30_000 < size < 50_000
    assert seconds == pytest.approx(18)


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_it_is_sent_before_its_end_is_read(
    kind: Kind,
    source: SlowSource,
    tmp_path: Path,
    archive: Path,
    image: Image,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the rules of every registry; those that take no chunks get the blob once it is complete."""
    monkeypatch.setitem(PROFILES, kind.name, kind.profile)
    takes_chunks = kind.profile.takes_chunks and not kind.profile.whole
    with (
        FakeRegistry(kind.rules) as registry,
        Home(tmp_path / "home", chunk_size=5000, profile=kind.name) as home,
    ):
        source.hold_at(HALF, lambda: chunks(registry, 3) if takes_chunks else None)
        job = home.push(archive, f"{registry.address}/app:1")
        pushed(registry, "app", "1", image)
        assert registry.body_bytes_received() == blob_bytes(registry, "app")
        assert registry.sessions == {}
        total, done, _ = home.figures(job.id)
        assert total == done == blob_bytes(registry, "app")
        assert "session-lost" not in home.kinds(job.id)
        home.assert_clean()


def test_the_session_of_a_surely_large_layer_is_opened_before_it_is_read(
    home: Home, registry: FakeRegistry, source: SlowSource, tmp_path: Path
) -> None:
    image = make_image(100_000, compressible=0.0)
    archive = write_archive(tmp_path / "app.tar", image)
    both = 2  # the config's, too
    source.hold_at(1, lambda: registry.wait_for(lambda r: len(r.requests(On.OPEN)) == both))
    home.enqueue(archive, f"{registry.address}/app:1")
    assert home.run(chunk_size=20_000).exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app")
    assert registry.sessions == {}


@pytest.mark.parametrize("rules", [SERVERLESS.scaled(min=1_000), DISTRIBUTION_2, DISTRIBUTION_3])
def test_one_that_shrinks_more_than_was_expected_takes_one_session(
    rules: Rules, home: Home, tmp_path: Path
) -> None:
    image = Image((Layer(tar_of([("zeros", bytes(500_000))])),))
    archive = write_archive(tmp_path / "app.tar", image)
    with FakeRegistry(rules) as registry:
        home.push(archive, f"{registry.address}/app:1")
        pushed(registry, "app", "1", image)
        assert registry.body_bytes_received() == blob_bytes(registry, "app")
        assert len(registry.requests(On.OPEN)) == 2, "one is the config's"
        assert registry.sessions == {}
    home.assert_clean()


@pytest.mark.parametrize("shape", UNCOMPRESSED)
def test_so_is_one_that_an_engine_saves(
    shape: Shape,
    home: Home,
    registry: FakeRegistry,
    source: SlowSource,
    image: Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = FakeEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(engine.folder))
    engine.has(image, write_archive(tmp_path / "app.tar", image, shape=shape))
    source.hold_at(HALF, lambda: chunks(registry, 3))
    home.push("app:1", f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app")
    home.assert_clean()


def _begun(registry: FakeRegistry) -> None:
    """Wait until the first chunk is begun."""
    registry.wait_for(lambda r: r.requests(On.CHUNK) != [])


def test_a_chunk_begins_before_all_of_it_is_compressed(
    home: Home, registry: FakeRegistry, source: SlowSource, tmp_path: Path
) -> None:
    image = make_image(400_000, compressible=0.0)
    archive = write_archive(tmp_path / "app.tar", image)
    source.write_at_once()
    source.hold_at(12, lambda: _begun(registry))
    home.enqueue(archive, f"{registry.address}/app:1")
    assert home.run(chunk_size=60_000).exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app")


@pytest.mark.parametrize("rules", [SERVERLESS.scaled(min=1_000), DISTRIBUTION_2, DISTRIBUTION_3])
def test_a_chunk_that_turns_out_too_long_is_cut_off(
    rules: Rules, source: SlowSource, home: Home, tmp_path: Path
) -> None:
    """Of a layer that begins with noise and goes on with zeros."""
    layer = Layer(tar_of([("noise", random_bytes(30_000, compressible=0.0)), ("zeros", bytes(500_000))]))
    image = Image((layer,))
    archive = write_archive(tmp_path / "app.tar", image)
    with FakeRegistry(rules) as registry:
        source.write_at_once()
        source.hold_at(5, lambda: _begun(registry))
        job = home.enqueue(archive, f"{registry.address}/app:1")
        assert home.run(chunk_size=60_000).exit_code == ExitCode.DONE
        pushed(registry, "app", "1", image)
        assert registry.body_bytes_received() <= 2 * blob_bytes(registry, "app")
        assert len(registry.sessions) == (rules is DISTRIBUTION_2), "that one is unusable"
        assert home.state(job.id) is JobState.SUCCEEDED


def test_a_chunk_that_was_begun_is_finished_before_the_job_stops(
    home: Home,
    registry: FakeRegistry,
    source: SlowSource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = make_image(400_000, compressible=0.0)
    archive = write_archive(tmp_path / "app.tar", image)
    controls: list[Control] = []

    def new_control(parent: Control | None = None) -> Control:
        controls.append(Control(parent))
        return controls[-1]

    def stop() -> None:
        _begun(registry)
        controls[0].stop()

    monkeypatch.setattr(run, "Control", new_control)
    source.write_at_once()
    source.hold_at(12, stop)
    home.enqueue(archive, f"{registry.address}/app:1")
    assert home.run(chunk_size=60_000).exit_code != ExitCode.DONE
    assert [record.body_received for record in registry.requests(On.CHUNK)] == [60_000]
    source.hold_at(0, lambda: None)
    assert home.run(chunk_size=60_000).exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app")


def test_so_is_a_layer_whose_known_blob_is_of_another_kind(
    home: Home, registry: FakeRegistry, source: SlowSource, archive: Path, image: Image
) -> None:
    home.push(archive, f"{registry.address}/app:1", compression="zstd")
    before = len(registry.requests(On.CHUNK))
    source.hold_at(HALF, lambda: chunks(registry, before + 3))
    home.push(archive, f"{registry.address}/app:2", compression="gzip")
    pushed(registry, "app", "2", image)
    home.assert_clean()


def test_no_early_sends_nothing_of_it_before(
    home: Home, registry: FakeRegistry, source: SlowSource, archive: Path, image: Image
) -> None:
    sent: list[int] = []
    source.hold_at(25, lambda: sent.append(len(registry.chunks)))
    home.enqueue(archive, f"{registry.address}/app:1")
    assert home.run(no_early=True).exit_code == ExitCode.DONE
    assert sent == [0]
    pushed(registry, "app", "1", image)


def test_a_layer_of_little_more_than_a_chunk_is_not_worth_it(
    registry: FakeRegistry, source: SlowSource, tmp_path: Path, archive: Path
) -> None:
    with Home(tmp_path / "home", chunk_size=75_000) as home:
        home.push(archive, f"{registry.address}/app:1")
        assert not any("layer " in str(call[2]) for call in home.progress.calls if call[0] == "blob_started")


def test_what_is_shown_of_it(home: Home, registry: FakeRegistry, source: SlowSource, archive: Path) -> None:
    """Its layer and no size while it is compressed, then its digest and size; status counts its bytes."""
    layers: list[tuple[str | None, BlobState, int, bool]] = []
    job = home.enqueue(archive, f"{registry.address}/app:1")
    stored = threading.Event()

    def on_acknowledged(_job: int, _digest: str, offset: int) -> None:
        if offset >= 3 * CHUNK:
            stored.set()

    home.progress.hooks["blob_acknowledged"] = on_acknowledged

    def look() -> None:
        assert stored.wait(PATIENCE)
        layer = max(home.store.blobs.of_job(job.id), key=lambda blob: blob.offset)
        totals = home.store.jobs.totals([job.id])[job.id]
        assert totals.bytes_total == totals.bytes_done >= 3 * CHUNK
        layers.append((layer.digest, layer.state, layer.offset % CHUNK, totals.sizes_known))

    source.hold_at(HALF, look)
    assert home.run().exit_code == ExitCode.DONE
    assert layers == [(None, BlobState.UPLOADING, 0, False)]
    diff_id = next(
        blob.diff_id for blob in home.store.blobs.of_job(job.id) if blob.size and blob.size > CHUNK
    )
    started = [call for call in home.progress.of("blob_started") if call[1].endswith(str(diff_id))]
    assert started == [(job.id, provisional_digest(str(diff_id)), None, 0)]
    digest = next(blob.digest for blob in home.store.blobs.of_job(job.id) if blob.diff_id == diff_id)
    names = [call[1] for call in home.progress.of("blob_acknowledged") if call[1] in (started[0][1], digest)]
    assert names == sorted(names, reverse=False) or names.index(digest) > 0


def test_the_registry_has_it_after_all(
    home: Home, registry: FakeRegistry, source: SlowSource, archive: Path, image: Image, tmp_path: Path
) -> None:
    """Its session is deleted, and what was sent counts as wasted."""
    with FakeRegistry(DISTRIBUTION_3) as other, Home(tmp_path / "other", chunk_size=CHUNK) as elsewhere:
        elsewhere.push(archive, f"{other.address}/app:1")
        blob = max((other.blob("app", digest) for digest in other.blobs["app"]), key=len)

    def store() -> None:
        chunks(registry, 3)
        registry.add_blob("app", blob)

    source.hold_at(HALF, store)
    job = home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    (layer,) = [one for one in home.store.blobs.of_job(job.id) if one.digest == sha256(blob)]
    assert layer.state is BlobState.EXISTS
    assert layer.bytes_wasted == layer.bytes_sent >= 3 * CHUNK
    registry.wait_for(lambda r: r.sessions == {})
    assert home.store.dead_sessions.all() == []


def test_a_chunk_is_not_sent_to_its_end_once_the_registry_turns_out_to_have_the_blob(
    registry: FakeRegistry, source: SlowSource, archive: Path, image: Image, tmp_path: Path
) -> None:
    with FakeRegistry(DISTRIBUTION_3) as other, Home(tmp_path / "other") as elsewhere:
        elsewhere.push(archive, f"{other.address}/app:1", compression_level=2)
        blob = max((other.blob("app", digest) for digest in other.blobs["app"]), key=len)

    def store() -> None:
        registry.wait_for(lambda r: bool(r.requests(On.CHUNK)))
        registry.add_blob("app", blob)

    chunk, rate = 60_000, 2_000  # so the chunk takes half a minute
    source.hold_at(20, store)
    source.write_at_once()
    with Home(tmp_path / "home", chunk_size=chunk, limit_rate=Timetable(rate)) as home:
        job = home.push(archive, f"{registry.address}/app:1", compression_level=2)
        (layer,) = [one for one in home.store.blobs.of_job(job.id) if one.digest == sha256(blob)]
        assert layer.state is BlobState.EXISTS
        assert layer.bytes_wasted == layer.bytes_sent < chunk
        registry.wait_for(lambda r: r.sessions == {})
        assert home.store.dead_sessions.all() == []
    pushed(registry, "app", "1", image)


def test_a_damaged_layer_is_never_closed(
    home: Home, registry: FakeRegistry, source: SlowSource, tmp_path: Path
) -> None:
    image = make_image(100_000, compressible=0.0)
    archive = _with_damaged_end(write_archive(tmp_path / "good.tar", image), image.layers[0].tar)
    source.hold_at(HALF, lambda: chunks(registry, 3))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    assert home.run().exit_code == ExitCode.SOURCE
    assert "should have diff ID" in str(home.job(job.id).error)
    assert [digest for digest in registry.blobs["app"] if digest != image.config_digest] == []
    registry.wait_for(lambda r: r.sessions == {})
    assert "session-discarded" in home.kinds(job.id)
    assert "session-lost" not in home.kinds(job.id), "that is for what the registry did"
    home.assert_clean()


@pytest.mark.parametrize("rules", [DISTRIBUTION_2, DISTRIBUTION_3], ids=lambda rules: rules.name)
def test_a_damaged_layer_s_session_is_deleted_also_where_a_chunk_was_under_way(
    rules: Rules, source: SlowSource, tmp_path: Path
) -> None:
    """2.x deletes no session that was cut off inside a chunk: that chunk is sent to its end."""
    image = make_image(300_000, compressible=0.0)
    archive = _with_damaged_end(write_archive(tmp_path / "good.tar", image), image.layers[0].tar)
    with (
        FakeRegistry(rules) as registry,
        Home(tmp_path / "home", chunk_size=100_000, limit_rate=Timetable(100_000)) as home,
    ):
        source.hold_at(20, lambda: registry.wait_for(lambda r: bool(r.requests(On.CHUNK))))
        source.write_at_once()
        job = home.enqueue(archive, f"{registry.address}/app:1")
        assert home.run().exit_code == ExitCode.SOURCE
        assert "session-discarded" in home.kinds(job.id)
        assert [digest for digest in registry.blobs["app"] if digest != image.config_digest] == []
        registry.wait_for(lambda r: r.sessions == {})
        assert all(record.status == 202 for record in registry.requests(On.CHUNK))
        home.assert_clean()


def _with_damaged_end(archive: Path, layer: bytes) -> Path:
    data = archive.read_bytes()
    at = data.index(layer) + 90_000
    archive.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    return archive


def test_a_broken_link_costs_one_chunk_each_time(
    home: Home, registry: FakeRegistry, source: SlowSource, archive: Path, image: Image
) -> None:
    registry.faults.add(*(Fault(On.CHUNK, ResetAfter(CHUNK // 2), nth=nth) for nth in (2, 4, 7)))
    source.hold_at(HALF, lambda: chunks(registry, 3))
    home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + 3 * CHUNK
    registry.faults.assert_all_fired()


def _interrupt(home: Home, registry: FakeRegistry, source: SlowSource, after: int) -> None:
    """Work until the registry has ``after`` chunks of the unfinished blob, then take it away."""

    def away() -> None:
        chunks(registry, after)
        registry.stop()

    source.hold_at(HALF, away)
    result = Background(home, give_up_after=0.1).join()
    assert result.exit_code != ExitCode.DONE
    source.hold_at(0, lambda: None)
    registry.start()


def test_the_next_run_continues_the_session(
    home: Home, registry: FakeRegistry, source: SlowSource, archive: Path, image: Image
) -> None:
    """Whether the blob was completed meanwhile or not."""
    home.enqueue(archive, f"{registry.address}/app:1")
    _interrupt(home, registry, source, 3)
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK
    assert registry.sessions == {}


def _fail(home: Home, registry: FakeRegistry, source: SlowSource, archive: Path, **settings: Any) -> int:
    """Work until the registry has three chunks of the layer, then fail to read the rest; return the job."""
    job = home.enqueue(archive, f"{registry.address}/app:1")

    def fail() -> None:
        chunks(registry, 3)
        raise SourceError("the source is away")

    source.hold_at(HALF, fail)
    assert home.run(**settings).exit_code != ExitCode.DONE
    source.hold_at(0, lambda: None)
    if home.state(job.id) is JobState.FAILED:
        home.store.jobs.retry(job.id)
    assert [session.state for session in _sessions(home, job.id)] == [UploadState.OPEN]
    return job.id


def _sessions(home: Home, job_id: int) -> list[UploadRecord]:
    job = home.job(job_id)
    found = [
        home.store.uploads.unfinished(job.registry, job.repository, blob.key)
        for blob in home.store.blobs.of_job(job_id)
    ]
    return [upload for upload in found if upload is not None]


@pytest.mark.parametrize("no_early", [False, True])
def test_the_same_bytes_continue_the_session(
    home: Home, registry: FakeRegistry, source: SlowSource, archive: Path, image: Image, no_early: bool
) -> None:
    """While they are compressed again, or once they are; with the level that was used before."""
    job_id = _fail(home, registry, source, archive, compression_level=1)
    assert home.run(no_early=no_early, compression_level=1).exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK
    assert len(registry.requests(On.OPEN)) == 3, "one for each blob"
    assert _sessions(home, job_id) == []
    home.assert_clean()


def test_a_layer_keeps_the_level_with_which_its_upload_was_begun(
    home: Home, registry: FakeRegistry, source: SlowSource, tmp_path: Path
) -> None:
    """However fast the link has become, and however busy the machine."""
    image = make_image(200_000, 300)
    archive = write_archive(tmp_path / "app.tar", image)
    home.store.facts.update(registry.address, link_rate=100_000.0)
    job_id = _fail(home, registry, source, archive)
    assert [session.compression for session in _sessions(home, job_id)] == ["gzip 10"]
    home.store.facts.update(registry.address, link_rate=1e9, gzip_level=2)
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK
    said = [message for kind, message in home.events(job_id) if kind == "compression"]
    assert "compressing with gzip level 10: the upload was begun with it" in said
    notes = [text for (text,) in home.progress.of("note")]
    assert any("compressed with gzip level 10: the upload was begun with it" in text for text in notes)
    home.assert_clean()


@pytest.mark.parametrize("no_early", [False, True])
def test_other_bytes_never_do(
    home: Home, registry: FakeRegistry, source: SlowSource, tmp_path: Path, no_early: bool
) -> None:
    """The session is deleted, and what it held is counted as wasted."""
    image = make_image(200_000, 300)
    archive = write_archive(tmp_path / "app.tar", image)
    job_id = _fail(home, registry, source, archive, compression_level=1)
    assert home.run(no_early=no_early, compression_level=9).exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert registry.sessions == {}
    assert any("compressed to other bytes" in message for _, message in home.events(job_id))
    layers = home.store.blobs.of_job(job_id)
    assert sum(layer.bytes_sent - layer.bytes_wasted for layer in layers) == blob_bytes(registry, "app")
    assert _sessions(home, job_id) == []
    home.assert_clean()


def test_a_cancelled_job_leaves_no_session(
    home: Home, registry: FakeRegistry, source: SlowSource, archive: Path
) -> None:
    job_id = _fail(home, registry, source, archive)
    cancel(home.store, home.settings, [job_id])
    assert registry.sessions == {}
    assert _sessions(home, job_id) == []


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from(["serverless", "distribution-2", "distribution-3"]),
    runs=st.lists(
        st.tuples(
            st.integers(1, 9),
            st.integers(2, 24),
            st.integers(0, 6),
            st.booleans(),
        ),
        max_size=3,
    ),
    last=st.integers(1, 9),
    breaks=st.lists(st.tuples(st.integers(1, 9), st.integers(1, CHUNK)), max_size=3),
)
def test_the_registry_holds_what_the_manifest_names(
    kind: str,
    runs: list[tuple[int, int, int, bool]],
    last: int,
    breaks: list[tuple[int, int]],
    source: SlowSource,
) -> None:
    """However often the source fails at whatever block, with whatever levels, and links that break.

    Each run: its level, the block at which it fails, the chunks that the registry has by then, and whether
    the run before it continues.
    """
    image = make_image(90_000, 300, compressible=0.3)
    rules = {**RULES, "serverless": RULES["serverless"].scaled(min=1000, max=CHUNK)}[kind]
    with (
        tempfile.TemporaryDirectory() as folder,
        FakeRegistry(rules) as registry,
        Home(Path(folder, "home"), chunk_size=CHUNK) as home,
    ):
        archive = write_archive(Path(folder, "app.tar"), image)
        job = home.enqueue(archive, f"{registry.address}/app:1")
        registry.faults.add(*(Fault(On.CHUNK, ResetAfter(at), nth=nth) for nth, at in breaks))
        for level, block, count, no_early in runs:

            def fail(count: int = count) -> None:
                with suppress(AssertionError):
                    registry.wait_for(lambda r: len(r.requests(On.CHUNK)) >= count, timeout=0.3)
                raise SourceError("the source is away")

            source.hold_at(block, fail)
            home.run(compression_level=level, no_early=no_early)
            if home.state(job.id) is JobState.FAILED:
                home.store.jobs.retry(job.id)
        source.hold_at(0, lambda: None)
        assert home.run(compression_level=last).exit_code == ExitCode.DONE, home.events(job.id)
        pushed(registry, "app", "1", image)
        layers = home.store.blobs.of_job(job.id)
        kept = sum(one.bytes_sent - one.bytes_wasted for one in layers) - blob_bytes(registry, "app")
        assert 0 <= kept <= len(runs) * CHUNK, "what was in flight when a run ended may have arrived"
        same_level = all(level == last for level, *_ in runs)
        if same_level and kind != "distribution-2":
            faults = len(runs) + len(breaks)
            assert registry.body_bytes_received() <= blob_bytes(registry, "app") + faults * CHUNK
        home.assert_clean()

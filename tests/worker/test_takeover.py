"""A session that a stopped worker left in another repository is sent to its end there, and mounted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pusher.errors import ExitCode
from pusher.store.records import BlobState, JobBlob, JobRecord, JobState
from tests.support.fakeregistry import (
    DISTRIBUTION_2,
    DISTRIBUTION_3,
    SERVERLESS,
    Answer,
    FakeRegistry,
    Fault,
    On,
)
from tests.support.fakeregistry.faults import Front
from tests.support.home import CHUNK, Home, pushed
from tests.support.images import Image, make_image, write_archive

_DENIED = Answer(403, body=b'{"errors": [{"code": "DENIED", "message": "not yours"}]}')
_RULES = [SERVERLESS.scaled(min=1_000, max=CHUNK), DISTRIBUTION_2, DISTRIBUTION_3]


@pytest.fixture(params=_RULES[:1], ids=lambda rules: rules.name)
def registry(request: pytest.FixtureRequest) -> Iterator[FakeRegistry]:
    with FakeRegistry(request.param) as registry:
        yield registry


@pytest.fixture
def image() -> Image:
    """A layer of ten chunks and a bit."""
    return make_image(10 * CHUNK, compressible=0.0)


def _begin(home: Home, registry: FakeRegistry, image: Image, chunks: int = 8) -> tuple[JobRecord, JobRecord]:
    """Send so many chunks of the first job's layer; return it and a job for another repository."""
    archive = write_archive(home.settings.home / "app.tar", image)
    first, second = (home.enqueue(archive, f"{registry.address}/{name}/app:1") for name in ("one", "two"))
    registry.faults.add(Fault(On.CHUNK, Answer(503), times=None, nth=chunks + 1))
    assert home.run([first.id], give_up_after=0.2).exit_code == ExitCode.UNFINISHED
    registry.faults.clear()
    return first, second


def _layer(home: Home, job: JobRecord) -> JobBlob:
    return home.store.blobs.of_job(job.id)[1]


def _run(home: Home, registry: FakeRegistry, *jobs: JobRecord) -> int:
    """Run jobs, which succeed; return the bytes of bodies that the registry got meanwhile."""
    before = registry.body_bytes_received()
    assert home.run([job.id for job in jobs]).exit_code == ExitCode.DONE
    return registry.body_bytes_received() - before


def _assert_nothing_left(home: Home, registry: FakeRegistry) -> None:
    assert registry.sessions == {}
    assert home.store.abandoned.all() == []
    home.assert_clean()


@pytest.mark.parametrize("registry", _RULES, ids=lambda rules: rules.name, indirect=True)
def test_the_rest_is_sent_to_the_first_repository(home: Home, registry: FakeRegistry, image: Image) -> None:
    first, second = _begin(home, registry, image)
    assert _run(home, registry, second) < 3 * CHUNK
    assert _layer(home, second).state is BlobState.MOUNTED
    pushed(registry, "two/app", "1", image)
    assert "session-continued" in home.kinds(second.id)

    assert _run(home, registry, first) < CHUNK, "only its config"
    pushed(registry, "one/app", "1", image)
    layers = [_layer(home, job) for job in (first, second)]
    size, refused = layers[0].size or 0, CHUNK
    assert size <= sum(layer.bytes_sent - layer.bytes_wasted for layer in layers) <= size + refused
    _assert_nothing_left(home, registry)


def test_what_was_closed_and_not_recorded_is_mounted(
    home: Home, registry: FakeRegistry, image: Image
) -> None:
    first, second = _begin(home, registry, image)
    registry.faults.add(Fault(On.CLOSE, Answer(503), times=None, path="/one/"))
    assert home.run([first.id], give_up_after=0.2).exit_code == ExitCode.UNFINISHED
    registry.faults.clear()
    assert _run(home, registry, second) < CHUNK
    assert _layer(home, second).state is BlobState.MOUNTED
    assert _run(home, registry, first) < CHUNK
    _assert_nothing_left(home, registry)


def test_one_chunk_is_not_worth_it(home: Home, registry: FakeRegistry, image: Image) -> None:
    first, second = _begin(home, registry, image, chunks=0)
    assert _run(home, registry, second) > 10 * CHUNK
    assert _layer(home, second).state is BlobState.UPLOADED
    assert _run(home, registry, first) < CHUNK
    _assert_nothing_left(home, registry)


def test_an_own_session_that_is_further_goes_on(home: Home, registry: FakeRegistry, image: Image) -> None:
    first, second = _begin(home, registry, image, chunks=3)
    registry.faults.add(Fault(On.CHUNK, _DENIED, times=None, path="/one/"))
    registry.faults.add(Fault(On.CHUNK, Answer(503), times=None, path="/two/", nth=6))
    assert home.run([second.id], give_up_after=0.2).exit_code == ExitCode.UNFINISHED
    registry.faults.clear()
    assert _run(home, registry, second) < 6 * CHUNK
    assert _layer(home, second).state is BlobState.UPLOADED
    assert _run(home, registry, first) < CHUNK
    _assert_nothing_left(home, registry)


def test_a_registry_that_mounts_nothing_gets_each_byte_once_a_repository(
    home: Home, registry: FakeRegistry, image: Image
) -> None:
    first, second = _begin(home, registry, image)
    registry.faults.add(Fault(On.OPEN, Answer(405), times=None, path="mount="))
    assert _run(home, registry, second) < 14 * CHUNK, "the rest there, and all of it here"
    assert _layer(home, second).state is BlobState.UPLOADED
    assert _run(home, registry, first) < CHUNK
    _assert_nothing_left(home, registry)


@pytest.mark.parametrize("on", [On.STATUS, On.CHUNK])
def test_a_login_that_may_not_push_there_sends_it_all(
    home: Home, registry: FakeRegistry, image: Image, on: On
) -> None:
    first, second = _begin(home, registry, image)
    registry.faults.add(Fault(on, _DENIED, times=None, path="/one/"))
    if on is On.STATUS:
        registry.faults.add(Fault(On.CHUNK, _DENIED, times=None, path="/one/"))
    assert _run(home, registry, second) > 10 * CHUNK
    pushed(registry, "two/app", "1", image)
    assert home.state(second.id) is JobState.SUCCEEDED
    registry.faults.clear()

    assert _run(home, registry, first) < CHUNK
    assert _layer(home, first).state is BlobState.MOUNTED
    assert _layer(home, first).bytes_wasted >= 8 * CHUNK
    _assert_nothing_left(home, registry)


@pytest.mark.parametrize("on", [On.STATUS, On.CHUNK])
def test_a_proxy_that_refuses_the_other_repository_is_not_waited_for(
    home: Home, registry: FakeRegistry, image: Image, on: On
) -> None:
    first, second = _begin(home, registry, image)
    registry.faults.add(Fault(on, Front(403, body=b"forbidden"), times=None, path="/one/"))
    before = len(registry.requests(on))
    assert _run(home, registry, second) > 10 * CHUNK
    pushed(registry, "two/app", "1", image)
    assert ["/one/" in record.path for record in registry.requests(on)[before:]].count(True) == 1
    registry.faults.clear()

    assert _run(home, registry, first) < CHUNK
    assert _layer(home, first).state is BlobState.MOUNTED
    _assert_nothing_left(home, registry)


def test_a_lost_session_is_not_replaced_there(home: Home, registry: FakeRegistry, image: Image) -> None:
    _, second = _begin(home, registry, image)
    registry.forget_sessions()
    before = len(registry.requests(On.OPEN))
    assert _run(home, registry, second) > 10 * CHUNK
    opened = registry.requests(On.OPEN)[before:]
    assert {record.path for record in opened} == {"/v2/two/app/blobs/uploads/"}
    pushed(registry, "two/app", "1", image)

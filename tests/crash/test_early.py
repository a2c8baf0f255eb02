"""``kill -9`` while a layer is being compressed and sent: what the registry got is continued, never mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.crash.conftest import Point, Pusher
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import DISTRIBUTION_2, DISTRIBUTION_3, SERVERLESS, FakeRegistry, Rules
from tests.support.home import Home, blob_bytes, pushed
from tests.support.images import Image, make_image, write_archive

CHUNK: Final = 10_000
NEVER: Final = ("claim", "before", 1000)
"""Lives, and reads the source in blocks of the same size, without which the bytes would be others."""
MIDDLE: Final = 13
"""The block of the source that does not arrive: five chunks are complete by then."""
BEGINNING: Final = 3
"""The same; the first chunk is begun by then, and not complete."""
RULES: Final = {
    "serverless": SERVERLESS.scaled(min=1_000, max=CHUNK),
    "distribution-2": DISTRIBUTION_2,
    "distribution-3": DISTRIBUTION_3,
}
WHILE_COMPRESSING: Final[list[Point]] = [
    (point, when, nth)
    for point, nth in (
        ("open a session", 1),
        ("record a session", 1),
        ("record an intent", 1),
        ("record an intent", 3),
        ("send a chunk", 1),
        ("send a chunk", 4),
        ("record a chunk", 1),
        ("record a chunk", 4),
    )
    for when in ("before", "after")
] + [("read a chunk", "after", 2)]
UNRECORDED: Final[list[Point]] = [("send a chunk", "after", 4), ("record a chunk", "before", 4)]
"""The registry has a chunk that the job store does not know to be there."""
AT_THE_END: Final[list[Point]] = [
    (point, when, 1)
    for point in (
        "keep a blob",
        "remember a blob",
        "give a layer its blob",
        "give an upload its digest",
        "close an upload",
        "record a layer as done",
    )
    for when in ("before", "after")
]


@pytest.fixture(scope="session", params=["text and noise", "noise"])
def layer(request: pytest.FixtureRequest) -> Image:
    """One layer that is compressed, or stored as it is, as of files that are compressed."""
    return make_image(110_000, compressible=0.2 if request.param == "text and noise" else 0.0)


@pytest.fixture
def early_archive(layer: Image, tmp_path: Path) -> Path:
    return write_archive(tmp_path / "layer.tar", layer)


def _id(point: Point) -> str:
    what, when, nth = point
    return f"{when} {what}, {nth}"


@pytest.mark.parametrize("rules", RULES.values(), ids=list(RULES))
@pytest.mark.parametrize("point", [*UNRECORDED, ("record a chunk", "after", 4)], ids=_id)
def test_by_the_rules_of_every_kind(
    rules: Rules, point: Point, home: Home, pusher: Pusher, layer: Image, early_archive: Path
) -> None:
    _killed_and_continued(rules, point, MIDDLE, home, pusher, layer, early_archive)


@pytest.mark.parametrize("point", WHILE_COMPRESSING, ids=_id)
def test_while_it_is_compressed(point: Point, home: Home, pusher: Pusher, tmp_path: Path) -> None:
    image = make_image(110_000, compressible=0.2)
    archive = write_archive(tmp_path / "layer.tar", image)
    _killed_and_continued(DISTRIBUTION_3, point, MIDDLE, home, pusher, image, archive)


@pytest.mark.parametrize("rules", RULES.values(), ids=list(RULES))
@pytest.mark.parametrize(
    "point",
    [
        ("record a beginning", "before", 1),
        ("record a beginning", "after", 1),
        ("record an intent", "after", 1),
    ],
    ids=_id,
)
def test_while_a_chunk_waits_for_its_bytes(
    rules: Rules, point: Point, home: Home, pusher: Pusher, tmp_path: Path
) -> None:
    image = make_image(110_000, compressible=0.2)
    archive = write_archive(tmp_path / "layer.tar", image)
    _killed_and_continued(rules, point, BEGINNING, home, pusher, image, archive)


@pytest.mark.parametrize("point", AT_THE_END, ids=_id)
def test_when_it_is_complete(point: Point, home: Home, pusher: Pusher, tmp_path: Path) -> None:
    image = make_image(110_000, compressible=0.2)
    archive = write_archive(tmp_path / "layer.tar", image)
    _killed_and_continued(DISTRIBUTION_3, point, -MIDDLE, home, pusher, image, archive)


def _killed_and_continued(
    rules: Rules, point: Point, held_block: int, home: Home, pusher: Pusher, image: Image, archive: Path
) -> None:
    """Kill the first run at ``point``; the second one ends it with at most one chunk sent twice."""
    with FakeRegistry(rules) as registry:
        job = home.enqueue(archive, f"{registry.address}/app:1")
        killed = pusher.work(point=point, chunk=CHUNK, held_block=held_block)
        assert killed.returncode == -9, killed.stderr
        again = pusher.work(point=NEVER, chunk=CHUNK, held_block=0)
        assert again.returncode == 0, again.stderr
        pushed(registry, "app", "1", image)
        unrecorded = (
            point in UNRECORDED and rules is DISTRIBUTION_2
        )  # its sessions then are lost, early or not
        again_sent = point[2] * CHUNK if unrecorded else CHUNK
        assert registry.body_bytes_received() <= blob_bytes(registry, "app") + again_sent
        assert len(registry.sessions) <= 1, "only one that was opened and not yet recorded"
        assert home.state(job.id) == "succeeded"
        home.assert_clean()


def test_of_a_layer_that_docker_saves(
    home: Home, pusher: Pusher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Docker 25: the stream names the layer's folder alone. Killed twice, and continued."""
    image = make_image(110_000, 300, compressible=0.2)
    engine = FakeEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(engine.folder))
    engine.has(image, write_archive(tmp_path / "app.tar", image))
    with FakeRegistry(DISTRIBUTION_3) as registry:
        home.enqueue("app:1", f"{registry.address}/app:1")
        for chunks in (1, 2):
            point = ("record a chunk", "after", chunks)
            killed = pusher.work(point=point, chunk=CHUNK, held_block=MIDDLE)
            assert killed.returncode == -9, killed.stderr
        again = pusher.work(point=NEVER, chunk=CHUNK, held_block=0)
        assert again.returncode == 0, again.stderr
        pushed(registry, "app", "1", image)
        assert registry.body_bytes_received() == blob_bytes(registry, "app")
        home.assert_clean()


def test_again_and_again(home: Home, pusher: Pusher, tmp_path: Path) -> None:
    """Each run compresses the layer from its start and gets one chunk further."""
    image = make_image(110_000, compressible=0.2)
    archive = write_archive(tmp_path / "layer.tar", image)
    with FakeRegistry(DISTRIBUTION_3) as registry:
        home.enqueue(archive, f"{registry.address}/app:1")
        for _ in range(4):
            killed = pusher.work(point=("send a chunk", "after", 1), chunk=CHUNK, held_block=MIDDLE)
            assert killed.returncode == -9, killed.stderr
        again = pusher.work(point=NEVER, chunk=CHUNK, held_block=0)
        assert again.returncode == 0, again.stderr
        pushed(registry, "app", "1", image)
        assert registry.body_bytes_received() == blob_bytes(registry, "app"), "what was in doubt had arrived"


@pytest.mark.parametrize("when", ["before", "after"])
def test_while_its_session_is_taken_over(when: str, home: Home, pusher: Pusher, tmp_path: Path) -> None:
    """By a run that compresses the layer to its end first."""
    image = make_image(110_000, compressible=0.2)
    archive = write_archive(tmp_path / "layer.tar", image)
    with FakeRegistry(DISTRIBUTION_3) as registry:
        home.enqueue(archive, f"{registry.address}/app:1")
        first = pusher.work(point=("record a chunk", "after", 3), chunk=CHUNK, held_block=MIDDLE)
        assert first.returncode == -9, first.stderr
        point = ("take over a session", when, 1)
        second = pusher.work("--no-early", point=point, chunk=CHUNK, held_block=0)
        assert second.returncode == -9, second.stderr
        third = pusher.work(point=NEVER, chunk=CHUNK, held_block=0)
        assert third.returncode == 0, third.stderr
        pushed(registry, "app", "1", image)
        assert registry.body_bytes_received() == blob_bytes(registry, "app")
        home.assert_clean()


@pytest.mark.parametrize("flags", [(), ("--no-early",)], ids=["early", "not early"])
def test_another_level_starts_again(
    flags: tuple[str, ...], home: Home, pusher: Pusher, tmp_path: Path
) -> None:
    """Bytes of two compressions are never mixed, and the first session is deleted."""
    image = make_image(110_000, compressible=0.6)
    archive = write_archive(tmp_path / "layer.tar", image)
    with FakeRegistry(DISTRIBUTION_3) as registry:
        job = home.enqueue(archive, f"{registry.address}/app:1")
        point = ("record a chunk", "after", 2)
        killed = pusher.work("--compression-level", "1", point=point, chunk=5000, held_block=20)
        assert killed.returncode == -9, killed.stderr
        again = pusher.work("--compression-level", "9", *flags, chunk=5000)
        assert again.returncode == 0, again.stderr
        pushed(registry, "app", "1", image)
        assert registry.sessions == {}
        assert any("compressed to other bytes" in message for _, message in home.events(job.id))
        home.assert_clean()

"""Whatever broke before: chunks never cost more than twice what the best fixed size would.

A registry and a link in numbers alone: no byte is read and no second passes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pusher.errors import ConnectionBroken, PusherError
from pusher.registry.client import OpenedUpload
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import BlobFile, Body
from pusher.registry.upload.profiles import KIB, MIB, PROFILES
from pusher.registry.upload.uplink import LinkEstimate
from pusher.registry.upload.upload import BlobUpload
from tests.registry.helpers import MemoryJournal, Onlooker

SIZE = 1500 * MIB
FIXED = (256 * KIB, MIB, 5 * MIB, 10 * MIB, 40 * MIB, 90 * MIB)
URL = "http://registry.example/v2/app/blobs/uploads/1"


@dataclass
class Link:
    """Breaks after so many bytes each time; times in seconds."""

    breaks: Iterator[int]
    rate: float
    latency: float
    present: ClassVar[Link]
    now: float = 0.0
    left: int = 0

    def carry(self, length: int) -> int:
        """How many of ``length`` bytes get through before it breaks."""
        if self.left <= 0:
            self.left = next(self.breaks)
        carried = min(length, self.left)
        self.left -= carried
        self.now += self.latency + carried / self.rate
        return carried


@dataclass
class Registry:
    """Answers like one that keeps part of a broken chunk, or whole chunks, or with ``restarts`` nothing."""

    link: Link
    keeps_part: bool
    restarts: bool = False
    registry: str = "registry.example"
    closes_connections: bool = False
    held: int = 0
    closed: bool = field(default=False)
    gone: bool = field(default=False)

    @property
    def response_seconds(self) -> float:
        return self.link.latency

    def blob_exists(self, *_: Any) -> bool:
        return self.closed

    def open_upload(self, *_: Any, **__: Any) -> OpenedUpload:
        self.held, self.closed, self.gone = 0, False, False
        self.link.now += self.link.latency
        return OpenedUpload(URL, {})

    def send_chunk(self, _repository: str, _location: str, body: Body, start: int) -> Answer:
        self._receive(body, start)
        return Answer("PATCH", URL, 202, self._headers())

    def get_upload_status(self, *_: Any) -> Answer:
        if self.gone:
            return Answer("GET", URL, 404, {}, b'{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}')
        return Answer("GET", URL, 204, self._headers())

    def close_upload(
        self, _repository: str, location: str, digest: str, body: Body | None, start: int
    ) -> Answer:
        if body is not None:
            self._receive(body, start)
        self.closed = True
        return Answer("PUT", URL, 201, {"Location": URL, "Docker-Content-Digest": digest})

    def delete_upload(self, *_: Any) -> Answer:
        return Answer("DELETE", URL, 204)

    def location_of(self, answer: Answer, *_: Any) -> str | None:
        return answer.headers.get("Location")

    def _headers(self) -> dict[str, str]:
        return {"Location": URL, "Range": f"0-{max(0, self.held - 1)}"}

    def _receive(self, body: Body, start: int) -> None:
        assert start == self.held
        assert not self.gone
        body.sent = self.link.carry(len(body))
        if body.sent == len(body) or self.keeps_part:
            self.held += body.sent
        body.ended_at = self.link.now - self.link.latency
        if body.sent < len(body):
            self.gone = self.restarts
            raise ConnectionBroken("it broke")


def stored(facts: LinkEstimate) -> LinkEstimate:
    """What a later process knows."""
    return LinkEstimate(uplink=facts.uplink, carries=facts.carries, breaks=facts.breaks)


def bring(
    registry: Registry,
    facts: LinkEstimate,
    size: int,
    *,
    profile: str = "",
    restart_every: int | None = None,
    chunk_size: int | None = None,
    journal: MemoryJournal | None = None,
) -> float:
    """Bring one blob; the seconds that it took. ``restart_every``: so many breaks end the process.

    ``facts`` are what the last process knows in the end.
    """
    Link.present, known = registry.link, facts
    before = registry.link.now
    blob = BlobFile("sha256:" + "0" * 64, size, Path("/does-not-exist"))
    registry.closed = False
    journal = journal or MemoryJournal()
    forced = profile or ("distribution-3" if registry.keeps_part else "default")

    def started() -> BlobUpload:
        client = cast("Any", registry)
        return BlobUpload(
            client, "app", blob, journal, Onlooker(), facts, forced=forced, chunk_size=chunk_size
        )

    push = started()
    for tries in range(1, 20_000):
        try:
            push.run()
        except PusherError:
            if restart_every and tries % restart_every == 0:
                facts = stored(facts)
                push = started()
            continue
        vars(known).update(vars(facts))
        return registry.link.now - before
    raise AssertionError(f"no end: {facts}")


def fixed(link: Link, size: int, chunk: int, *, keeps_part: bool, restarts: bool = False) -> float:
    """The seconds that chunks of one size take; those that never get through take for ever."""
    held = 0
    link.now += link.latency
    for _ in range(20_000):
        length = min(chunk, size - held)
        carried = link.carry(length)
        held += carried if carried == length or keeps_part else 0
        if carried < length and restarts:
            held = 0
            link.now += link.latency
        if held == size:
            return link.now
    return float("inf")


@pytest.fixture(autouse=True, scope="module")
def _clock() -> Iterator[None]:
    """Uploads read the time of the link that they use, in whichever of their modules."""
    clock = SimpleNamespace(monotonic=lambda: Link.present.now)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in sys.modules.items():
            if name.startswith("pusher.registry.upload.") and getattr(module, "time", None) is time:
                patch.setattr(module, "time", clock)
        yield


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    small=st.lists(st.integers(1, 400), max_size=6),
    breaks=st.lists(st.integers(8 * MIB, 120 * MIB), min_size=1, max_size=5),
    rate=st.sampled_from([MIB, 8 * MIB, 40 * MIB]),
    keeps_part=st.booleans(),
)
@example(small=[], breaks=[15_938_356], rate=MIB, keeps_part=False)  # regular: a chunk never fits at the end
def test_chunks_are_never_half_as_fast_as_the_best_fixed_size(
    small: list[int], breaks: list[int], rate: float, keeps_part: bool
) -> None:
    """After configs in which the link broke as well."""
    facts = LinkEstimate()
    registry = Registry(Link(cycle([100, 10 * MIB]), rate, 0.2), keeps_part)
    for size in small:
        bring(registry, facts, size + 100)
    registry.link = Link(cycle(breaks), rate, 0.2)
    took = bring(registry, facts, SIZE)
    best = min(fixed(Link(cycle(breaks), rate, 0.2), SIZE, chunk, keeps_part=keeps_part) for chunk in FIXED)
    assert took <= 2 * best


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    bad=st.lists(st.integers(64 * KIB, 20 * MIB), max_size=40),
    good=st.lists(st.integers(60 * MIB, 4096 * MIB), min_size=1, max_size=4),
    sizes=st.lists(st.integers(300 * MIB, 2000 * MIB), min_size=1, max_size=3),
    rate=st.sampled_from([MIB, 8 * MIB, 40 * MIB, 100 * MIB]),
    latency=st.sampled_from([0.02, 0.2]),
    profile=st.sampled_from(["default", "distribution-3", "gitea", "serverless-registry", "harbor"]),
    restart_every=st.sampled_from([None, 1, 3]),
)
def test_after_a_bad_hour_chunks_grow_again(
    bad: list[int],
    good: list[int],
    sizes: list[int],
    rate: float,
    latency: float,
    profile: str,
    restart_every: int | None,
) -> None:
    """In an open session as well, and in the processes that follow."""
    known = PROFILES[profile]
    kept, restarts = profile in ("distribution-3", "gitea"), known.breaks_with_chunk
    if restarts:  # where a break costs the blob, it arrives between two breaks or never
        good = [gap + max(sizes) for gap in good]
    best = float("inf")
    for chunk in FIXED:
        link = Link(chain(bad, cycle(good)), rate, latency)
        for size in sizes:
            took = fixed(link, size, max(chunk, known.min_chunk), keeps_part=kept, restarts=restarts)
        best = min(best, took)
    assume(best < float("inf"))
    facts = LinkEstimate()
    registry = Registry(Link(chain(bad, cycle(good)), rate, latency), kept, restarts)
    for size in sizes:
        bring(registry, facts, size, profile=profile, restart_every=restart_every)
        facts = stored(facts)
    # The first chunks are small on purpose, and where chunks have one size, so may be all of the first blob.
    # After each break the registry is asked what it has.
    small = 10 + (max(sizes) / known.min_chunk if known.equal_chunks else 0)
    assert registry.link.now <= 2 * best + (small + len(bad)) * latency


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    breaks=st.lists(st.integers(200, 2 * MIB), min_size=1, max_size=5),
    size=st.integers(300 * KIB, 12 * MIB),
    keeps_part=st.booleans(),
)
def test_a_blob_that_a_link_does_not_carry_in_one_request_goes_in_chunks(
    breaks: list[int], size: int, keeps_part: bool
) -> None:
    registry = Registry(Link(cycle([*breaks, 4 * MIB]), 8 * MIB, 0.2), keeps_part)
    assert bring(registry, LinkEstimate(), size) < 600


# --- chunks of one size for a whole upload ----------------------------------------------------------------


def bring_unbroken(
    size: int, *, rate: float, latency: float, chunk_size: int | None = None
) -> tuple[MemoryJournal, float]:
    journal = MemoryJournal()
    registry = Registry(Link(cycle([2**50]), rate, latency), keeps_part=False)
    took = bring(
        registry, LinkEstimate(), size, profile="serverless-registry", chunk_size=chunk_size, journal=journal
    )
    return journal, took


def test_chunks_that_are_far_too_small_are_given_up_early_for_larger_ones() -> None:
    journal, took = bring_unbroken(1500 * MIB, rate=100 * MIB, latency=0.5)
    assert journal.chunk_sizes == [5 * MIB, 20 * MIB, 50 * MIB]
    assert journal.lost_acknowledged <= 1500 * MIB / 8
    assert took < 50, "in chunks of 5 MiB: 165 s"
    assert "20.0 MiB" in journal.lost_sessions[0]


@pytest.mark.parametrize(
    ("size", "rate", "latency", "chunk_size"),
    [
        pytest.param(1500 * MIB, 8 * MIB, 0.05, None, id="answers-cost-little"),
        pytest.param(1500 * MIB, 100 * MIB, 0.5, 5 * MIB, id="the-user-set-their-size"),
        pytest.param(20 * MIB, 100 * MIB, 0.5, None, id="little-is-left"),
    ],
)
def test_a_session_is_kept_where_larger_chunks_do_not_pay(
    size: int, rate: float, latency: float, chunk_size: int | None
) -> None:
    journal, _ = bring_unbroken(size, rate=rate, latency=latency, chunk_size=chunk_size)
    assert journal.lost_sessions == []


@pytest.mark.parametrize(
    ("gaps", "restart_every"),
    [
        pytest.param([12.4], 1, id="larger-chunks-never-get-through"),
        pytest.param([13.5, 41.2], 3, id="larger-chunks-get-through-now-and-then"),
    ],
)
def test_larger_chunks_that_the_link_does_not_carry_are_not_tried_again_and_again(
    gaps: list[float], restart_every: int
) -> None:
    """In a new process after so many breaks: what was tried before is known from the journal alone."""
    journal = MemoryJournal()
    registry = Registry(Link(cycle([int(gap * MIB) for gap in gaps]), 100 * MIB, 0.2), keeps_part=False)
    took = bring(
        registry,
        LinkEstimate(),
        640 * MIB,
        profile="serverless-registry",
        restart_every=restart_every,
        journal=journal,
    )
    assert journal.lost_acknowledged <= 640 * MIB / 4
    assert took < 60


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    breaks=st.lists(st.integers(6 * MIB, 900 * MIB), min_size=1, max_size=5),
    rate=st.sampled_from([8 * MIB, 40 * MIB, 100 * MIB]),
    latency=st.sampled_from([0.02, 0.2, 1.0]),
)
def test_what_is_sent_again_for_larger_chunks_is_a_small_part_of_the_blob(
    breaks: list[int], rate: float, latency: float
) -> None:
    journal = MemoryJournal()
    registry = Registry(Link(cycle(breaks), rate, latency), keeps_part=False)
    bring(registry, LinkEstimate(), SIZE, profile="serverless-registry", journal=journal)
    assume(all("too long" in reason for reason in journal.lost_sessions))
    assert journal.lost_acknowledged <= SIZE / 8

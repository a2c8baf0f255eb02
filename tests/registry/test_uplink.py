"""What is learned of the link, and the chunks that follow from it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pusher.registry.upload import uplink
from pusher.registry.upload.chunk_plan import ChunkPlan
from pusher.registry.upload.chunk_sizes import DEFAULT_CHUNK, ChunkGrowth, Limits
from pusher.registry.upload.profiles import (
    DEFAULT,
    DISTRIBUTION,
    DISTRIBUTION_2,
    DISTRIBUTION_3,
    MIB,
    SERVERLESS,
    Profile,
)
from pusher.registry.upload.session import Session
from pusher.registry.upload.uplink import LinkEstimate

FREE = Limits()
KIB = 1024
MB = 1_000_000


def send(link: LinkEstimate, size: int, *, rate: float, profile: Profile, wait: float = 0.3) -> list[int]:
    """Bring ``size`` bytes over a link of ``rate`` bytes a second that holds; the sizes of its chunks."""
    sizes = []
    while size > 0:
        chunk = min(size, link.first_size(None, profile))
        sizes.append(chunk)
        link.record_chunk(chunk, chunk / rate + wait)
        size -= chunk
    return sizes


def shake(link: LinkEstimate, size: int, breaks: Callable[[], int], *, chunk: int | None = None) -> float:
    """Bring ``size`` bytes in whole chunks over a link that breaks after ``breaks()`` bytes each time; bytes
    sent for each byte. ``chunk``: the user's."""
    sent = done = 0
    left = breaks()
    while done < size:
        length = link.first_size(chunk, SERVERLESS)
        if length <= left:
            left -= length
            sent, done = sent + length, done + length
            link.record_chunk(length, 0.5)
        else:
            link.record_break(left, length)
            sent, left = sent + left, breaks()
    return sent / size


# --- before anything is known -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "size"), [(SERVERLESS, 5), (DISTRIBUTION_2, 5), (DISTRIBUTION, 10), (DEFAULT, 10)]
)
def test_the_first_chunks_are_smaller_where_a_break_is_dear(profile: Profile, size: int) -> None:
    assert LinkEstimate().first_size(None, profile) == size * MIB
    assert LinkEstimate().first_size(123, profile) == 123, "what the user says counts"


# --- a link that holds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [60 * KIB, 100 * 1000, 400 * KIB, MIB, 1.7 * MIB, 3 * MIB, 8 * MIB])
def test_a_chunk_takes_5_to_15_seconds(rate: float) -> None:
    link = LinkEstimate()
    send(link, 2000 * MIB, rate=rate, profile=SERVERLESS)
    size = link.first_size(None, SERVERLESS)
    assert 5 <= size / rate <= 15
    assert size % (10 * MIB if size >= 10 * MIB else MIB if size >= MIB else 64 * KIB) == 0


def test_a_very_slow_link_gets_no_tiny_chunks() -> None:
    link = LinkEstimate()
    link.record_chunk(MIB, 1000)
    assert link.first_size(None) == 256 * KIB


def test_a_fast_link_is_bounded_below_100_mb() -> None:
    link = LinkEstimate()
    sizes = send(link, 4000 * MIB, rate=500 * MIB, profile=SERVERLESS)
    assert sizes == sorted(sizes[:-1]) + sizes[-1:]
    assert max(sizes) == 90 * MIB < 100 * MB
    assert len(sizes) < 80


def test_the_answers_of_small_chunks_say_nothing_of_the_speed() -> None:
    link = LinkEstimate()
    link.record_chunk(2000, 0.4)
    assert link.uplink is None
    link.record_chunk(2000, 4)
    assert link.uplink is None


def test_a_link_that_becomes_slow_is_noticed_at_once_and_a_fast_one_soon() -> None:
    link = LinkEstimate(uplink=10 * MIB, carries=700 * MIB)
    link.record_chunk(MIB, 10)
    assert link.uplink is not None
    assert link.uplink < MIB / 2
    for _ in range(10):
        link.record_chunk(10 * MIB, 1)
    assert link.uplink > 3 * MIB


def test_a_link_that_was_slow_once_gets_larger_chunks_again() -> None:
    """Chunks so small that they do not show how fast it is now show that it is faster than before."""
    link = LinkEstimate(uplink=20_000, carries=700 * MIB)
    assert link.first_size(None) == 256 * KIB
    sizes = send(link, 400 * MIB, rate=40 * MIB, profile=SERVERLESS)
    assert max(sizes) == 90 * MIB


def chunk_times(
    link: LinkEstimate, size: int, *, rate: float, wait: float, profile: Profile
) -> list[tuple[int, float]]:
    """Bring ``size`` bytes in one session; size and seconds of each chunk."""
    plan, chunks = ChunkPlan(size, link, None), []
    session = Session("http://r/1", link.first_size(None, profile), FREE, profile)
    while left := size - session.offset:
        chunk = left if plan.is_last(session) else min(left, plan.next_size(session))
        chunks.append((chunk, chunk / rate + wait))
        plan.growth.record_success(chunk, chunks[-1][1], wait)
        link.record_chunk(chunk, chunks[-1][1], wait)
        session = replace(session, offset=session.offset + chunk)
    return chunks


@pytest.mark.parametrize(
    "profile", [DISTRIBUTION_2, DISTRIBUTION_3, DEFAULT], ids=lambda profile: profile.name
)
@pytest.mark.parametrize(("rate", "wait"), [(1, 0.15), (5, 0.05), (5, 0.15), (40, 0.1), (100, 0.05)])
def test_waiting_is_less_than_a_thirtieth_of_the_time_on_a_quiet_link(
    profile: Profile, rate: int, wait: float
) -> None:
    chunks = chunk_times(LinkEstimate(), 4000 * MIB, rate=rate * MIB, wait=wait, profile=profile)
    assert len(chunks) * wait < 0.03 * sum(seconds for _, seconds in chunks)
    assert max(seconds for _, seconds in chunks) < (21 if profile.has_fixed_break_cost else 11)


def test_a_probe_is_not_worth_a_response_that_takes_long_beside_what_is_left() -> None:
    link = LinkEstimate()
    assert link.pays_to_probe(1), "nothing is known yet"
    link.record_chunk(10 * MIB, 2.1, answer=0.1)
    assert not link.pays_to_probe(100 * MIB)
    assert link.pays_to_probe(300 * MIB)


def test_chunks_are_over_90_mib_only_where_waiting_takes_long() -> None:
    near = chunk_times(LinkEstimate(), 4000 * MIB, rate=100 * MIB, wait=0.005, profile=DEFAULT)
    far = chunk_times(LinkEstimate(), 4000 * MIB, rate=100 * MIB, wait=0.1, profile=DEFAULT)
    assert max(near)[0] == 90 * MIB
    assert max(far)[0] == 360 * MIB


@pytest.mark.parametrize("profile", [DISTRIBUTION, DISTRIBUTION_3], ids=lambda profile: profile.name)
def test_the_second_chunk_is_as_large_as_any_where_a_break_costs_the_same_in_it(profile: Profile) -> None:
    """Nothing, or the whole session. Elsewhere they keep to a part of what the link has carried so far."""
    chunks = chunk_times(LinkEstimate(), 800 * MIB, rate=100 * MIB, wait=0.15, profile=profile)
    assert [size // MIB for size, _ in chunks] == [10, 360, 360, 70]
    usual = chunk_times(LinkEstimate(), 82 * MIB, rate=5 * MB, wait=0.08, profile=profile)
    assert [size // MIB for size, _ in usual] == [10, 72]
    slow = chunk_times(LinkEstimate(), 82 * MIB, rate=2 * MB, wait=0.08, profile=profile)
    assert [size // MIB for size, _ in slow] == [10, 30, 30, 12], "no more than twenty seconds each"
    short = chunk_times(LinkEstimate(), 47 * MIB, rate=2 * MB, wait=0.08, profile=profile)
    assert [size // MIB for size, _ in short] == [10, 37], "the last one need not be even"
    known = chunk_times(LinkEstimate(), 82 * MIB, rate=5 * MB, wait=0.08, profile=DISTRIBUTION_2)
    assert [size // MIB for size, _ in known] == [5, 77]
    careful = chunk_times(LinkEstimate(), 800 * MIB, rate=100 * MIB, wait=0.15, profile=DEFAULT)
    assert len(careful) > len(chunks)


def test_an_upload_that_begins_on_a_quiet_link_waits_little_in_chunks_of_one_size() -> None:
    link = LinkEstimate()
    chunk_times(link, 150 * MIB, rate=5 * MIB, wait=0.06, profile=SERVERLESS)
    size = link.first_size(None, SERVERLESS)
    assert 0.03 * size / (5 * MIB) > 0.06


def test_what_earlier_processes_learned_and_the_round_trip_give_the_first_size() -> None:
    """In chunks of one size, an upload cannot grow them."""
    link = LinkEstimate(uplink=40 * MIB, carries=120 * MIB)
    assert link.first_size(None, SERVERLESS) == 10 * MIB
    link.round_trip = 0.1
    assert link.first_size(None, SERVERLESS) == 60 * MIB
    link.round_trip = 0.001
    assert link.first_size(None, SERVERLESS) == 10 * MIB


def test_the_first_chunk_of_a_layer_that_is_being_compressed_is_not_large() -> None:
    """Or a layer of less than that waits for its end, however fast the link; unless the user says so."""
    link = LinkEstimate(uplink=40 * MIB, carries=120 * MIB)
    link.round_trip = 0.1
    assert link.first_size(None, DISTRIBUTION_3) == 60 * MIB
    assert link.first_size(None, DISTRIBUTION_3, is_unfinished=True) == DEFAULT_CHUNK
    assert link.first_size(30 * MIB, DISTRIBUTION_3, is_unfinished=True) == 30 * MIB
    assert link.first_size(None, SERVERLESS, is_unfinished=True) == 60 * MIB, "all chunks have its size"


# --- a link that breaks -----------------------------------------------------------------------------------


def test_one_break_early_on_does_not_make_chunks_tiny() -> None:
    link = LinkEstimate()
    link.record_break(100, DEFAULT_CHUNK)
    assert link.first_size(None) >= 3 * MIB
    for _ in range(20):
        link.record_break(100, DEFAULT_CHUNK)
    assert link.first_size(None) == 256 * KIB


@pytest.mark.parametrize("every", [2 * MB, 5 * MB, 20 * MB, 60 * MB, 200 * MB])
def test_a_regular_break_leaves_chunks_well_below_what_is_carried(every: int) -> None:
    link = LinkEstimate()
    shake(link, 20 * every, lambda: every)
    assert every / 16 <= link.first_size(None, SERVERLESS) <= every / 5
    assert shake(link, 20 * every, lambda: every) < 1.26


def test_less_is_sent_again_than_with_fixed_chunks() -> None:
    fixed = shake(LinkEstimate(), 300 * MB, lambda: 20 * MB, chunk=DEFAULT_CHUNK)
    assert 1.8 < fixed < 2
    assert shake(LinkEstimate(), 300 * MB, lambda: 20 * MB) < 1.26


def test_irregular_breaks_cost_little() -> None:
    draw = random.Random(5)
    wasted = shake(LinkEstimate(), 3000 * MB, lambda: round(draw.expovariate(1 / (30 * MB))))
    assert wasted < 1.15


def test_a_link_that_has_got_better_is_slowly_trusted_again() -> None:
    link = LinkEstimate()
    shake(link, 200 * MB, lambda: 4 * MB)
    small = link.first_size(None, SERVERLESS)
    assert small < MIB
    sizes = send(link, 400 * MIB, rate=50 * MIB, profile=SERVERLESS)
    assert sizes[:-1] == sorted(sizes[:-1])
    assert sizes[10] < 2 * MIB
    assert link.first_size(None, SERVERLESS) >= 20 * MIB


def test_what_is_known_goes_on_in_the_next_process() -> None:
    link = LinkEstimate()
    shake(link, 300 * MB, lambda: 20 * MB)
    later = LinkEstimate(uplink=link.uplink, carries=link.carries, breaks=link.breaks)
    assert later.first_size(None, SERVERLESS) == link.first_size(None, SERVERLESS)
    assert later.describe(later.first_size(None, SERVERLESS)) == f"the link broke {link.breaks} times"


def test_a_link_that_never_broke_is_not_said_to_break() -> None:
    link = LinkEstimate()
    assert link.describe(5 * MIB) == "nothing is known of the link yet"
    link.record_chunk(5 * MIB, 0.1)
    assert link.describe(5 * MIB) == "the link has held so far"
    link.record_break(3 * MIB, 5 * MIB)
    assert link.describe(5 * MIB) == "the link broke once"


def test_what_lies_between_breaks_is_what_was_measured() -> None:
    link = LinkEstimate()
    for sent in (3 * MIB, MIB, 2 * MIB, 3 * MIB):
        link.record_break(sent, 5 * MIB)
    assert link.describe(5 * MIB) == "the link broke 4 times, with some 2.0 MiB between two breaks"


def test_connections_that_break_together_are_one_break_of_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(uplink, "time", SimpleNamespace(monotonic=lambda: now))
    link = LinkEstimate()
    for _ in range(2):
        link.record_chunk(4 * MIB, 1.0)
        now += 10
        for _ in range(3):
            link.record_break(3 * MIB, 5 * MIB, seconds=2.0)
            now += 0.1
    assert link.describe(5 * MIB) == "the link broke 2 times, with some 13 MiB between two breaks"
    assert link.carries is not None
    assert 10 * MIB < link.carries < 40 * MIB
    link.record_break(MIB, 5 * MIB, seconds=0.1)
    assert link.breaks == 3, "its chunk began after the break before"
    now += 5
    link.record_break(MIB, 5 * MIB, seconds=60.0)
    assert link.breaks == 4, "its connection outlived the break before"


def test_uploads_are_sent_together_again_once_the_link_is_stable() -> None:
    link = LinkEstimate()
    link.record_chunk(30 * MIB, 1.0)
    link.record_break(MIB, 10 * MIB)
    assert not link.needs_lone_upload, "nothing was lost but a chunk"
    link.record_lost_upload()
    for _ in range(12):
        assert link.needs_lone_upload
        link.record_chunk(10 * MIB, 1.0)
    link.record_chunk(10 * MIB, 1.0)
    assert not link.needs_lone_upload
    link.record_break(MIB, 10 * MIB)
    assert link.needs_lone_upload


def test_a_slow_link_is_named_as_the_reason() -> None:
    assert LinkEstimate(uplink=200_000, carries=900 * MB).describe(MIB) == "an upload gets 195.3 KiB/s"
    assert LinkEstimate(max_chunk=MIB).describe(MIB) == "larger bodies are refused (413)"


def test_chunks_are_small_again_once_the_link_has_broken() -> None:
    link = LinkEstimate()
    for _ in range(8):
        link.record_chunk(10 * MIB, 2.1, answer=0.1)
    assert link.largest_size(None, DISTRIBUTION_2, FREE) == 90 * MIB
    link.record_break(3 * MIB, 20 * MIB)
    link.record_break(3 * MIB, 10 * MIB)
    assert link.largest_size(None, DISTRIBUTION_2, FREE) < 10 * MIB


def test_connections_are_kept_again_once_the_link_has_held_for_long() -> None:
    """A new one for each chunk costs round trips. Where a break costs the session, it is worth them."""
    link = LinkEstimate()
    assert not link.closes_connections(DISTRIBUTION_3)
    link.record_break(100, 200)
    for _ in range(60):
        assert link.closes_connections(DISTRIBUTION_3)
        assert link.closes_connections(DISTRIBUTION_2)
        link.record_chunk(10 * MIB, 1)
    for _ in range(20):
        link.record_chunk(10 * MIB, 1)
    assert not link.closes_connections(DISTRIBUTION_3)
    assert link.closes_connections(DISTRIBUTION_2)
    link.record_break(3 * MIB, 10 * MIB)
    assert link.closes_connections(DISTRIBUTION_3)


def test_growth_within_a_session_keeps_to_what_the_link_carries() -> None:
    assert LinkEstimate().largest_size(None, DISTRIBUTION_3, FREE) == 20 * MIB
    assert LinkEstimate().largest_size(None, DISTRIBUTION_2, FREE) == 5 * MIB, "a break is dear there"
    assert LinkEstimate().largest_size(7 * MIB, DISTRIBUTION_3, FREE) == 7 * MIB, (
        "what the user asks for does not grow"
    )
    assert LinkEstimate(carries=500 * MB).largest_size(None, DISTRIBUTION_3, FREE) == 90 * MIB


def test_many_uploads_may_tell_at_once() -> None:
    link = LinkEstimate(carries=1)

    def tell() -> None:
        for _ in range(2000):
            link.record_chunk(1000, 1)

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert link.carries == 8_000_001


# --- chunks that never get through ------------------------------------------------------------------------


def test_a_link_that_breaks_gets_chunks_that_it_carried() -> None:
    link = LinkEstimate()
    assert link.lower_ceiling(100 * MIB, FREE, 20 * MIB) == 10 * MIB
    assert link.first_size(100 * MIB) == 10 * MIB
    assert link.first_size(None) == DEFAULT_CHUNK


def test_a_retreat_does_not_go_down_to_nothing() -> None:
    link = LinkEstimate()
    assert link.lower_ceiling(DEFAULT_CHUNK, FREE, 100) == 256 * 1024
    assert link.first_size(None) == 256 * 1024


def test_a_registry_that_takes_no_smaller_chunks_gets_the_same_again() -> None:
    limits = Limits(DEFAULT_CHUNK, None)
    assert LinkEstimate().lower_ceiling(DEFAULT_CHUNK, limits, 100) == DEFAULT_CHUNK


def test_whole_blobs_that_get_through_bring_the_chunks_back() -> None:
    link = LinkEstimate()
    link.lower_ceiling(DEFAULT_CHUNK, FREE, 4 * MIB)
    sizes = []
    while (size := link.first_size(None)) < DEFAULT_CHUNK:
        sizes.append(size)
        link.record_blob()
    assert sizes == [2 * MIB, 4 * MIB, 8 * MIB]
    link.record_blob()
    assert link.first_size(100 * MIB) == 100 * MIB


# --- chunks that grow -------------------------------------------------------------------------------------


def test_quick_chunks_double_up_to_what_the_link_carries() -> None:
    stride, sizes = ChunkGrowth(), []
    for _ in range(5):
        sizes.append(stride.next_size(DEFAULT_CHUNK, 90 * MIB) // MIB)
        stride.record_success(sizes[-1] * MIB, 0.1)
    assert sizes == [10, 20, 40, 80, 90]
    stride.record_failure()
    assert stride.next_size(DEFAULT_CHUNK, 90 * MIB) == 90 * MIB
    for size in (40, 20, 10, 10):
        stride.record_failure()
        assert stride.next_size(DEFAULT_CHUNK, 80 * MIB) == size * MIB


def test_slow_chunks_stay_as_they_are() -> None:
    stride = ChunkGrowth()
    stride.record_success(DEFAULT_CHUNK, 5.0)
    assert stride.next_size(DEFAULT_CHUNK, 90 * MIB) == DEFAULT_CHUNK


def test_what_cost_the_session_once_is_not_dared_again() -> None:
    stride = ChunkGrowth()
    stride.record_success(4 * MIB, 0.1)
    stride.record_failure()
    stride.lower_cap(8 * MIB)
    for _ in range(3):
        stride.record_success(stride.next_size(MIB, 90 * MIB), 0.1)
    assert stride.next_size(MIB, 90 * MIB) == 4 * MIB


def test_it_is_dared_again_where_answers_cost_more_than_the_session() -> None:
    link, stride = LinkEstimate(), ChunkGrowth()
    link.record_chunk(4 * MIB, 0.9, answer=0.5)
    stride.record_success(4 * MIB, 0.9)
    stride.lower_cap(8 * MIB)
    assert stride.is_capped(90 * MIB)
    assert link.pays_to_grow(4 * MIB, 900 * MIB, 4 * MIB, failures=1)
    assert not link.pays_to_grow(400 * MIB, 900 * MIB, 4 * MIB, failures=1)
    assert not link.pays_to_grow(40 * MIB, 900 * MIB, 4 * MIB, failures=9)
    stride.raise_cap()
    assert stride.next_size(MIB, 90 * MIB) == 8 * MIB
    assert not stride.is_capped(90 * MIB)


def test_where_answers_take_long_chunks_are_as_large_as_breaks_allow() -> None:
    link = LinkEstimate(carries=80 * MIB)
    assert link.first_size(None, SERVERLESS) == 10 * MIB
    link.record_chunk(10 * MIB, 0.6, answer=0.5)
    assert link.first_size(None, SERVERLESS) == 40 * MIB


@pytest.mark.parametrize(("most", "size"), [(25 * MIB, 20), (10 * MIB, 10), (5 * MIB, 5), (90 * MIB, 40)])
def test_grown_chunks_keep_to_the_limit(most: int, size: int) -> None:
    stride = ChunkGrowth()
    stride.record_success(DEFAULT_CHUNK, 0.1)
    stride.record_success(2 * DEFAULT_CHUNK, 0.1)
    assert stride.next_size(DEFAULT_CHUNK, most) == size * MIB

"""The last chunk in the closing PUT, where the registry takes it and the link holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from pusher.registry.upload import chunk_sizes
from pusher.registry.upload.uplink import LinkEstimate
from tests.registry.helpers import CHUNK, RULES, SIZE, Push, pushing
from tests.support.fakeregistry import Answer, DropReply, Fault, On, ResetAfter, too_large

REST = SIZE % CHUNK
FULL = [CHUNK] * (SIZE // CHUNK)


@contextmanager
def pushing_by_itself(kind: str, folder: Path, **options: object) -> Iterator[Push]:
    """A push whose chunks have ``CHUNK`` bytes, though the user did not set that."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("first_size", "largest_size"):
            patch.setattr(LinkEstimate, name, lambda *_, **__: CHUNK)
        with pushing(RULES[kind], folder, chunk_size=None, **options) as push:
            yield push


def bodies(push: Push) -> tuple[list[int], list[int]]:
    """Bytes of the chunks and of the closing PUTs that arrived."""
    chunks, puts = (push.registry.requests(on) for on in (On.CHUNK, On.CLOSE))
    return [each.body_received for each in chunks], [each.body_received for each in puts]


def test_the_last_chunk_goes_in_the_put_of_distribution(kind: str, tmp_path: Path) -> None:
    with pushing_by_itself(kind, tmp_path) as push:
        assert push.run() == "uploaded"
        push.assert_there(faults=0)
        expected = ([*FULL, REST], [0]) if kind == "serverless" else (FULL, [REST])
        assert bodies(push) == expected


@contextmanager
def pushing_on_a_quiet_link(kind: str, folder: Path, **options: object) -> Iterator[Push]:
    """A push whose first chunk has ``CHUNK`` bytes, and so have those after a break; others may have all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LinkEstimate, "first_size", lambda *_, **__: CHUNK)
        patch.setattr(LinkEstimate, "largest_size", lambda link, *_, **__: SIZE if link.is_quiet else CHUNK)
        patch.setattr(chunk_sizes, "_WAITING", -1.0)  # every response takes long
        with pushing(RULES[kind], folder, chunk_size=None, **options) as push:
            yield push


@pytest.mark.parametrize("learned", [None, "distribution-2", "distribution-3"])
def test_two_requests_carry_a_blob_while_the_link_holds(tmp_path: Path, learned: str | None) -> None:
    """The first one measures the link."""
    with pushing_on_a_quiet_link(learned or "distribution-3", tmp_path, learned=learned) as push:
        assert push.run() == "uploaded"
        push.assert_there(faults=0)
        assert bodies(push) == ([CHUNK], [SIZE - CHUNK])
        assert push.registry.requests(On.STATUS) == [], "no probe for one request"


def test_chunks_of_one_size_do_not_grow(tmp_path: Path) -> None:
    with pushing_on_a_quiet_link("serverless", tmp_path) as push:
        push.run()
        assert bodies(push) == ([*FULL, REST], [0])


@pytest.mark.parametrize("restart", [False, True])
def test_a_large_put_that_breaks_is_continued_in_small_chunks(tmp_path: Path, restart: bool) -> None:
    with pushing_on_a_quiet_link("distribution-3", tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, ResetAfter(CHUNK)))
        assert push.run(restart=restart) == "uploaded"
        push.assert_there(faults=3)  # of the session's chunks: what the system had in its buffers
        chunks, puts = bodies(push)
        assert sum(chunks) + sum(puts) == SIZE, "what arrived is kept"
        if not restart:
            assert chunks == [CHUNK, CHUNK, CHUNK, SIZE - 4 * CHUNK]


def test_a_large_put_that_breaks_costs_distribution_2_what_a_small_chunk_does(tmp_path: Path) -> None:
    """The session; the next one is sent in small chunks to its end."""
    with pushing_on_a_quiet_link("distribution-2", tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, ResetAfter(CHUNK)))
        assert push.run() == "uploaded"
        push.assert_there(losses=1)
        assert bodies(push) == ([CHUNK, *FULL, REST], [CHUNK, 0])


def test_a_large_put_that_is_refused_for_its_size_goes_in_chunks(tmp_path: Path) -> None:
    with pushing_on_a_quiet_link("distribution-3", tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, too_large()))
        assert push.run() == "uploaded"
        push.assert_there(faults=4)
        assert push.link.max_chunk == (SIZE - CHUNK) // 2
        assert len(push.registry.requests(On.OPEN)) == 1


def test_no_put_waits_for_a_download_while_bytes_could_be_sent(tmp_path: Path) -> None:
    class Download:
        """A file of which another two chunks are there after each one that was sent."""

        held = CHUNK

        def wait(self, end: int, _check_stop: Callable[[], None], /) -> bool:
            assert end <= self.held, "it would wait"
            self.held = min(SIZE, self.held + 2 * CHUNK)
            return True

        def promise(self, _end: int, /) -> None:
            return None

        def forecast(self) -> tuple[float, float]:
            return 0.0, 0.0

        def open(self) -> BinaryIO:
            return (tmp_path / "file").open("rb")

    with pushing_on_a_quiet_link("distribution-3", tmp_path) as push:
        push.blob = replace(push.blob, arrival=Download())
        push.restart()
        assert push.run() == "uploaded"
        push.assert_there(faults=0)
        assert bodies(push) == ([CHUNK, 2 * CHUNK], [SIZE - 3 * CHUNK])


def test_the_size_that_the_user_set_is_that_of_every_chunk(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.run()
        assert bodies(push) == ([*FULL, REST], [0])


@pytest.mark.parametrize("restart", [False, True])
def test_what_arrived_of_a_broken_put_is_not_sent_again(tmp_path: Path, restart: bool) -> None:
    """Then the link has broken: the rest goes in a chunk of its own."""
    with pushing_by_itself("distribution-3", tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, ResetAfter(1_000)))
        assert push.run(restart=restart) == "uploaded"
        push.assert_there()
        chunks, puts = bodies(push)
        assert (chunks[: len(FULL)], puts[0]) == (FULL, 1_000)
        assert sum(chunks) + sum(puts) == SIZE


def test_distribution_2_loses_the_session_as_with_a_broken_chunk(tmp_path: Path) -> None:
    with pushing_by_itself("distribution-2", tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, ResetAfter(1_000)))
        assert push.run() == "uploaded"
        push.assert_there(losses=1)


def test_a_put_whose_response_is_lost_is_not_sent_again(kind: str, tmp_path: Path) -> None:
    with pushing_by_itself(kind, tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, DropReply()))
        assert push.run() == "uploaded"
        push.assert_there(faults=0)


def test_a_put_that_is_refused_for_its_size_is_sent_in_smaller_chunks(tmp_path: Path) -> None:
    """The session is kept, with what it holds."""
    with pushing_by_itself("distribution-3", tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, too_large()))
        assert push.run() == "uploaded"
        push.assert_there()
        assert len(push.registry.requests(On.OPEN)) == 1


def test_a_registry_that_fails_after_the_last_byte_gets_it_once(tmp_path: Path) -> None:
    with pushing_by_itself("distribution-3", tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, Answer(502)))
        assert push.run() == "uploaded"
        push.assert_there()

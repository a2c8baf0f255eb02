"""The last chunk in the closing PUT, where the registry takes it and the link holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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

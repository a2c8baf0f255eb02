"""The size of a compressed layer's chunks where all have one size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pusher.registry.http.body import BlobFile
from pusher.registry.upload.early_chunks import equal_size
from pusher.registry.upload.profiles import MIB
from pusher.spool.arrival import ArrivalFailed, LayerArrival
from tests.registry.helpers import Push
from tests.support.fakeregistry import DISTRIBUTION_3, SERVERLESS, FakeRegistry, Rules


def _blob(expected: float, seconds: float, *, is_unfinished: bool = True) -> BlobFile:
    arrival = LayerArrival()
    arrival.expect(expected, seconds)
    return BlobFile("sha256:" + 64 * "0", 150 * MIB, Path(), arrival=arrival, is_unfinished=is_unfinished)


@pytest.mark.parametrize(
    ("expected", "seconds", "size"),
    [
        (30 * MIB, 5.0, 20 * MIB),
        (13 * MIB, 5.0, 10 * MIB),
        (30 * MIB, 1.0, 40 * MIB),  # compressed sooner than more chunks are sent
        (40 * MIB, 5.0, 40 * MIB),  # a large chunk can begin at once, too
        (9 * MIB, 5.0, 40 * MIB),  # too small for more than one chunk
        (0.0, 0.0, 40 * MIB),  # nothing is known yet
    ],
)
def test_chunks_are_smaller_where_that_lets_the_first_begin_early(
    expected: float, seconds: float, size: int
) -> None:
    assert equal_size(40 * MIB, _blob(expected, seconds)) == size


def test_not_those_of_a_complete_blob() -> None:
    assert equal_size(40 * MIB, _blob(30 * MIB, 5.0, is_unfinished=False)) == 40 * MIB
    assert equal_size(40 * MIB, replace(_blob(30 * MIB, 5.0), arrival=None)) == 40 * MIB


@pytest.mark.parametrize(
    ("rules", "wanted", "size"),
    [(SERVERLESS, None, 20 * MIB), (SERVERLESS, 30 * MIB, 30 * MIB), (DISTRIBUTION_3, None, 10 * MIB)],
)
def test_a_session_is_opened_with_such_chunks(
    tmp_path: Path, rules: Rules, wanted: int | None, size: int
) -> None:
    with FakeRegistry(rules) as registry:
        push = Push(registry, tmp_path, chunk_size=wanted)
        push.blob = _blob(30 * MIB, 5.0)
        push.restart()
        push.link.uplink, push.link.carries = 40.0 * MIB, 720.0 * MIB
        push.blob.arrival.fail()  # type: ignore[union-attr]
        with pytest.raises(ArrivalFailed):
            push.upload.run()
        push.close()
    assert push.journal.chunk_sizes == [size]

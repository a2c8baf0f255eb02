"""Body limits in front, blobs that are too large, and chunks that a registry asks for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pusher.errors import ChunkTooLarge, LayerTooLarge
from pusher.registry.body import Blob
from pusher.registry.profiles import GIB
from tests.registry.helpers import CHUNK, REPOSITORY, RULES, pushing
from tests.support.fakeregistry import SERVERLESS, Fault, On, too_large


def test_chunks_are_halved_until_the_front_lets_them_through(kind: str, tmp_path: Path) -> None:
    rules = dataclasses.replace(RULES[kind], max_body=1200)
    with pushing(rules, tmp_path) as push:
        assert push.run() == "uploaded"
        push.assert_there(faults=2)
        assert push.journal.chunk_sizes == [CHUNK, CHUNK // 2, CHUNK // 4]
        assert len(push.registry.requests(On.OPEN)) == 1
        assert push.link.max_chunk == 1000
        assert push.journal.facts["max_chunk"] == 1000
        assert push.errors == []


def test_what_a_413_taught_holds_for_the_next_blob_and_after_a_restart(kind: str, tmp_path: Path) -> None:
    rules = dataclasses.replace(RULES[kind], max_body=1200)
    with pushing(rules, tmp_path) as push:
        push.run()
        push.registry.remove_blob(REPOSITORY, push.digest)
        push.journal.session = None
        push.restart()
        push.run()
        assert push.journal.chunk_sizes[3:] == [1000]
        assert push.journal.lost_sessions == []


def test_413_in_the_middle_of_an_upload(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(Fault(On.CHUNK, too_large(), nth=3))
        push.run()
        push.assert_there(losses=1)
        assert push.journal.chunk_sizes == [CHUNK, CHUNK // 2]


def test_413_on_a_blob_in_one_put(kind: str, tmp_path: Path) -> None:
    rules = dataclasses.replace(RULES[kind], max_body=3000)
    with pushing(rules, tmp_path, size=5000, chunk_size=8000) as push:
        assert push.run() == "uploaded"
        push.assert_there()
        assert push.journal.chunk_sizes[1:] == [2500]
        assert len(push.registry.requests(On.OPEN)) == 1


def test_413_before_the_smallest_chunk_is_an_error_that_says_so(tmp_path: Path) -> None:
    rules = dataclasses.replace(RULES["serverless"], max_body=500)
    with pushing(rules, tmp_path) as push:
        with pytest.raises(ChunkTooLarge) as error:
            push.run()
        assert "413" in error.value.message
        assert "1000 bytes" in error.value.message
        assert push.journal.chunk_sizes == [4000, 2000, 1000]


def test_too_large_a_layer_is_refused_before_a_byte_is_sent(tmp_path: Path) -> None:
    with pushing(SERVERLESS, tmp_path) as push:
        digest = "sha256:" + "0" * 64
        push.blob = Blob(digest, 5 * GIB + 1, tmp_path / "is-never-opened")
        push.restart()
        with pytest.raises(LayerTooLarge) as error:
            push.run()
        assert digest in error.value.message
        assert str(5 * GIB) in error.value.message
        assert (push.registry.body_bytes_received(), push.registry.sessions) == (0, {})
        assert push.journal.calls == []


def test_chunk_sizes_keep_to_what_is_announced(tmp_path: Path) -> None:
    rules = SERVERLESS.scaled(min=3000, max=6000)
    for wanted, expected in ((1000, 3000), (4000, 4000), (None, 6000), (50_000, 6000)):
        with pushing(rules, tmp_path, chunk_size=wanted) as push:
            push.run()
            push.assert_there(faults=0)
            assert push.journal.chunk_sizes == [expected]


@pytest.mark.parametrize("size", [0, 1, 2, 999, CHUNK - 1, CHUNK])
def test_a_blob_no_larger_than_a_chunk_is_one_put(kind: str, size: int, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, size=size) as push:
        assert push.run() == "uploaded"
        push.assert_there(faults=0)
        assert push.registry.chunks == []
        assert [record.status for record in push.registry.requests(On.CLOSE)] == [201]


@pytest.mark.parametrize("size", [CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK + 2])
def test_no_chunk_of_one_byte_is_left(kind: str, size: int, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, size=size) as push:
        assert push.run() == "uploaded"
        push.assert_there(faults=0)
        assert sum(push.registry.chunks) == size
        assert min(push.registry.chunks) > 1
        *full, last = push.registry.chunks
        assert len(set(full)) == 1
        assert last <= full[0]

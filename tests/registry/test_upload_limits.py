"""Body limits in front, blobs that are too large, and chunks that a registry asks for."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.errors import ChunkTooLarge, LayerTooLarge, RegistryFault
from pusher.registry.http.body import BlobFile
from pusher.registry.upload.chunk_sizes import DEFAULT_CHUNK
from pusher.registry.upload.profiles import GIB
from tests.registry.helpers import CHUNK, LEAST, REPOSITORY, RULES, pushing
from tests.support.fakeregistry import SERVERLESS, Fault, On, ResetAfter, too_large


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
        push.journal.session = push.chunk_size = None
        push.restart()
        push.run()
        assert push.journal.chunk_sizes[3:] == [1000]
        assert push.journal.lost_sessions == []


def test_413_in_the_middle_of_an_upload(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(Fault(On.CHUNK, too_large(), nth=3))
        push.run()
        equal = kind == "serverless"  # where the chunks of a session must not differ
        push.assert_there(losses=int(equal))
        assert push.journal.chunk_sizes == ([CHUNK, CHUNK // 2] if equal else [CHUNK])


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
        assert "1.0 KiB" in error.value.message
        assert push.journal.chunk_sizes == [4000, 2000, 1000]


def test_too_large_a_layer_is_refused_before_a_byte_is_sent(tmp_path: Path) -> None:
    with pushing(SERVERLESS, tmp_path) as push:
        digest = "sha256:" + "0" * 64
        push.blob = BlobFile(digest, 5 * GIB + 1, tmp_path / "is-never-opened")
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


# --- what may be learned from ------------------------------------------------------------------------------


def test_a_413_to_a_body_of_a_few_bytes_sets_no_sizes(kind: str, tmp_path: Path) -> None:
    """A config, say: something in front answered in passing, or a quota is used up."""
    with pushing(RULES[kind], tmp_path, size=248) as push:
        push.registry.faults.add(Fault(On.CLOSE, too_large()))
        assert push.run() == "uploaded"
        assert [type(error) for error in push.errors] == [RegistryFault]
        assert "248 B" in push.errors[0].message
        assert (push.journal.facts, push.link.max_chunk) == ({}, None)
        push.assert_there()


def test_a_413_to_few_bytes_that_lasts_is_told_and_not_tried_for_ever(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, size=248) as push:
        push.registry.faults.add(Fault(On.CLOSE, too_large(), times=None))
        with pytest.raises(ChunkTooLarge, match="248 B is") as error:
            push.run()
        assert "body limit" in error.value.hint
        assert len(push.errors) == 5
        assert push.link.max_chunk is None


def test_chunks_are_not_halved_below_what_fronts_let_through(tmp_path: Path) -> None:
    with pushing(replace(RULES["distribution-3"], max_body=100), tmp_path) as push:
        with pytest.raises(RegistryFault) as error:
            push.upload.run()
        assert "413" in error.value.message
        assert "body limit" in error.value.hint
        assert min(push.journal.chunk_sizes) == LEAST


def test_what_the_user_wants_goes_before_what_an_earlier_run_met(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.journal.facts["max_chunk"] = 1000
        push.restart()
        push.run()
        push.assert_there(faults=0)
        assert push.journal.chunk_sizes == [CHUNK]


def test_breaks_in_a_config_say_nothing_of_the_link(kind: str, tmp_path: Path) -> None:
    """Not in the chunks that follow, nor in those of a later process, whatever the user wants."""
    with pushing(RULES[kind], tmp_path, size=320, forced="distribution-2") as push:
        push.registry.faults.add(Fault(On.CLOSE, ResetAfter(200), times=4))
        push.run()
        assert (push.link.breaks, push.link.first_size(None)) == (0, DEFAULT_CHUNK)
        assert push.link.first_size(CHUNK) == CHUNK
        assert push.journal.facts == {}

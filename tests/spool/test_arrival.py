"""Blobs that are sent on while they still come in."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from pusher.errors import Stopped
from pusher.spool import arrival as arrival_module
from pusher.spool.arrival import ArrivalFailed, BlobArrival, LayerArrival
from pusher.spool.spool import Spool
from tests.support.images import random_bytes, sha256
from tests.support.waiting import PATIENCE, wait_until

DATA = random_bytes(100_000, compressible=0.0)
DIGEST = sha256(DATA)


def nothing() -> None:
    pass


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def arrival(spool: Spool) -> BlobArrival:
    return spool.new_arrival(DIGEST, len(DATA))


def test_what_is_there_need_not_be_waited_for(arrival: BlobArrival) -> None:
    arrival.wait(0, nothing)
    arrival.set_held(500)
    arrival.wait(1, nothing)
    arrival.wait(500, nothing)


@pytest.mark.parametrize("end", [501, len(DATA)])
def test_the_rest_is_waited_for(arrival: BlobArrival, end: int) -> None:
    arrival.set_held(500)
    looked = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(arrival.wait, end, looked.set)
        assert looked.wait(60)
        assert not waiting.done()
        arrival.set_held(501)
        arrival.set_held(len(DATA))
        if end == len(DATA):
            looked.clear()
            assert looked.wait(60)
            assert not waiting.done(), "all bytes are there, and nobody has verified them"
            arrival.finish(whole=True)
        waiting.result(10)


@pytest.mark.parametrize("held", [0, 500, len(DATA)])
def test_what_does_not_come_is_not_waited_for(arrival: BlobArrival, held: int) -> None:
    arrival.set_held(held)
    arrival.finish(whole=False)
    arrival.finish(whole=True)
    with pytest.raises(ArrivalFailed):
        arrival.wait(len(DATA), nothing)


def test_what_was_whole_stays_whole(arrival: BlobArrival) -> None:
    arrival.finish(whole=True)
    arrival.finish(whole=False)
    arrival.wait(len(DATA), nothing)


def test_a_stop_ends_the_wait(arrival: BlobArrival) -> None:
    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        arrival.wait(1, stop)


def test_the_bytes_are_found_before_and_after_they_are_whole(spool: Spool, arrival: BlobArrival) -> None:
    with spool.open_partial(DIGEST, len(DATA)) as partial:
        assert partial is not None
        partial.write(DATA[:500])
        with arrival.open() as early:
            assert (partial.held, early.read()) == (500, DATA[:500])
            partial.write(DATA[500:])
            partial.commit(spool.path(DIGEST))
            assert early.read() == DATA[500:]
    with arrival.open() as late:
        assert late.read() == DATA
    spool.remove(DIGEST)
    with pytest.raises(FileNotFoundError):
        arrival.open()


# --- a layer that is being compressed ---------------------------------------------------------------------


@pytest.fixture
def layer(tmp_path: Path) -> LayerArrival:
    """The first 60,000 bytes of ``DATA``, written in three blocks."""
    arrival, path = LayerArrival(), tmp_path / "unfinished"
    arrival.add_place(path)
    path.write_bytes(DATA[:60_000])
    found = hashlib.sha256()
    for start in range(0, 60_000, 20_000):
        found.update(DATA[start : start + 20_000])
        arrival.record_write(start + 20_000, found)
    return arrival


def test_of_an_unfinished_blob_two_bytes_are_kept_back(layer: LayerArrival) -> None:
    """They are what the request that closes the upload will have at least."""
    assert layer.wait(59_998, nothing)

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        layer.wait(59_999, stop)
    layer.finish()
    assert not layer.wait(59_999, nothing), "its size is known now"
    assert not layer.wait(1, nothing)


@pytest.mark.parametrize("ends", [(1, 20_000, 20_001, 60_000), (60_000, 5), (0,)])
def test_the_hash_of_any_beginning(layer: LayerArrival, ends: tuple[int, ...]) -> None:
    """Earlier ones as well, as after a lost session."""
    for end in ends:
        assert layer.prefix_digest(end) == hashlib.sha256(DATA[:end]).hexdigest()
    assert layer.prefix_digest(60_001) is None


def test_a_blob_that_is_renamed_while_it_is_opened(layer: LayerArrival, tmp_path: Path) -> None:
    """Its last place is recorded after the upload has read the others."""

    class Renamed:
        def open(self, _mode: str) -> BinaryIO:
            (tmp_path / "unfinished").rename(tmp_path / "whole")
            layer.add_place(tmp_path / "whole")
            raise FileNotFoundError

    layer._places = [Renamed()]  # type: ignore[list-item]
    expected = (tmp_path / "unfinished").read_bytes()
    with layer.open() as file:
        assert file.read() == expected


def test_a_failed_compressor_leaves_nothing_to_send(layer: LayerArrival, tmp_path: Path) -> None:
    layer.fail()
    (tmp_path / "unfinished").unlink()
    with pytest.raises(ArrivalFailed):
        layer.wait(1, nothing)
    with pytest.raises(ArrivalFailed):
        layer.prefix_digest(1)


def test_what_will_come_is_asked_before_it_is_known(layer: LayerArrival) -> None:
    """It is said once something is compressed, or nothing more comes."""
    with ThreadPoolExecutor() as threads:
        promise, forecast = threads.submit(layer.promise, 70_000), threads.submit(layer.forecast)
        layer.expect(0.0, 0.0)
        layer.expect(80_000, 2.0)
        assert promise.result() is not None
        assert forecast.result() == (80_000, 2.0)
    empty = LayerArrival()
    with ThreadPoolExecutor() as threads:
        promise = threads.submit(empty.promise, 70_000)
        empty.fail()
        assert promise.result() is None


def test_what_is_not_certain_to_come_is_not_promised(layer: LayerArrival) -> None:
    layer.expect(60_000)
    assert layer.promise(70_000) is None
    layer.expect(70_000)
    assert layer.promise(70_001) is None
    assert layer.promise(70_000) is not None
    layer.finish()
    assert layer.promise(70_000) is None, "its size is known now"


def test_promised_bytes_are_given_as_they_come(layer: LayerArrival) -> None:
    layer.expect(100_000)
    promised = layer.promise(80_000)
    assert promised is not None
    assert not layer.is_owed
    with promised:
        assert layer.is_owed
        assert promised.wait_beyond(0) == 59_998
        more = threading.Thread(target=layer.record_write, args=(90_000, hashlib.sha256(DATA[:90_000])))
        more.start()
        assert promised.wait_beyond(59_998) == 80_000
        more.join()
        assert layer.is_owed, "the request still reads the file"
    assert not layer.is_owed


def test_the_first_of_promised_bytes_do_not_wait_for_more(
    layer: LayerArrival, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival_module, "_BATCH_WAIT", 10 * PATIENCE)  # longer than a test may take
    layer.expect(100_000)
    promised = layer.promise(80_000)
    assert promised is not None
    assert promised.wait_beyond(0) == 59_998, "the link is idle until then"
    more = threading.Thread(target=layer.record_write, args=(70_000, hashlib.sha256(DATA[:70_000])))
    more.start()
    rest = threading.Timer(0.01, layer.record_write, args=(90_000, hashlib.sha256(DATA[:90_000])))
    rest.start()
    assert promised.wait_beyond(59_998) == 80_000, "a batch, not what is there first"
    more.join()
    rest.join()


def test_a_promise_that_is_broken(layer: LayerArrival, monkeypatch: pytest.MonkeyPatch) -> None:
    layer.expect(100_000)
    promised = layer.promise(80_000)
    assert promised is not None
    with promised:
        with monkeypatch.context() as patch:
            patch.setattr(arrival_module, "_STARVED", 0.01)
            assert promised.wait_beyond(59_998) == 59_998, "nothing comes"
        layer.fail()
        with pytest.raises(ArrivalFailed):
            promised.wait_beyond(59_998)
    assert not layer.is_owed


def test_a_worthless_blob_is_kept_for_the_request_that_reads_it_and_for_no_other(
    layer: LayerArrival, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer.expect(100_000)
    promised = layer.promise(50_000)
    assert promised is not None
    promised.__enter__()
    ending = threading.Thread(target=layer.end_request)
    ending.start()
    wait_until(lambda: layer.promise(50_000) is None)
    assert promised.wait_beyond(0) == 50_000
    assert ending.is_alive()
    promised.__exit__(None, None, None)
    ending.join()

    promised.__enter__()
    monkeypatch.setattr(arrival_module, "_LAST_REQUEST", 0.01)
    layer.end_request()  # a slow one is not waited for
    layer.fail()


def test_a_complete_blob_is_given_no_further_than_its_end(layer: LayerArrival) -> None:
    layer.expect(100_000)
    promised = layer.promise(80_000)
    assert promised is not None
    layer.finish()
    assert promised.wait_beyond(59_998) == 59_998

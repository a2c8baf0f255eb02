"""Compression: valid gzip and zstd, the same bytes every time, however the input arrives and is worked on."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import subprocess
import sys
import threading
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pusher.errors import InvalidOption
from pusher.oci import media_types
from pusher.oci.layer_blob import LayerBlob
from pusher.spool import coders, pipeline
from pusher.spool.blocks import BLOCK, Readable
from pusher.spool.coders import FRAME
from pusher.spool.compress import GZIP, Compression, Kind
from tests.support.images import random_bytes, sha256, unpacked
from tests.support.real import require

EVERY = [
    *(Compression.of(Kind.GZIP, level) for level in range(1, 13)),
    *(Compression.of(Kind.ZSTD, level) for level in (1, 3, 9)),
    Compression.of(Kind.NONE),
]
SOME = [
    Compression.of(Kind.GZIP, 2),
    Compression.of(Kind.GZIP, 5),
    Compression.of(Kind.GZIP, 7),
    *EVERY[-3:],
]
NOISE = random.Random(1).randbytes(2 * BLOCK + 4321)
every = pytest.mark.parametrize("how", EVERY, ids=str)
some = pytest.mark.parametrize("how", SOME, ids=str)


def changing(size: int, seed: int = 0) -> bytes:
    """Stretches of noise, text and zeros of every length, as in a layer with pictures and programs."""
    source = random.Random(f"{size}/{seed}")
    parts: list[bytes] = []
    while (left := size - sum(map(len, parts))) > 0:
        length = min(left, source.choice((100, 5_000, 70_000, 300_000, 900_000)))
        parts.append(
            source.choice((source.randbytes, bytes, lambda n: random_bytes(n, seed, compressible=1)))(length)
        )
    return b"".join(parts)


class Dribble:
    """A pipe-like stream: every read gives between 1 byte and what was asked for."""

    def __init__(self, data: bytes, seed: int) -> None:
        self._data = io.BytesIO(data)
        self._random = random.Random(seed)

    def read(self, size: int, /) -> bytes:
        return self._data.read(self._random.randint(1, size))


def run(stream: Readable, how: Compression = GZIP) -> tuple[LayerBlob, bytes]:
    output = bytearray()
    found = pipeline.compress(stream, output.extend, how=how)
    return found, bytes(output)


# --- the bytes ------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("size", [0, 1, BLOCK, 3 * BLOCK + 12345])
def test_every_level_gives_the_data_back_with_right_digests(how: Compression, size: int) -> None:
    data = changing(size)
    found, output = run(io.BytesIO(data), how)
    assert unpacked(output) == data
    assert (found.diff_id, found.uncompressed_size) == (sha256(data), len(data))
    assert (found.digest, found.size) == (sha256(output), len(output))


@pytest.mark.parametrize("level", range(1, 13))
@pytest.mark.parametrize("data", [b"", changing(BLOCK + 1), NOISE], ids=["empty", "changing", "noise"])
def test_gzip_is_one_member_without_time_and_name(level: int, data: bytes) -> None:
    output = run(io.BytesIO(data), Compression.of(Kind.GZIP, level))[1]
    assert output[:8] == b"\x1f\x8b\x08\x00\0\0\0\0", "magic, deflate, no flags (so no name), time 0"
    inflate = zlib.decompressobj(wbits=31)
    assert inflate.decompress(output) == data
    assert inflate.eof
    assert inflate.unused_data == b""


@pytest.mark.parametrize(("blocks", "frames"), [(0, 1), (1, 1), (8, 1), (9, 2), (16, 2)])
def test_zstd_is_a_frame_for_every_eight_blocks(blocks: int, frames: int) -> None:
    """Never one too many: an empty one is there for an empty layer alone."""
    assert FRAME == 8 * BLOCK
    output = run(io.BytesIO(bytes(blocks * BLOCK)), Compression.of(Kind.ZSTD, 1))[1]
    assert output.count(b"\x28\xb5\x2f\xfd") == frames
    descriptor = output[4]
    assert descriptor & 0b100, "with a checksum"
    assert descriptor >> 6 == 0, "without the size of its content"
    assert not descriptor & 0b100000, "and not as one segment, which would tell it as well"
    assert unpacked(output) == bytes(blocks * BLOCK)


@some
@pytest.mark.parametrize("seed", [1, 2])
def test_bytes_do_not_depend_on_how_the_input_arrives(how: Compression, seed: int) -> None:
    data = changing(2 * BLOCK + 777)
    assert run(Dribble(data, seed), how) == run(io.BytesIO(data), how)


@some
@pytest.mark.parametrize("data", [changing(FRAME + 2 * BLOCK + 5), NOISE], ids=["changing", "noise"])
def test_bytes_do_not_depend_on_the_number_of_threads(how: Compression, data: bytes) -> None:
    made = [run(io.BytesIO(data), Compression(how.kind, how.level, threads)) for threads in (1, 2, 4, None)]
    assert made == [made[0]] * 4


@pytest.mark.parametrize("how", SOME, ids=str)
def test_another_process_makes_the_same_bytes(how: Compression) -> None:
    """Nothing in them comes from addresses, hash seeds or the clock."""
    script = (
        "import io, sys; from tests.spool.test_compress import *\n"
        f"print(run(io.BytesIO(changing(3 * BLOCK)), Compression(Kind('{how.kind}'), {how.level}))[0].digest)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == run(io.BytesIO(changing(3 * BLOCK)), how)[0].digest


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=5000), how=st.sampled_from(EVERY))
def test_any_bytes_come_back_and_always_compress_to_the_same(data: bytes, how: Compression) -> None:
    found, output = run(io.BytesIO(data), how)
    assert unpacked(output) == data
    assert run(io.BytesIO(data), how) == (found, output)


@pytest.mark.parametrize(
    ("command", "how"),
    [("gzip", GZIP), ("gzip", Compression.of(Kind.GZIP, 10)), ("zstd", Compression.of(Kind.ZSTD))],
    ids=str,
)
@pytest.mark.parametrize("data", [b"", changing(FRAME + BLOCK), NOISE], ids=["empty", "changing", "noise"])
def test_the_commands_that_everybody_has_take_it(command: str, how: Compression, data: bytes) -> None:
    require(command)
    output = run(io.BytesIO(data), how)[1]
    assert subprocess.run([command, "-dc"], input=output, capture_output=True, check=True).stdout == data


def test_what_is_not_compressed_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    real = hashlib.sha256

    class Counted:
        def __init__(self) -> None:
            self._hash = real()

        def update(self, data: bytes) -> None:
            hashed.append(len(data))
            self._hash.update(data)

        def hexdigest(self) -> str:
            return str(self._hash.hexdigest())

    monkeypatch.setattr("pusher.spool.pipeline.hashlib.sha256", Counted)
    found, output = run(io.BytesIO(NOISE), Compression.of(Kind.NONE))
    assert output == NOISE
    assert found.digest == found.diff_id
    assert sum(hashed) == len(NOISE)


# --- noise ----------------------------------------------------------------------------------------------


@every
def test_incompressible_data_hardly_grows(how: Compression) -> None:
    assert run(io.BytesIO(NOISE), how)[0].size < len(NOISE) * 1.0002 + 64


@pytest.mark.parametrize("level", [2, 6, 9])
def test_noise_is_stored_and_not_compressed(level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("noise was compressed")

    monkeypatch.setattr("pusher.spool.coders.deflate.deflate_compress", never)
    monkeypatch.setattr("pusher.spool.coders.isal_zlib.compressobj", never)
    data = NOISE[: 2 * BLOCK]
    output = run(io.BytesIO(data), Compression.of(Kind.GZIP, level))[1]
    assert output[10] == 0, "the first deflate block is not the last one, and stored"
    assert output[11:13] == b"\xff\xff"
    assert gzip.decompress(output) == data


@pytest.mark.parametrize("level", [1, 2, 3])
def test_what_follows_noise_may_look_back_into_it(level: int) -> None:
    """The window of what is compressed reaches into what was stored before it."""
    noise = NOISE[: coders._PIECE]
    again = noise[-20_000:]
    data = noise + again + bytes(coders._PIECE - len(again))
    output = run(io.BytesIO(data), Compression.of(Kind.GZIP, level))[1]
    assert gzip.decompress(output) == data
    assert len(output) < len(noise) + 2_000


def test_the_slow_levels_find_noise_that_repeats_itself() -> None:
    data = NOISE[:3_000] * 300
    found, output = run(io.BytesIO(data), Compression.of(Kind.GZIP, 6))
    assert gzip.decompress(output) == data
    assert found.size < len(data) / 5


@pytest.mark.parametrize("level", [2, 6])
def test_text_among_noise_is_compressed(level: int) -> None:
    """A quarter of every piece is text."""
    quarter = coders._PIECE // 4
    text = random_bytes(quarter, compressible=1)
    data = b"".join(NOISE[n * 1000 :][: 3 * quarter] + text for n in range(4))
    found, output = run(io.BytesIO(data), Compression.of(Kind.GZIP, level))
    assert gzip.decompress(output) == data
    assert found.size < len(data) * 0.8


@pytest.mark.parametrize(
    "data", [bytes(byte & 127 for byte in NOISE), NOISE[:7_168] + bytes(1024)], ids=["ascii", "zeros"]
)
def test_samples_need_not_be_compressed_that_certainly_are_smaller(data: bytes) -> None:
    """The worst of them, without a repetition: the blob's bytes are the same as if it was tried."""
    sample = data[:8_192]
    assert coders._is_plain(sample)
    assert coders._is_worth_it(sample)
    assert not coders._is_plain(NOISE[:8_192])


# --- what can be asked for ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "level", "hint"),
    [
        (Kind.GZIP, 0, "--compression-level 1 (fastest) to 12 (smallest)"),
        (Kind.GZIP, -1, "--compression-level 1 (fastest) to 12 (smallest)"),
        (Kind.GZIP, 13, "--compression-level 1 (fastest) to 12 (smallest)"),
        (Kind.ZSTD, 0, "--compression-level 1 (fastest) to 19 (smallest)"),
        (Kind.ZSTD, 20, "--compression-level 1 (fastest) to 19 (smallest)"),
        (Kind.NONE, 3, "leave out --compression-level"),
    ],
)
def test_a_level_that_does_not_exist_is_refused_with_what_does(kind: Kind, level: int, hint: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        Compression.of(kind, level)
    assert str(level) in caught.value.message
    assert str(kind) in caught.value.message
    assert hint in caught.value.hint


def test_the_usual_levels() -> None:
    assert [str(Compression.of(kind)) for kind in Kind] == ["gzip 2", "zstd 3", "none"]


def test_the_label_names_library_version_and_level() -> None:
    def label(kind: Kind, level: int, threads: int | None = None) -> str:
        return Compression(kind, level, threads).label

    assert label(Kind.GZIP, 2).startswith("isal-")
    assert label(Kind.GZIP, 2).endswith(":2")
    assert label(Kind.GZIP, 6).startswith("deflate-")
    assert "isal-" in label(Kind.GZIP, 6), "which decides what is stored"
    assert label(Kind.ZSTD, 19).startswith("zstd-1.")
    assert label(Kind.ZSTD, 19).endswith(":19")
    assert label(Kind.NONE, 0) == "none"
    assert label(Kind.ZSTD, 3, threads=1) == label(Kind.ZSTD, 3, threads=8), "the bytes are the same"


def test_the_media_types() -> None:
    assert [Compression.of(kind).media_type for kind in Kind] == [
        media_types.DOCKER_LAYER_GZIP,
        media_types.OCI_LAYER_ZSTD,
        media_types.OCI_LAYER,
    ]


# --- threads and errors ---------------------------------------------------------------------------------


def test_bytes_are_counted_on_the_callers_thread() -> None:
    data, seen = random_bytes(2 * BLOCK + 5), []

    def count(size: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append(size)

    pipeline.compress(io.BytesIO(data), lambda _: None, how=GZIP, on_bytes=count)
    assert seen == [BLOCK, BLOCK, 5]


class _GivenUpError(Exception):
    pass


@some
def test_a_stop_ends_the_work_and_its_threads(how: Compression) -> None:
    before = threading.active_count()
    written = bytearray()

    def stop() -> None:
        raise _GivenUpError

    with pytest.raises(_GivenUpError):
        pipeline.compress(io.BytesIO(bytes(50 * BLOCK)), written.extend, how=how, check_stop=stop)
    assert threading.active_count() == before
    assert len(written) <= BLOCK


@some
def test_an_error_while_reading_comes_out_and_the_threads_end(how: Compression) -> None:
    class Broken:
        def __init__(self) -> None:
            self.left = 12

        def read(self, size: int, /) -> bytes:
            self.left -= 1
            if self.left:
                return bytes(size)
            raise _GivenUpError

    before = threading.active_count()
    with pytest.raises(_GivenUpError):
        run(Broken(), how)
    assert threading.active_count() == before


@some
@pytest.mark.parametrize("size", [10, 40 * BLOCK])
def test_an_error_while_writing_comes_out_for_short_and_long_input(how: Compression, size: int) -> None:
    def write(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    before = threading.active_count()
    with pytest.raises(OSError, match="No space"):
        pipeline.compress(io.BytesIO(bytes(size)), write, how=how)
    assert threading.active_count() == before


def test_an_error_while_compressing_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(coders, "_zstd_frame", broken)
    before = threading.active_count()
    with pytest.raises(MemoryError):
        run(io.BytesIO(bytes(30 * BLOCK)), Compression.of(Kind.ZSTD))
    assert threading.active_count() == before


def test_memory_is_bounded_when_the_disk_is_slower_than_the_source() -> None:
    """The reader is never more than the queue and the threads ahead of the writer."""
    how = Compression(Kind.GZIP, 1, threads=2)
    read = written = furthest = 0
    lock = threading.Lock()

    class Source:
        left = 40

        def read(self, size: int, /) -> bytes:
            nonlocal read
            if not self.left:
                return b""
            self.left -= 1
            with lock:
                read += 1
            return random.Random(self.left).randbytes(BLOCK)

    def write(_: bytes) -> None:
        nonlocal written, furthest
        with lock:
            written += 1
            furthest = max(furthest, read - written)

    pipeline.compress(Source(), write, how=how)
    assert (read, written) == (40, 41), "every block, and the trailer"
    assert furthest <= how.workers + pipeline._QUEUED + 2


@pytest.mark.parametrize(("level", "workers"), [(2, 16), (9, 16), (10, 8), (12, 8)])
def test_the_smallest_levels_have_fewer_threads_for_their_memory(
    level: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pusher.spool.compress.count_processors", lambda: 64)
    assert Compression.of(Kind.GZIP, level).workers == workers
    assert Compression.of(Kind.GZIP, level, threads=20).workers == 20, "as asked"

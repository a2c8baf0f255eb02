"""What a job wants of compression: options, the blobs that will do, and what ``auto`` chooses."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.config import Settings
from pusher.errors import InvalidOption
from pusher.oci import media_types
from pusher.oci.layer_blob import LayerBlob
from pusher.registry.upload.link_rate import LinkRate
from pusher.spool.blocks import BLOCK
from pusher.spool.choice import SAMPLE, Sample, candidates, choose, measure
from pusher.spool.compress import GZIP, Compression, Kind
from pusher.worker.compression import COMPRESSION_NAMES, RequestedCompression
from pusher.worker.compression_chooser import CompressionChooser
from pusher.worker.job_link import JobLink
from pusher.worker.uplinks import LinkEstimates
from tests.support.images import random_bytes, sha256

ZSTD, NONE, ZSTD_9 = Compression.of(Kind.ZSTD), Compression.of(Kind.NONE), Compression.of(Kind.ZSTD, 9)
DIFF_ID = sha256(b"tar")
MB = 1e6


@pytest.fixture(autouse=True)
def _idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr("pusher.processors._busy_seconds", lambda _: None)


def settings(**changes: Any) -> Settings:
    return Settings(home=Path("/nowhere"), database_url="", **changes)


def link(rate: float | None, limit: int | None = None) -> JobLink:
    """A link of so many bytes a second, with the user's limit."""
    links = LinkEstimates(None, lambda: limit)
    links.get("r.example").rate = LinkRate(rate)
    return JobLink(links, "r.example")


# --- options and settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "own", "expected"),
    [
        ({}, {}, "gzip 2"),
        ({"compression": None, "compression_level": None}, {}, "gzip 2"),
        ({"compression": "keep"}, {}, "gzip 2"),
        ({"compression": "gzip"}, {}, "gzip 2"),
        ({"compression": "zstd"}, {}, "zstd 3"),
        ({"compression": "none"}, {}, "none"),
        ({"compression": "zstd", "compression_level": 19}, {}, "zstd 19"),
        ({"compression_level": 9}, {}, "gzip 9"),
        ({}, {"compression": "zstd"}, "zstd 3"),
        ({}, {"compression": "zstd", "compression_level": 12}, "zstd 12"),
        ({"compression": "gzip"}, {"compression": "zstd"}, "gzip 2"),
        # a level is meant for the kind that it was set with
        ({"compression": "zstd"}, {"compression_level": 9}, "zstd 3"),
        ({"compression": "none"}, {"compression_level": 9}, "none"),
        ({"compression": "gzip"}, {"compression_level": 9}, "gzip 9"),
        ({"compression_level": 5}, {"compression": "zstd", "compression_level": 12}, "zstd 5"),
    ],
)
def test_the_jobs_options_go_before_the_settings(
    options: dict[str, object], own: dict[str, object], expected: str
) -> None:
    assert str(RequestedCompression.for_job(options, settings(**own)).compression) == expected


@pytest.mark.parametrize("threads", [None, 1, 3])
@pytest.mark.parametrize("kind", ["keep", "gzip", "zstd", "auto"])
@pytest.mark.parametrize("uplink", [None, 1e6])
def test_the_threads_are_those_of_the_settings(kind: str, threads: int | None, uplink: float | None) -> None:
    requested = RequestedCompression.for_job({"compression": kind}, settings(compression_threads=threads))
    chosen, _ = CompressionChooser(requested, link(uplink)).choose(io.BytesIO(bytes(5 << 20)))
    assert chosen.threads == threads


def test_auto_has_no_compression_of_its_own() -> None:
    assert RequestedCompression.for_job({"compression": "auto"}, settings()).compression is None
    assert RequestedCompression.for_job({}, settings(compression="auto")).compression is None


@pytest.mark.parametrize(
    ("name", "level", "named"),
    [("bzip2", None, "bzip2"), ("", None, "''"), ("zstd", 20, "20"), ("none", 1, "1"), ("auto", 3, "auto")],
)
def test_what_does_not_exist_is_refused_with_what_does(name: str, level: int | None, named: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        RequestedCompression.parse(name, level)
    assert named in caught.value.message
    assert "--compression" in caught.value.hint


def test_a_wrong_setting_is_refused_as_well() -> None:
    with pytest.raises(InvalidOption):
        RequestedCompression.for_job({}, settings(compression="lzma"))


# --- levels that fit the link ---------------------------------------------------------------------------


def follow(rate: float | None, limit: int | None = None, threads: int = 2) -> tuple[str, list[str]]:
    """The level of one layer, and what is said of it."""
    said: list[str] = []
    requested = RequestedCompression.parse("keep", None, threads)
    chooser = CompressionChooser(requested, link(rate, limit), said.append)
    chosen, _ = chooser.choose(io.BytesIO())
    return str(chosen), said + [summary for summary in [chooser.summary()] if summary]


@pytest.mark.parametrize(
    ("rate", "limit", "expected", "why"),
    [
        (None, None, "gzip 2", ["compressing with gzip level 2: the speed of the link is not known yet"]),
        (200 * MB, None, "gzip 2", ["compressing with gzip level 2: the link takes 190.7 MiB/s"]),
        (40 * MB, None, "gzip 5", ["the link takes 38.1 MiB/s"] * 2),
        (5 * MB, None, "gzip 10", ["the link takes 4.8 MiB/s"] * 2),
        (40 * MB, 1_000_000, "gzip 10", ["the rate is limited to 976.6 KiB/s"] * 2),
        (None, 1_000_000, "gzip 10", ["the rate is limited to 976.6 KiB/s"] * 2),
        (5 * MB, 50_000_000, "gzip 10", ["the link takes 4.8 MiB/s"] * 2),
    ],
)
def test_the_level_fits_the_link_or_the_limit(
    rate: float | None, limit: int | None, expected: str, why: list[str]
) -> None:
    chosen, said = follow(rate, limit)
    level = expected.removeprefix("gzip ")
    assert chosen == expected
    assert [text.removeprefix("compressing with ") for text in said[:1]] == [
        f"gzip level {level}: {why[0].rpartition(': ')[2]}"
    ]
    assert said[1:] == [f"compressed with gzip level {level}: {text}" for text in why[1:]]


@pytest.mark.parametrize(
    ("response", "level", "why"),
    [
        (0.001, 2, "the speed of the link is not known yet"),
        (0.1044, 7, "the speed of the link is not known yet, but responses take at least 104 ms"),
    ],
)
def test_an_unknown_link_is_judged_by_its_responses(response: float, level: int, why: str) -> None:
    said: list[str] = []
    unknown = replace(link(None), response_seconds=lambda _: response)
    chooser = CompressionChooser(RequestedCompression.parse("keep", None, 2), unknown, said.append)
    assert chooser.choose(io.BytesIO())[0].level == level
    assert said == [f"compressing with gzip level {level}: {why}"]
    assert unknown.links.choose_level("r.example", 40 * MB, 2) == 5, "nothing of it is kept"


@pytest.mark.parametrize(("share", "waited"), [(1.0, 0.033), (0.5, 0.066), (0.01, 0.25)])
def test_the_first_response_is_waited_for_longer_on_a_busy_machine(share: float, waited: float) -> None:
    patience: list[float] = []

    def response(wait: float) -> float:
        patience.append(wait)
        return wait

    unknown = replace(link(None), response_seconds=response)
    assert unknown.speed(share).response_seconds == pytest.approx(waited)
    assert patience == [pytest.approx(waited)]
    known = replace(link(5 * MB), response_seconds=response)
    assert known.speed().response_seconds is None
    assert len(patience) == 1, "a known link is not waited for"


@pytest.mark.parametrize(
    ("response", "level", "why"),
    [
        (0.001, 2, "the speed of the link is not known yet"),
        (0.02, 10, "another registry got 4.8 MiB/s"),
        (0.1, 10, "another registry got 4.8 MiB/s"),
    ],
)
def test_an_unknown_link_is_judged_by_that_to_another_registry(
    monkeypatch: pytest.MonkeyPatch, response: float, level: int, why: str
) -> None:
    said: list[str] = []
    unknown = replace(link(None), response_seconds=lambda _: response)
    monkeypatch.setattr(unknown.links, "rate_elsewhere", lambda _: 5 * MB)
    chooser = CompressionChooser(RequestedCompression.parse("keep", None, 2), unknown, said.append)
    assert chooser.choose(io.BytesIO())[0].level == level
    assert said == [f"compressing with gzip level {level}: {why}"]


@pytest.mark.parametrize(
    ("asked", "text", "expected"),
    [
        (("keep", None), "gzip 9", "gzip 9"),
        (("keep", None), "gzip 2", "gzip 2"),
        (("gzip", 5), "gzip 5", "gzip 5"),
        (("keep", 6), "gzip 6", "gzip 6"),
        (("keep", 6), "gzip 9", None),
        (("auto", None), "zstd 3", "zstd 3"),
        (("zstd", None), "gzip 9", None),
        (("keep", None), "zstd 3", None),
        (("keep", None), None, None),
        (("keep", None), "xz", None),
        (("keep", None), "gzip nine", None),
    ],
)
def test_a_layer_that_was_begun_keeps_its_level_unless_another_was_asked_for(
    asked: tuple[str, int | None], text: str | None, expected: str | None
) -> None:
    said: list[str] = []
    chooser = CompressionChooser(RequestedCompression.parse(*asked), link(500 * MB), said.append)
    begun = chooser.keep_begun(text)
    assert begun is None if expected is None else str(begun) == expected
    if begun is None:
        assert said == []
    elif asked[1] is None:
        level = f"{begun.kind} level {begun.level}"
        assert said == [f"compressing with {level}: the upload was begun with it"]
        summary = f"compressed with {level}: the upload was begun with it"
        assert chooser.summary() == (None if expected == "gzip 2" else summary), "that is the usual level"


def test_what_was_begun_and_what_is_chosen_are_told_apart() -> None:
    said: list[str] = []
    chooser = CompressionChooser(RequestedCompression.parse("keep", None, 2), link(5 * MB), said.append)
    for _ in range(2):
        chooser.keep_begun("gzip 9")
    for _ in range(2):
        chooser.choose(io.BytesIO())
    assert said == [
        "compressing with gzip level 9: the upload was begun with it",
        "compressing with gzip level 10: the link takes 4.8 MiB/s",
    ]
    assert chooser.summary() == (
        "2 layers compressed with gzip level 9: the upload was begun with it; "
        "2 layers compressed with gzip level 10: the link takes 4.8 MiB/s"
    )


@pytest.mark.parametrize(
    ("load", "seconds", "level"), [(638.0, 0.2, 2), (638.0, 0.4, 5), (126.0, 0.045, 2), (126.0, 0.055, 5)]
)
def test_responses_on_a_busy_machine_are_not_taken_for_those_of_far_away(
    monkeypatch: pytest.MonkeyPatch, load: float, seconds: float, level: int
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    near = replace(link(None), response_seconds=lambda _: seconds)
    chooser = CompressionChooser(RequestedCompression.parse("keep", None, 2), near)
    assert chooser.choose(io.BytesIO())[0].level == level


@pytest.mark.parametrize(("round_trip", "level"), [(0.0001, 2), (0.05, 5)])
def test_packets_from_far_away_show_it_on_a_busy_machine_too(
    monkeypatch: pytest.MonkeyPatch, round_trip: float, level: int
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (638.0, 0.0, 0.0))
    unknown = replace(link(None), response_seconds=lambda _: 0.06, round_trip=lambda: round_trip)
    chooser = CompressionChooser(RequestedCompression.parse("keep", None, 2), unknown)
    assert chooser.choose(io.BytesIO())[0].level == level


def test_other_programs_leave_fewer_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (126.0, 0.0, 0.0))
    busy = "compressing with gzip level 7: the link takes 3.8 MiB/s, and other programs use the processors"
    assert follow(4 * MB) == ("gzip 7", [busy, "compressed with gzip level 7: the link takes 3.8 MiB/s"])
    monkeypatch.setattr(os, "getloadavg", lambda: (62.0, 0.0, 0.0))
    assert follow(4 * MB)[0] == "gzip 10"


def test_more_processors_make_smaller_layers() -> None:
    assert [follow(40 * MB, threads=threads)[0] for threads in (1, 2, 16)] == ["gzip 2", "gzip 5", "gzip 10"]


@pytest.mark.parametrize(
    ("name", "level", "expected"),
    [("gzip", None, "gzip 10"), ("gzip", 6, "gzip 6"), ("keep", 2, "gzip 2"), ("zstd", None, "zstd 3")],
)
def test_a_level_that_was_asked_for_is_obeyed(name: str, level: int | None, expected: str) -> None:
    chooser = CompressionChooser(RequestedCompression.parse(name, level), link(0.1 * MB))
    assert str(chooser.choose(io.BytesIO())[0]) == expected


@pytest.mark.parametrize(
    ("options", "own", "logged", "summary"),
    [
        (
            {"compression_level": 9},
            {"compression_level": 4},
            "compressing with gzip level 9: set for this job",
            "compressed with gzip level 9: set for this job",
        ),
        (
            {},
            {"compression_level": 2},
            "compressing with gzip level 2: set by compression_level",
            "compressed with gzip level 2: set by compression_level",
        ),
        (
            {"compression": "zstd", "compression_level": 19},
            {},
            "compressing with zstd level 19: set for this job",
            "compressed with zstd level 19: set for this job",
        ),
        ({"compression": "zstd"}, {}, "compressing with zstd level 3: the default of zstd", None),
        ({"compression": "none"}, {}, None, None),
    ],
)
def test_where_a_level_was_set_is_told(
    options: dict[str, object], own: dict[str, Any], logged: str | None, summary: str | None
) -> None:
    said: list[str] = []
    requested = RequestedCompression.for_job(options, settings(**own))
    chooser = CompressionChooser(requested, link(5 * MB), said.append)
    begun = chooser.keep_begun(str(requested.compression))
    for _ in range(2):
        assert chooser.choose(io.BytesIO())[0] == requested.compression
    assert begun in (requested.compression, None)
    assert said == ([logged] if logged else [])
    assert chooser.summary() == summary


def test_each_layer_gets_the_level_of_its_time_and_the_changes_are_told() -> None:
    one, said = link(None), list[str]()
    chooser = CompressionChooser(RequestedCompression.parse("keep", None, 2), one, said.append)
    chosen = []
    for rate in (None, 5 * MB, 5.1 * MB, 6 * MB, 40 * MB):
        one.links.get("r.example").rate = LinkRate(rate)
        chosen.append(chooser.choose(io.BytesIO())[0].level)
    assert chosen == [2, 10, 10, 10, 5], "6 MB/s are near enough to stay"
    assert said == [
        "compressing with gzip level 2: the speed of the link is not known yet",
        "compressing with gzip level 10: the link takes 4.8 MiB/s",
        "compressing with gzip level 5: the link takes 38.1 MiB/s",
    ]
    assert chooser.summary() == (
        "1 layer compressed with gzip level 2: the speed of the link is not known yet; "
        "3 layers compressed with gzip level 10: the link takes 5.7 MiB/s; "
        "1 layer compressed with gzip level 5: the link takes 38.1 MiB/s"
    )


# --- blobs that will do ---------------------------------------------------------------------------------


def known_blob(kind: Kind, level: int | None = None, size: int | None = 3) -> LayerBlob:
    made = Compression.of(kind, level)
    return LayerBlob(sha256(made.label.encode()), 2, made.label, made.media_type, DIFF_ID, size)


GZIP_2, GZIP_9, ZSTD_3 = known_blob(Kind.GZIP), known_blob(Kind.GZIP, 9), known_blob(Kind.ZSTD)
FOREIGN = LayerBlob(sha256(b"f"), 2, "original", media_types.DOCKER_FOREIGN_LAYER, DIFF_ID, None)
KNOWN = [ZSTD_3, GZIP_9, GZIP_2, FOREIGN]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("keep", [GZIP_9, GZIP_2]),
        ("gzip", [GZIP_9, GZIP_2]),
        ("zstd", [ZSTD_3]),
        ("auto", [ZSTD_3, GZIP_9, GZIP_2]),
    ],
)
def test_any_level_of_a_kind_is_good_enough(name: str, expected: list[LayerBlob]) -> None:
    assert RequestedCompression.parse(name, None).usable_blobs(DIFF_ID, KNOWN) == expected


def test_a_layer_that_was_ever_read_is_known_uncompressed() -> None:
    """Its digest is its diff ID, and its size is known from any blob that it was compressed to."""
    requested = RequestedCompression.parse("none", None)
    assert requested.usable_blobs(DIFF_ID, KNOWN) == [
        LayerBlob(DIFF_ID, 3, "none", media_types.OCI_LAYER, DIFF_ID, 3)
    ]
    assert requested.usable_blobs(DIFF_ID, [FOREIGN, known_blob(Kind.GZIP, size=None)]) == []
    assert requested.usable_blobs(DIFF_ID, [known_blob(Kind.GZIP, size=0)])[0].size == 0


@pytest.mark.parametrize("name", COMPRESSION_NAMES)
def test_what_is_at_the_tag_will_do_unless_a_kind_was_named(name: str) -> None:
    types = {
        media_types.DOCKER_LAYER_GZIP: "gzip",
        media_types.OCI_LAYER_GZIP: "gzip",
        media_types.OCI_LAYER_ZSTD: "zstd",
        media_types.OCI_LAYER: "none",
        media_types.DOCKER_LAYER: "none",
    }
    requested = RequestedCompression.parse(name, None)
    taken = {media_type for media_type in types if requested.accepts(media_type)}
    assert taken == {media_type for media_type, kind in types.items() if name in ("keep", "auto", kind)}
    assert not requested.accepts(media_types.DOCKER_FOREIGN_LAYER)
    assert not requested.accepts("application/x-unknown")


# --- auto -----------------------------------------------------------------------------------------------


def samples(ratios: tuple[float, float, float]) -> list[Sample]:
    """gzip 2, zstd 3, none and zstd 9 as this kind of processor does them, for data of these ratios."""
    gzip, zstd, slow = ratios
    return [
        Sample(GZIP, gzip, 1000 * MB),
        Sample(ZSTD, zstd, 500 * MB),
        Sample(NONE, 1.0, 1e12),
        Sample(ZSTD_9, slow, 100 * MB),
    ]


TEXT, WEIGHTS, NOISE = (0.32, 0.25, 0.22), (0.80, 0.79, 0.78), (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("ratios", "uplink", "expected"),
    [
        (TEXT, 1 * MB, ZSTD_9),  # the smallest wins
        (TEXT, 15 * MB, ZSTD_9),  # 15 MB/s / 0.22 are 68 MB/s of layer, less than it makes
        (TEXT, 60 * MB, ZSTD),  # now it would be waited for
        (TEXT, 400 * MB, GZIP),  # and now for zstd 3
        (TEXT, 5000 * MB, NONE),
        (WEIGHTS, 10 * MB, GZIP),  # a percent is not worth a manifest that fewer pullers take
        (WEIGHTS, 2000 * MB, NONE),
        (NOISE, 1 * MB, GZIP),
        (NOISE, 900 * MB, GZIP),
    ],
)
def test_what_is_sent_first_is_chosen(
    ratios: tuple[float, float, float], uplink: float, expected: Compression
) -> None:
    assert choose(samples(ratios), uplink).compression == expected


@given(
    st.lists(
        st.tuples(st.floats(0.01, 1.1), st.floats(1e6, 1e10)).map(lambda pair: Sample(GZIP, *pair)),
        min_size=1,
    ),
    st.floats(1e3, 1e10),
)
def test_no_choice_is_much_slower_than_the_best(found: list[Sample], uplink: float) -> None:
    best = min(max(1 / sample.speed, sample.ratio / uplink) for sample in found)
    assert choose(found, uplink).time(uplink) <= 1.05 * best


def test_slow_levels_are_tried_for_slow_links_only() -> None:
    assert candidates(1 * MB) == (GZIP, ZSTD, NONE, ZSTD_9)
    assert candidates(100 * MB) == (GZIP, ZSTD, NONE)


def test_samples_tell_ratio_and_speed() -> None:
    text = random_bytes(2 * BLOCK, compressible=1)
    gzip, zstd, none = measure(text, (GZIP, ZSTD, NONE))
    assert (gzip.ratio < 0.1, zstd.ratio < 0.1, none.ratio) == (True, True, 1.0)
    assert none.speed > gzip.speed > 0


def settle(uplink: float | None, data: bytes, count: int = 1) -> tuple[list[Compression], str | None]:
    chooser = CompressionChooser(RequestedCompression.parse("auto", None), link(uplink))
    chosen = []
    for _ in range(count):
        compression, stream = chooser.choose(io.BytesIO(data))
        chosen.append(compression)
        read = b"".join(iter(lambda stream=stream: stream.read(100_000), b""))  # type: ignore[misc]
        assert read == data, "what was tried is read again"
    return chosen, chooser.summary()


def test_a_link_of_unknown_speed_gets_gzip() -> None:
    assert settle(None, bytes(2 * BLOCK)) == (
        [GZIP],
        "compressed with gzip level 2: the speed of the link is not known yet",
    )


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1])
def test_little_layers_are_not_tried(size: int) -> None:
    assert settle(1000.0, bytes(size))[0] == [GZIP]


@pytest.mark.parametrize("size", [BLOCK, SAMPLE, SAMPLE + 12345])
def test_a_slow_link_gets_the_smallest(size: int) -> None:
    """Text repeats itself over more than gzip looks back."""
    data = (random_bytes(100_000, compressible=0) * (size // 100_000 + 1))[:size]
    chosen, summary = settle(100_000.0, data, count=2)
    assert chosen in ([ZSTD, ZSTD], [ZSTD_9, ZSTD_9])
    level = f"zstd level {chosen[0].level}"
    assert summary == f"compressed with {level}: it arrives first at 97.7 KiB/s"


def test_the_summary_counts_layers_and_says_nothing_without_a_choice() -> None:
    assert settle(None, b"", count=0)[1] is None
    chooser = CompressionChooser(RequestedCompression.parse("zstd", None), link(1 * MB))
    stream = io.BytesIO(b"x")
    assert chooser.choose(stream) == (ZSTD, stream)
    assert chooser.summary() is None

"""What a registry says it holds, and how far that is believed; and which registry it is."""

from __future__ import annotations

import pytest

from pusher.registry import profiles
from pusher.registry.chunks import Limits
from pusher.registry.profiles import (
    DEFAULT,
    DISTRIBUTION,
    DISTRIBUTION_2,
    DISTRIBUTION_3,
    SERVERLESS,
    Profile,
)
from pusher.registry.session import Session, reported_offset
from pusher.registry.transport import Answer

LOCATION = "http://r.example/v2/a/blobs/uploads/1"


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("0-9", 10),
        ("bytes=0-9", 10),
        (" 0-9 ", 10),
        ("0-1", 2),
        ("0-0", 0),
        ("0--1", 0),
        ("bytes=0--1", 0),
        ("0-99999999999", 100_000_000_000),
        ("", None),
        ("5-9", None),
        ("bytes 0-9", None),
        ("0-", None),
        ("0-9/20", None),
        ("0-many", None),
        ("0-" + "9" * 30, None),
    ],
)
def test_reported_offset(text: str, offset: int | None) -> None:
    assert reported_offset(Answer("GET", LOCATION, 204, {"Range": text})) == offset


def test_no_range_at_all() -> None:
    assert reported_offset(Answer("GET", LOCATION, 204)) is None


@pytest.mark.parametrize(
    ("profile", "believed"),
    [
        (DEFAULT, {100, 101, 149, 150}),
        (DISTRIBUTION_3, {100, 101, 149, 150}),
        (SERVERLESS, {100, 150}),
    ],
)
def test_only_what_can_be_is_believed(profile: Profile, believed: set[int]) -> None:
    session = Session(LOCATION, 50, Limits(), profile, offset=100, in_flight=50)
    assert {offset for offset in (0, 50, 99, 100, 101, 149, 150, 151) if session.may_hold(offset)} == believed


def test_profile_is_read_from_the_answer() -> None:
    announced = {"OCI-Chunk-Max-Length": "100"}
    assert profiles.detect(LOCATION + "?_stateHash=ab", announced) is SERVERLESS
    assert profiles.detect(LOCATION + "?_stateHash=ab", {}) is DEFAULT
    assert profiles.detect(LOCATION + "?_state=ab", {}) is DISTRIBUTION
    assert profiles.detect(LOCATION + "?_nouploadcache=false&_state=ab", {}) is DISTRIBUTION
    assert profiles.detect(LOCATION, announced) is DEFAULT


@pytest.mark.parametrize("learned", [None, *profiles.PROFILES, "unknown"])
def test_what_was_learned_refines_and_never_overrules(learned: str | None) -> None:
    found = profiles.detect(LOCATION + "?_state=ab", {}, learned)
    assert found.name == (learned if learned in ("distribution-2", "distribution-3") else "distribution")
    assert profiles.detect(LOCATION, {}, learned) is DEFAULT


def test_doubt_tells_2x_from_3x() -> None:
    assert profiles.after_doubt(DISTRIBUTION, found=False, grown=False) is DISTRIBUTION_2
    assert profiles.after_doubt(DISTRIBUTION, found=True, grown=True) is DISTRIBUTION_3
    assert profiles.after_doubt(DISTRIBUTION, found=True, grown=False) is DISTRIBUTION
    for other in (DEFAULT, SERVERLESS, DISTRIBUTION_2, DISTRIBUTION_3):
        assert profiles.after_doubt(other, found=False, grown=False) is other

"""What a registry says it holds, and how far that is believed."""

from __future__ import annotations

import pytest

from pusher.registry.http.answer import Answer
from pusher.registry.upload.chunk_sizes import Limits
from pusher.registry.upload.profiles import (
    ACR,
    ALIYUN,
    ARTIFACTORY,
    DEFAULT,
    DISTRIBUTION,
    DISTRIBUTION_2,
    DISTRIBUTION_3,
    ECR,
    GOOGLE,
    NEXUS,
    QUAY,
    SERVERLESS,
    Profile,
)
from pusher.registry.upload.session import Session, reported_offset

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


@pytest.mark.parametrize("profile", [DEFAULT, SERVERLESS])
def test_a_journal_that_lost_its_last_entries(profile: Profile) -> None:
    session = Session(LOCATION, 50, Limits(), profile, offset=100, in_flight=50, unrecorded=30)
    assert {at for at in (99, 100, 150, 151, 180, 181) if session.may_hold(at)} == {100, 150, 151, 180}


# --- what the profiles change -----------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "offset"), [("bytes=0-0", 0), ("bytes=0-1", 1), ("bytes=0-4000", 4000)])
def test_a_status_that_is_one_too_high(text: str, offset: int) -> None:
    session = Session(LOCATION, 50, Limits(), QUAY)
    assert session.offset_in(Answer("GET", LOCATION, 204, {"Range": text})) == offset


@pytest.mark.parametrize("profile", [ALIYUN, GOOGLE, NEXUS])
def test_a_range_that_says_nothing(profile: Profile) -> None:
    session = Session(LOCATION, 50, Limits(), profile)
    assert session.offset_in(Answer("GET", LOCATION, 204, {"Range": "0-49"})) is None


@pytest.mark.parametrize(
    ("message", "offset"),
    [
        ("First byte of the layer part is 0 instead of 10485760", 10_485_760),
        ("first byte of the layer part is 5 instead of 9.", 9),
        ("use 5 instead of 9", None),
        ("First byte of the layer part is 0 instead of none", None),
        ("", None),
    ],
)
def test_an_offset_in_words(message: str, offset: int | None) -> None:
    body = f'{{"errors": [{{"code": "BLOB_UPLOAD_INVALID", "message": "{message}"}}]}}'.encode()
    answer = Answer("PATCH", LOCATION, 416, {"Range": "0-99"}, body)
    assert Session(LOCATION, 50, Limits(), ECR).offset_in(answer) == offset


@pytest.mark.parametrize(
    ("profile", "limits", "most"),
    [
        (DEFAULT, Limits(), 50_000_000),
        (ACR, Limits(), 20_000_000),
        (ARTIFACTORY, Limits(), 0),
        (NEXUS, Limits(), None),
        (NEXUS, Limits(1, 100), 100),
        (GOOGLE, Limits(1, 100), None),
    ],
)
def test_what_goes_in_one_put(profile: Profile, limits: Limits, most: int | None) -> None:
    session = Session(LOCATION, 50_000_000, limits, profile)
    assert session.is_sent_whole(most if most is not None else 2**50)
    assert most is None or not session.is_sent_whole(most + 1)


# --- what a break would cost ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "cost"),
    [
        (DISTRIBUTION_2, 90),
        (DISTRIBUTION, 90),
        (ALIYUN, 90),
        (DISTRIBUTION_3, 0),
        (SERVERLESS, 40),
        (ECR, 40),
        (DEFAULT, 40),
    ],
    ids=lambda value: value.name if isinstance(value, Profile) else str(value),
)
def test_what_is_sent_again_if_the_connection_is_closed_in_a_chunk(profile: Profile, cost: int) -> None:
    session = Session(LOCATION, 50, Limits(), profile, offset=50, in_flight=50)
    assert session.cost_of_break(40, 1000) == cost
    assert session.cost_of_break(0, 1000) == 0, "at a chunk's boundary every registry goes on"


def test_a_blob_in_one_request_is_sent_again_from_its_start() -> None:
    assert Session(LOCATION, 5000, Limits(), NEXUS, in_flight=1000).cost_of_break(400, 1000) == 400
    assert Session(LOCATION, 5000, Limits(), DISTRIBUTION_3, in_flight=1000).cost_of_break(400, 1000) == 400

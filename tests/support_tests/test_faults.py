"""Every kind of fault, seen from the client's side of the socket."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.fakeregistry import (
    DISTRIBUTION_3,
    SERVERLESS,
    Answer,
    AnswerAfterEffect,
    CloseAfter,
    DropReply,
    FakeRegistry,
    Fault,
    ForgetSession,
    LieRange,
    On,
    RefuseRange,
    ResetAfter,
    Stall,
    Trickle,
    bad_gateway,
    busy,
    too_large,
    unauthorized,
)
from tests.support_tests.client import Client, digest_of, random_bytes

MIN = 1000
DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
DATA = random_bytes(3 * MIN)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(SERVERLESS.scaled(min=MIN, max=100 * MIN)) as running:
        yield running
        running.faults.assert_all_fired()


@pytest.fixture
def client(registry: FakeRegistry) -> Iterator[Client]:
    with Client(registry.address) as talking:
        yield talking


# --- the connection ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 700, MIN])
def test_reset_after_so_many_bytes(registry: FakeRegistry, client: Client, at: int) -> None:
    location = client.open().location
    registry.faults.add(Fault(On.CHUNK, ResetAfter(at)))
    with pytest.raises(ConnectionResetError):
        client.patch(location, DATA[:MIN], 0)
    record = registry.requests(On.CHUNK)[0]
    assert (record.body_received, record.status) == (at, None)
    assert client.status(location).range == "0--1"
    assert client.patch(location, DATA[:MIN], 0).status == 202


def test_reset_leaves_what_the_rules_keep() -> None:
    with FakeRegistry(DISTRIBUTION_3) as registry, Client(registry.address) as client:
        location = client.open().location
        registry.faults.add(Fault(On.CHUNK, ResetAfter(700)))
        with pytest.raises(ConnectionResetError):
            client.patch(location, DATA, 0)
        assert client.status(location).range == "0-699"


def test_reset_waits_for_a_body_that_is_long_enough(registry: FakeRegistry, client: Client) -> None:
    registry.faults.add(Fault(On.CLOSE, ResetAfter(500)))
    client.push(DATA[:499])
    with pytest.raises(ConnectionResetError):
        client.push(DATA[:500])


@pytest.mark.parametrize(("reset", "error"), [(False, http.client.RemoteDisconnected), (True, OSError)])
def test_reply_of_a_chunk_is_lost(
    registry: FakeRegistry, client: Client, reset: bool, error: type[Exception]
) -> None:
    location = client.open().location
    registry.faults.add(Fault(On.CHUNK, DropReply(reset=reset)))
    with pytest.raises(error):
        client.patch(location, DATA[:MIN], 0)
    assert client.status(location).range == "0-999"
    assert client.patch(location, DATA[:MIN], 0).status == 416
    assert registry.requests(On.CHUNK)[0].status is None


def test_reply_of_the_close_is_lost(registry: FakeRegistry, client: Client) -> None:
    registry.faults.add(Fault(On.CLOSE, DropReply()))
    with pytest.raises(http.client.RemoteDisconnected):
        client.push(DATA)
    assert client.head_blob(digest_of(DATA)).status == 200


def test_kept_alive_connection_is_closed_between_requests(registry: FakeRegistry, client: Client) -> None:
    registry.faults.add(Fault(On.OPEN, CloseAfter()))
    location = client.open().location
    with pytest.raises((http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)):
        client.patch(location, DATA[:MIN], 0)
    assert client.patch(location, DATA[:MIN], 0).status == 202
    assert [record.connection for record in registry.requests()] == [1, 2]


@pytest.mark.parametrize(("after_bytes", "received"), [(0, 0), (300, 300), (None, MIN)])
def test_stall_until_released(
    registry: FakeRegistry, client: Client, after_bytes: int | None, received: int
) -> None:
    location = client.open().location
    stall = Stall(after_bytes=after_bytes)
    registry.faults.add(Fault(On.CHUNK, stall))
    answers: list[int] = []
    sender = threading.Thread(target=lambda: answers.append(client.patch(location, DATA[:MIN], 0).status))
    sender.start()
    assert stall.reached.wait(60)
    assert not answers
    assert registry.requests(On.CHUNK)[0].body_received == received
    with Client(registry.address) as other:  # a stalled request holds up nobody else
        assert other.status(location).range == ("0-999" if after_bytes is None else "0--1")
    stall.released.set()
    sender.join(60)
    assert answers == [202]


def test_stall_ends_by_time(registry: FakeRegistry, client: Client) -> None:
    registry.faults.add(Fault(On.PING, Stall(0.1)))
    begun = time.monotonic()
    assert client.request("GET", "/v2/").status == 200
    assert time.monotonic() - begun >= 0.1


def test_stalled_body_fills_a_small_receive_buffer() -> None:
    with FakeRegistry(DISTRIBUTION_3, receive_buffer=4096) as registry:
        with Client(registry.address) as client:
            location = client.open().location
            client.connection.sock.settimeout(0.3)
            registry.faults.add(Fault(On.CHUNK, Stall(after_bytes=0)))
            with pytest.raises(TimeoutError):
                client.patch(location, bytes(8_000_000), 0)
        assert registry.requests(On.CHUNK)[0].status is None


def test_trickle(registry: FakeRegistry, client: Client) -> None:
    location = client.open().location
    registry.faults.add(Fault(On.CHUNK, Trickle(block=100, seconds=0.01)))
    begun = time.monotonic()
    assert client.patch(location, DATA[:MIN], 0).status == 202
    assert time.monotonic() - begun >= 0.1


# --- answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "header"),
    [
        (busy("7"), 503, ("retry-after", "7")),
        (busy(DATE, status=429), 429, ("retry-after", DATE)),
        (busy(), 503, ("content-type", "application/json")),
        (bad_gateway(), 502, ("content-type", "text/html")),
        (bad_gateway(504), 504, ("content-type", "text/html")),
        (Answer(500), 500, ("content-length", "0")),
        (unauthorized('Bearer realm="http://x/"'), 401, ("www-authenticate", 'Bearer realm="http://x/"')),
        (too_large(early=False), 413, ("server", "cloudflare")),
    ],
)
def test_scripted_answer_is_without_effect(
    registry: FakeRegistry, client: Client, fault: Answer, status: int, header: tuple[str, str]
) -> None:
    location = client.open().location
    registry.faults.add(Fault(On.CHUNK, fault))
    answer = client.patch(location, DATA[:MIN], 0)
    assert (answer.status, answer.headers[header[0]]) == (status, header[1])
    assert registry.requests(On.CHUNK)[0].body_received == MIN
    assert client.status(location).range == "0--1"


@pytest.mark.parametrize("fault", [too_large(), busy("1", early=True), unauthorized(early=True)])
def test_early_answer_is_seen_though_the_body_is_large(
    registry: FakeRegistry, client: Client, fault: Answer
) -> None:
    location = client.open().location
    registry.faults.add(Fault(On.CHUNK, fault))
    answer = client.patch(location, bytes(100 * MIN), 0)
    assert (answer.status, answer.headers["connection"]) == (fault.status, "close")
    assert client.status(location).range == "0--1"


def test_answer_after_effect(registry: FakeRegistry, client: Client) -> None:
    location = client.open().location
    registry.faults.add(Fault(On.CHUNK, AnswerAfterEffect(500)))
    assert client.patch(location, DATA[:MIN], 0).status == 500
    assert client.status(location).range == "0-999"


@pytest.mark.parametrize("positioned", [True, False])
def test_refused_range(registry: FakeRegistry, client: Client, positioned: bool) -> None:
    acked = client.patch(client.open().location, DATA[:MIN], 0).location
    registry.faults.add(Fault(On.CHUNK, RefuseRange(positioned=positioned)))
    refused = client.patch(acked, DATA[MIN : 2 * MIN], MIN)
    assert refused.status == 416
    expected = (acked, "0-999") if positioned else (None, None)
    assert (refused.headers.get("location"), refused.range) == expected


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (LieRange(by=1), "0-1000"),
        (LieRange(by=-1), "0-998"),
        (LieRange(text="garbage"), "garbage"),
        (LieRange(text=""), None),
    ],
)
@pytest.mark.parametrize("on", [On.CHUNK, On.STATUS])
def test_lying_range(
    registry: FakeRegistry, client: Client, on: On, fault: LieRange, expected: str | None
) -> None:
    location = client.open().location
    registry.faults.add(Fault(on, fault))
    told = [client.patch(location, DATA[:MIN], 0).range, client.status(location).range]
    assert told == ([expected, "0-999"] if on is On.CHUNK else ["0-999", expected])


def test_forgotten_session(registry: FakeRegistry, client: Client) -> None:
    location = client.open().location
    registry.faults.add(Fault(On.STATUS, ForgetSession()))
    assert client.status(location).status == 404
    assert client.patch(location, DATA[:MIN], 0).status == 500
    assert not registry.sessions


# --- the script -------------------------------------------------------------------------------------------


def test_fault_strikes_the_nth_and_so_many_times(registry: FakeRegistry, client: Client) -> None:
    registry.faults.add(Fault(On.PING, Answer(500), nth=2, times=2))
    assert [client.request("GET", "/v2/").status for _ in range(5)] == [200, 500, 500, 200, 200]


def test_fault_for_ever_until_cleared(registry: FakeRegistry, client: Client) -> None:
    registry.faults.add(Fault(On.ANY, Answer(503), times=None))
    assert {client.open().status, client.head_blob(digest_of(DATA)).status} == {503}
    registry.faults.clear()
    assert client.open().status == 202


def test_fault_matches_by_path_and_by_request(registry: FakeRegistry, client: Client) -> None:
    registry.faults.add(
        Fault(On.OPEN, Answer(500), path="^/v2/team/other/"),
        Fault(On.CHUNK, Answer(501), where=lambda request: request.content_length == 7),
    )
    location = client.open().location
    assert client.patch(location, DATA[:7], 0).status == 501
    client.repository = "team/other"
    assert client.open().status == 500


def test_two_faults_on_one_request(registry: FakeRegistry, client: Client) -> None:
    registry.faults.add(Fault(On.PING, Stall(0.05)), Fault(On.PING, AnswerAfterEffect(500)))
    assert client.request("GET", "/v2/").status == 500
    assert len(registry.requests(On.PING)[0].faults) == 2


def test_fault_that_did_not_strike_is_named() -> None:
    with FakeRegistry() as registry:
        registry.faults.add(Fault(On.CHUNK, ResetAfter(7), nth=3))
        with pytest.raises(AssertionError, match=r"ResetAfter\(body_bytes=7\) on PATCH upload, nth=3"):
            registry.faults.assert_all_fired()

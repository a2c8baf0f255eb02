"""WWW-Authenticate headers as they are really sent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.registry.auth.challenge import Challenge, choose_challenge, missing_scopes, parse_challenges
from pusher.registry.http.transport import Transport
from tests.registry.sites import PATIENT, Seen, Site, transport_of
from tests.support.fakeregistry.wire import Reply


@pytest.fixture
def transport() -> Iterator[Transport]:
    with transport_of(Transport(PATIENT)) as open_one:
        yield open_one


@pytest.mark.parametrize(
    ("header", "offered"),
    [
        ("", []),
        ("Basic", [Challenge("basic")]),
        ('Basic realm="https://r.example/v2/"', [Challenge("basic", {"realm": "https://r.example/v2/"})]),
        ('basic realm="a, Bearer b=c"', [Challenge("basic", {"realm": "a, Bearer b=c"})]),
        ("BASIC realm=registry", [Challenge("basic", {"realm": "registry"})]),
        (
            'Bearer realm="https://a/token",service="r",scope="repository:a:pull,push"',
            [
                Challenge(
                    "bearer",
                    {"realm": "https://a/token", "service": "r", "scope": "repository:a:pull,push"},
                )
            ],
        ),
        (
            'Bearer realm="https://a/t",service="s", Basic realm="x"',
            [
                Challenge("bearer", {"realm": "https://a/t", "service": "s"}),
                Challenge("basic", {"realm": "x"}),
            ],
        ),
        (
            "Bearer realm=https://a/t?x=1&y=2,service=s,Basic realm=x",
            [
                Challenge("bearer", {"realm": "https://a/t?x=1&y=2", "service": "s"}),
                Challenge("basic", {"realm": "x"}),
            ],
        ),
        (
            "Negotiate, NTLM, Basic realm=x",
            [Challenge("negotiate"), Challenge("ntlm"), Challenge("basic", {"realm": "x"})],
        ),
        (
            "Negotiate YIIJ==,Basic realm=x",
            [Challenge("negotiate"), Challenge("basic", {"realm": "x"})],
        ),
        (
            'Digest realm="a \\" Basic b\\\\", qop="auth"',
            [Challenge("digest", {"realm": 'a " Basic b\\', "qop": "auth"})],
        ),
        ('Basic realm = "x" , charset="UTF-8"', [Challenge("basic", {"realm": "x", "charset": "UTF-8"})]),
        (
            'Bearer REALM="x" Service="y"',  # without the comma
            [Challenge("bearer", {"realm": "x", "service": "y"})],
        ),
        ('Bearer realm="x",realm="y"', [Challenge("bearer", {"realm": "x"})]),
        ('Bearer realm="never closed, a=b', [Challenge("bearer", {"realm": "never closed, a=b"})]),
        (", ,Basic realm=x,,", [Challenge("basic", {"realm": "x"})]),
        ("realm=x", []),
        ("???", []),
    ],
)
def test_challenges(header: str, offered: list[Challenge]) -> None:
    assert parse_challenges(header) == offered


@given(st.text(alphabet='Bearic =,"\\x\t/:', max_size=60))
def test_nothing_breaks_the_parser(header: str) -> None:
    for challenge in parse_challenges(header):
        assert challenge.scheme == challenge.scheme.lower()


def test_a_long_header_takes_no_time() -> None:
    assert parse_challenges('Bearer realm="' + "\\" * 60_000)[0].scheme == "bearer"
    assert len(parse_challenges("a " * 30_000)) == 16


def test_several_headers_are_read_as_one(transport: Transport) -> None:
    """requests joins them with commas."""
    both = {"WWW-Authenticate": 'Negotiate\r\nWWW-Authenticate: Bearer realm="https://a/t"'}

    def answer(_: Seen) -> Reply:
        return Reply(401, both)

    with Site(answer) as site:
        header = transport.send("GET", site.url).headers["WWW-Authenticate"]
    assert parse_challenges(header) == [
        Challenge("negotiate"),
        Challenge("bearer", {"realm": "https://a/t"}),
    ]


@pytest.mark.parametrize(
    ("header", "scheme"),
    [
        ('Basic realm="x", Bearer realm="https://a/t"', "bearer"),
        ("Negotiate, Basic", "basic"),
        ('Basic realm="x", Bearer service="s"', "basic"),  # no address, no token
        ("Bearer", None),
        ("Negotiate, NTLM", None),
        ("", None),
    ],
)
def test_bearer_is_preferred_to_basic(header: str, scheme: str | None) -> None:
    chosen = choose_challenge(parse_challenges(header))
    assert (chosen.scheme if chosen else None) == scheme


@pytest.mark.parametrize(
    ("wanted", "asked", "missing"),
    [
        (["repository:a:pull"], ["repository:a:pull,push"], []),
        (["repository:a:push,pull"], ["repository:a:pull,push"], []),
        (["repository:a:pull", "repository:b:pull"], ["repository:a:pull,push"], ["repository:b:pull"]),
        (["repository:a:delete"], ["repository:a:pull,push"], ["repository:a:delete"]),
        (["repository:host:5000/a:pull"], ["repository:host:5000/a:pull"], []),
        (["registry:catalog:*"], [], ["registry:catalog:*"]),
        (["nonsense"], [], []),
    ],
)
def test_scopes_that_are_not_covered(wanted: list[str], asked: list[str], missing: list[str]) -> None:
    assert missing_scopes(wanted, asked) == tuple(missing)


def test_parameters_of_bearer() -> None:
    [challenge] = parse_challenges('Bearer realm="r",service="s",scope="a:b:c d:e:f",error="Invalid_Token"')
    assert (challenge.realm, challenge.service, challenge.error) == ("r", "s", "invalid_token")
    assert challenge.scopes == ("a:b:c", "d:e:f")
    assert challenge.is_equivalent(Challenge("bearer", {"realm": "r", "service": "s"}))
    assert not challenge.is_equivalent(Challenge("bearer", {"realm": "r", "service": "t"}))
    assert Challenge("basic", {"realm": "a"}).is_equivalent(Challenge("basic", {"realm": "b"}))

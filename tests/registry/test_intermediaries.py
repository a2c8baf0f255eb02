"""What stands in front of a registry answers in its place for a while: nothing is lost or believed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from pusher.errors import RegistryFault, RegistryRefused
from pusher.registry.http.answer import Answer
from pusher.registry.intermediaries import OPENING, AnsweredBy, IntermediaryDetector
from tests.registry.helpers import CHUNK, REPOSITORY, RULES, pushing
from tests.support.fakeregistry import Answer as Registry
from tests.support.fakeregistry import Fault, Front, On, ResetAfter
from tests.support.quick import AT_ONCE

PAGE: Final = b"<html><head><title>Sign in to this network</title></head><body>Welcome</body></html>"
SHAPES: Final[dict[str, tuple[dict[str, str], bytes]]] = {
    "page": ({"Content-Type": "text/html", "Server": "portal/1.0", "Via": "1.1 lobby"}, PAGE),
    "text": ({"Content-Type": "text/plain; charset=utf-8"}, b"404 page not found\n"),
    "json": ({"Content-Type": "application/json"}, b'{"message": "no Route matched with those values"}'),
    "xml": ({"Content-Type": "application/xml"}, b"<?xml version='1.0'?><Error><Code>Busy</Code></Error>"),
    "nothing": ({}, b""),
}
STATUSES: Final = (
    *(200, 201, 202, 204, 302, 400, 401, 402, 403, 404, 405, 406, 409, 410, 418, 421, 422, 423, 425, 426),
    *(
        451,
        460,
        494,
        499,
        500,
        501,
        502,
        503,
        504,
        505,
        507,
        509,
        511,
        520,
        521,
        522,
        523,
        525,
        526,
        530,
        599,
    ),
)
MOMENTS: Final = {
    "the first chunk": (On.CHUNK, 1),
    "a chunk": (On.CHUNK, 3),
    "the status": (On.STATUS, 1),
    "the opening": (On.OPEN, 1),
    "the closing": (On.CLOSE, 1),
    "the look for the blob": (On.HEAD_BLOB, 1),
}
LASTS: Final = 3
"""Answers in a row that the front gives to such a request."""
WAITING: Final = replace(AT_ONCE, missing=60.0, outage_new_repository=60.0)
"""However long those answers take."""


def table() -> list[tuple[str, int, str, str]]:
    """Every status at every moment at both kinds of registry, the shapes taking turns."""
    places = itertools.product(("serverless", "distribution-3"), STATUSES, MOMENTS)
    shapes = itertools.cycle([*SHAPES, *reversed(SHAPES), "page"])
    return [(*place, next(shapes)) for place in places]


@pytest.mark.parametrize(("kind", "status", "moment", "shape"), table())
def test_front(kind: str, status: int, moment: str, shape: str, tmp_path: Path) -> None:
    """The blob gets there, no session is lost, and no chunk but those in question is sent again."""
    on, nth = MOMENTS[moment]
    headers, body = SHAPES[shape]
    with pushing(RULES[kind], tmp_path, policy=WAITING) as push:
        front = Fault(on, Front(status, dict(headers), body), nth=nth, times=LASTS)
        push.registry.faults.add(front)
        if on is On.STATUS:
            push.registry.faults.add(Fault(On.CHUNK, ResetAfter(1500), nth=2))
        assert push.run() == "uploaded"
        assert front.fired == LASTS or on is On.HEAD_BLOB, "a look is not repeated where it finds nothing"
        assert push.registry.blob(REPOSITORY, push.digest) == push.data
        assert push.journal.lost_sessions == []
        assert push.excess <= (LASTS + 1) * CHUNK
        assert push.journal.facts in ({}, {"profile": "distribution-3"})


# --- how long ---------------------------------------------------------------------------------------------

PAGE_404: Final = Answer("PATCH", "https://r.example/v2/a/blobs/uploads/1", 404, {"Server": "traefik"}, PAGE)
CHUNK_OF: Final = "sending a chunk"


def test_an_outage_that_lasts_is_told_for_what_it_is() -> None:
    now = [0.0]
    ours = IntermediaryDetector(clock=lambda: now[0])
    ours.record_answer(Answer("PATCH", PAGE_404.url, 202), CHUNK_OF)
    assert ours.classify(PAGE_404, CHUNK_OF) is AnsweredBy.INTERMEDIARY
    for at in (0.0, 200.0):
        now[0] = at
        with pytest.raises(RegistryFault) as passing:
            ours.raise_while_passing(PAGE_404, CHUNK_OF)
        assert "nothing it stores is lost" in passing.value.hint
    now[0] = 301.0
    with pytest.raises(RegistryRefused) as lasting:
        ours.raise_while_passing(PAGE_404, CHUNK_OF)
    assert lasting.value.message == (
        "r.example answered 404 while sending a chunk: Sign in to this network "
        "(PATCH /v2/a/blobs/uploads/1, answered by traefik)"
    )
    assert "let pusher through to r.example" in lasting.value.hint
    ours.record_answer(Answer("PATCH", PAGE_404.url, 202), CHUNK_OF)
    with pytest.raises(RegistryFault):
        ours.raise_while_passing(PAGE_404, CHUNK_OF)


def test_what_never_answered_as_a_registry_is_told_at_once() -> None:
    IntermediaryDetector().raise_while_passing(PAGE_404, CHUNK_OF)
    with pytest.raises(RegistryFault):
        IntermediaryDetector(known=True).raise_while_passing(PAGE_404, CHUNK_OF)


OPEN_404: Final = replace(PAGE_404, method="POST", url="https://r.example/v2/a/blobs/uploads/")


def test_what_is_wrong_for_a_new_repository_is_told_within_seconds() -> None:
    """The registry greets us, so nothing stands in its way as a whole."""
    now = [0.0]
    ours = IntermediaryDetector(clock=lambda: now[0])
    ours.record_answer(Answer("GET", "https://r.example/v2/", 200), "checking its API")
    ours.record_answer(Answer("POST", "https://r.example/v2/b/blobs/uploads/", 202), OPENING)
    for now[0] in (0.0, 4.0):
        with pytest.raises(RegistryFault):
            ours.raise_while_passing(OPEN_404, OPENING, greets=lambda: True)
    now[0] = 10.0
    with pytest.raises(RegistryFault):
        ours.raise_while_passing(OPEN_404, OPENING, greets=lambda: False)
    with pytest.raises(RegistryRefused):
        ours.raise_while_passing(OPEN_404, OPENING, greets=lambda: True)
    ours.record_answer(replace(OPEN_404, status=202), OPENING)
    with pytest.raises(RegistryFault):
        ours.raise_while_passing(OPEN_404, OPENING, greets=lambda: True)
    now[0] = 100.0
    with pytest.raises(RegistryFault):
        ours.raise_while_passing(OPEN_404, OPENING, greets=lambda: True)


def test_what_a_repository_never_answered_is_one_outage() -> None:
    """A front that answers a look and then the opening is not waited for twice."""
    now = [0.0]
    ours = IntermediaryDetector(clock=lambda: now[0])
    ours.record_answer(Answer("GET", "https://r.example/v2/", 200), "checking its API")
    with pytest.raises(RegistryFault):
        ours.raise_while_passing(OPEN_404, "looking for a blob", greets=lambda: True)
    now[0] = 7.0
    ours.raise_while_passing(OPEN_404, OPENING, greets=lambda: True)


@pytest.mark.parametrize("asked", ['Basic realm="x"', "Negotiate", "Bearer", 'Bearer realm="http://t.test/"'])
def test_a_login_page_of_a_front_gets_no_login_and_ends_nothing(asked: str, tmp_path: Path) -> None:
    with pushing(RULES["distribution-3"], tmp_path) as push:
        headers = {"Content-Type": "text/html", "WWW-Authenticate": asked}
        front = Fault(On.CHUNK, Front(401, headers, PAGE), nth=3, times=LASTS)
        push.registry.faults.add(front)
        assert push.run() == "uploaded"
        assert front.fired == LASTS
        assert push.journal.lost_sessions == []


@pytest.mark.parametrize("target", ["/login", "http://10.0.0.1/login", "ftp://r.example/"])
def test_a_portal_that_leads_astray_is_an_outage(target: str, tmp_path: Path) -> None:
    """Even to itself, or to where no registry may lead us."""
    with pushing(RULES["distribution-3"], tmp_path) as push:
        assert not push.client.blob_exists(REPOSITORY, push.digest)
        redirect = Front(302, {"Location": target, "Content-Type": "text/html"}, PAGE)
        everywhere = Fault(On.ANY, redirect, times=7, where=lambda request: request.method != "GET")
        push.registry.faults.add(everywhere)
        assert push.run() == "uploaded"
        assert everywhere.fired == 7


def test_a_missing_sign_gives_a_front_away() -> None:
    ours, sign = IntermediaryDetector(), {"Docker-Distribution-Api-Version": "registry/2.0"}
    head = Answer("HEAD", "https://r.example/v2/a/blobs/sha256:0", 404)
    assert ours.classify(head, "looking for a blob") is AnsweredBy.REGISTRY
    for doing in ("checking its API", "opening an upload"):
        ours.record_answer(Answer("GET", "https://r.example/v2/", 200, sign), doing)
    assert ours.classify(head, "looking for a blob") is AnsweredBy.INTERMEDIARY
    assert ours.classify(replace(head, headers=sign), "looking for a blob") is AnsweredBy.REGISTRY


# --- quotas -----------------------------------------------------------------------------------------------

QUOTA: Final = b'{"errors": [{"code": "DENIED", "message": "storage quota of 5 GiB exceeded"}]}'


@pytest.mark.parametrize("status", [400, 403, 413, 507])
@pytest.mark.parametrize("on", [On.OPEN, On.CHUNK, On.CLOSE])
def test_a_quota_ends_the_upload_once_in_its_own_words(on: On, status: int, tmp_path: Path) -> None:
    with pushing(RULES["distribution-3"], tmp_path) as push:
        quota = Fault(on, Registry(status, body=QUOTA), times=None)
        push.registry.faults.add(quota)
        with pytest.raises(RegistryRefused) as error:
            push.run()
        assert "storage quota of 5 GiB exceeded" in error.value.message
        assert "quota raised" in error.value.hint
        assert quota.fired == 1
        assert "max_chunk" not in push.journal.facts
        assert push.journal.lost_sessions == []
        push.registry.faults.clear()
        assert push.run() == "uploaded"
        push.assert_there()

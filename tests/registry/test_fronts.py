"""What stands in front of a registry answers in its place for a while: nothing is lost or believed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Final

import pytest

from pusher.registry import fronts
from tests.registry.helpers import CHUNK, REPOSITORY, RULES, pushing
from tests.support.fakeregistry import Fault, Front, On, ResetAfter

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


def table() -> list[tuple[str, int, str, str]]:
    """Every status at every moment at both kinds of registry, the shapes taking turns."""
    places = itertools.product(("serverless", "distribution-3"), STATUSES, MOMENTS)
    shapes = itertools.cycle([*SHAPES, *reversed(SHAPES), "page"])
    return [(*place, next(shapes)) for place in places]


@pytest.mark.parametrize(("kind", "status", "moment", "shape"), table())
def test_front(
    kind: str, status: int, moment: str, shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blob gets there, no session is lost, and no chunk but those in question is sent again."""
    on, nth = MOMENTS[moment]
    headers, body = SHAPES[shape]
    monkeypatch.setattr(fronts, "_BRIEF", 0.1)
    with pushing(RULES[kind], tmp_path) as push:
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

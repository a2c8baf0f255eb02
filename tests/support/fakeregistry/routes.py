"""Which request is which: the kinds that faults and logs speak of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tests.support.fakeregistry.wire import Request


class On(Enum):
    """Kinds of requests."""

    ANY = "any"
    """Matches every request; no request is of this kind."""
    PING = "GET /v2/"
    OPEN = "POST upload"
    CHUNK = "PATCH upload"
    CLOSE = "PUT upload"
    STATUS = "GET upload"
    CANCEL = "DELETE upload"
    HEAD_BLOB = "HEAD blob"
    GET_BLOB = "GET blob"
    HEAD_MANIFEST = "HEAD manifest"
    GET_MANIFEST = "GET manifest"
    PUT_MANIFEST = "PUT manifest"
    TAGS = "GET tags"
    OTHER = "other"


@dataclass(frozen=True)
class Route:
    """What a request is about; ``reference`` is a tag, a digest or a session's id."""

    kind: On
    repository: str = ""
    reference: str = ""


_TABLE: Final = (
    (re.compile(r"/v2/?"), {"GET": On.PING}),
    (re.compile(r"/v2/(?P<repository>.+)/blobs/uploads/?"), {"POST": On.OPEN}),
    # GitHub's sessions lie at /blobs/upload/, Google's elsewhere altogether
    (
        re.compile(
            r"/(v2/(?P<repository>.+)/blobs/uploads?|artifacts-uploads/namespaces/(?P<other>.+)/uploads)"
            r"/(?P<reference>[^/]+)"
        ),
        {"PATCH": On.CHUNK, "PUT": On.CLOSE, "GET": On.STATUS, "DELETE": On.CANCEL},
    ),
    (
        re.compile(r"/v2/(?P<repository>.+)/blobs/(?P<reference>[^/]+)"),
        {"HEAD": On.HEAD_BLOB, "GET": On.GET_BLOB},
    ),
    (
        re.compile(r"/v2/(?P<repository>.+)/manifests/(?P<reference>[^/]+)"),
        {"HEAD": On.HEAD_MANIFEST, "GET": On.GET_MANIFEST, "PUT": On.PUT_MANIFEST},
    ),
    (re.compile(r"/v2/(?P<repository>.+)/tags/list"), {"GET": On.TAGS}),
)


def route(request: Request) -> Route:
    """Find the kind of a request; On.OTHER if the distribution API has no such one."""
    for pattern, methods in _TABLE:
        match = pattern.fullmatch(request.path)
        if match and request.method in methods:
            named = match.groupdict()
            repository = named.get("repository") or named.get("other") or ""
            return Route(methods[request.method], repository, named.get("reference", ""))
    return Route(On.OTHER)

"""Tags of a repository, page by page."""

from __future__ import annotations

import json

import pytest

from pusher.errors import ImageNotFound, ImageUnsupported, PermissionDenied, PusherError
from pusher.reference import Reference
from pusher.registry.auth.authenticator import Authenticator
from pusher.registry.client import RegistryClient
from pusher.registry.http.transport import Transport
from pusher.sources.registry.tags import list_tags
from tests.registry.sites import PATIENT, Seen, Site, transport_of
from tests.support.fakeregistry.wire import Reply


def tags_of(*pages: Reply) -> tuple[list[str], list[str]]:
    """The tags, and what was requested, of a registry that answers with these pages."""
    left = list(pages)

    def answer(seen: Seen) -> Reply:
        return Reply(200, {}, b"{}") if seen.target == "/v2/" else left.pop(0)

    with Site(answer) as site, transport_of(Transport(PATIENT)) as transport:
        client = RegistryClient(site.address, transport, Authenticator(site.address, None), plain_http=True)
        found = list_tags(client, Reference(site.address, "team/app"))
        return found, [seen.target for seen in site.seen if seen.target != "/v2/"]


def page(*tags: object, link: str = "") -> Reply:
    headers = {"Link": link} if link else {}
    return Reply(200, headers, json.dumps({"name": "team/app", "tags": list(tags)}).encode())


def refusal(status: int, code: str) -> Reply:
    body = {"errors": [{"code": code, "message": "no"}]}
    return Reply(status, {"Content-Type": "application/json"}, json.dumps(body).encode())


def test_every_page_is_read_from_the_same_registry() -> None:
    elsewhere = '<https://other.example/v2/team/other/tags/list?last=v%2B2&n=2>; rel="next"'
    found, asked = tags_of(page("1", "2", link=elsewhere), page("3", link='</x>; rel="next"'))
    assert found == ["1", "2", "3"]
    assert asked == ["/v2/team/app/tags/list?n=1000", "/v2/team/app/tags/list?n=1000&last=v%2B2"]


def test_a_registry_that_repeats_its_first_page() -> None:
    again = '</v2/team/app/tags/list?last=1>; rel="next"'
    assert tags_of(page("1", link=again), page("1", link=again))[0] == ["1"]


def test_no_tags() -> None:
    assert tags_of(Reply(200, {}, b'{"name": "team/app", "tags": null}'))[0] == []


@pytest.mark.parametrize(
    ("reply", "error", "told"),
    [
        (refusal(404, "NAME_UNKNOWN"), ImageNotFound, "there is no repository "),
        (Reply(200, {}, b"<html>"), ImageUnsupported, "sent no list of the tags"),
        (page("-bad"), ImageUnsupported, "sent no list of the tags"),
        (page(7), ImageUnsupported, "sent no list of the tags"),
        (page(*(f"t{n}" for n in range(10_001))), ImageUnsupported, "has more than 10000 tags"),
        (refusal(403, "DENIED"), PermissionDenied, "listing the tags of"),
    ],
)
def test_what_is_not_a_list(reply: Reply, error: type[PusherError], told: str) -> None:
    with pytest.raises(error) as caught:
        tags_of(reply)
    assert told in caught.value.message

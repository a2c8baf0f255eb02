"""List the tags of a repository (distribution-spec, "Listing Tags")."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

from requests.utils import parse_header_links

from pusher.errors import ImageNotFound, ImageUnsupported, ReferenceMalformed
from pusher.oci.bounded_json import load_json
from pusher.reference import Reference
from pusher.registry.client import RegistryClient
from pusher.sources.document_reader import MAX_DOCUMENT
from pusher.sources.registry.blob_download import pull_refusal

_PAGE: Final = 1000
_MAX_TAGS: Final = 10_000


def list_tags(client: RegistryClient, reference: Reference) -> list[str]:
    """Return the tags of the repository, at most 10,000, in the registry's order.

    Raises ImageNotFound if there is no such repository, ImageUnsupported for more tags or a response that is
    not a list of tags, and the errors of a client.
    """
    tags: dict[str, None] = {}
    path: str | None = f"tags/list?n={_PAGE}"
    while path is not None:
        answer = client.get_small(path, reference.repository, limit=MAX_DOCUMENT + 1)
        if answer.status in (404, 410):
            raise ImageNotFound(
                f"there is no repository {reference.name}",
                hint=f"check its name; a private one is only seen after: pusher login {reference.registry}",
            )
        if not answer.ok:
            raise pull_refusal(answer, client, doing=f"listing the tags of {reference.name}")
        before = len(tags)
        tags |= dict.fromkeys(_parse_page(answer.body, reference))
        if len(tags) > _MAX_TAGS:
            raise ImageUnsupported(
                f"{reference.name} has more than {_MAX_TAGS} tags", hint="name the images to push"
            )
        # a page without a new tag would repeat without end
        path = _next_page(answer.headers.get("Link", "")) if len(tags) > before else None
    return list(tags)


def _parse_page(body: bytes, reference: Reference) -> list[str]:
    try:
        tags = load_json(body)["tags"]
        if tags is None:  # a repository whose tags were all deleted
            return []
        return [str(reference.with_tag(tag).tag) for tag in tags]
    except (ValueError, KeyError, TypeError, ReferenceMalformed) as error:
        raise ImageUnsupported(
            f"{reference.registry} sent no list of the tags of {reference.name}",
            hint="name the images to push, each with its tag",
        ) from error


def _next_page(link: str) -> str | None:
    """Return the path of the next page; of the registry's link, only where the page begins is used."""
    for entry in parse_header_links(link) if link else ():
        last = parse_qs(urlsplit(entry["url"]).query).get("last")
        if entry.get("rel") == "next" and last:
            return f"tags/list?n={_PAGE}&last={quote(last[0], safe='')}"
    return None

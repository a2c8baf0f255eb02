"""Read a local registry for the page: its repositories, and one repository with its tags."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, urlencode

from pusher.dataclass import dataclass
from pusher.oci.bounded_json import load_json
from pusher.serve.catalog import Catalog, TaggedManifest
from pusher.serve.errors import name_unknown_error
from pusher.serve.page.template import PageContent, Template

PER_PAGE: Final = 100
_LARGEST_READ: Final = 64 * 1024
"""Bytes of a manifest that is read for its size and platforms."""


@dataclass(frozen=True)
class RepositoryEntry:
    """A repository in the list."""

    name: str
    tags: int


@dataclass(frozen=True)
class TagEntry:
    """A tag in the list. ``size``: bytes of the blobs, None for an index."""

    name: str
    digest: str
    kind: str
    size: int | None


@dataclass(frozen=True)
class RepositoryList:
    """The view of the repositories with ``text`` in their names, after ``last``. ``host``: as the client
    calls this registry."""

    catalog: Catalog
    template: Template
    host: str
    text: str = ""
    last: str = ""

    def address(self, last: str) -> str:
        """Return the address of the view after another name."""
        query = {name: value for name, value in (("q", self.text), ("last", last)) if value}
        return f"/?{urlencode(query)}" if query else "/"

    def read(self) -> PageContent:
        """Return the content now. Raises sqlite3.Error."""
        names = self.catalog.repositories(self.last, PER_PAGE + 1, self.text)
        found = [RepositoryEntry(name, self.catalog.count_tags(name)) for name in names[:PER_PAGE]]
        after = names[PER_PAGE - 1] if len(names) > PER_PAGE else ""
        example = f"docker push {self.host}/app:1.2"
        part = self.template.part("repositories", self, found, after, example)
        return PageContent("Repositories", {"repositories": part}, part)


@dataclass(frozen=True)
class RepositoryPage:
    """The view of one repository's tags after ``last``."""

    catalog: Catalog
    template: Template
    host: str
    name: str
    last: str = ""

    def address(self, last: str) -> str:
        """Return the address of the view after another tag."""
        return f"/repositories/{quote(self.name)}" + (f"?{urlencode({'last': last})}" if last else "")

    def read(self) -> PageContent:
        """Return the content now. Raises ApiError NAME_UNKNOWN, sqlite3.Error."""
        if not self.catalog.has_repository(self.name):
            raise name_unknown_error(self.name)
        found = self.catalog.tagged(self.name, self.last, PER_PAGE + 1, _LARGEST_READ)
        tags = [_entry(tagged) for tagged in found[:PER_PAGE]]
        after = tags[-1].name if len(found) > PER_PAGE else ""
        part = self.template.part("repository", self, tags, after)
        return PageContent(self.name, {"repository": part}, part)


def _entry(tagged: TaggedManifest) -> TagEntry:
    data: Any = {} if tagged.content is None else load_json(tagged.content)
    children = data.get("manifests")
    if isinstance(children, list):
        kind = ", ".join(sorted({platform for child in children if (platform := _platform(child))}))
        return TagEntry(tagged.tag, tagged.digest, kind or "index", None)
    blobs = [data.get("config"), *(data.get("layers") or [])]
    size = sum(blob["size"] for blob in blobs if blob)
    kind = data.get("artifactType")
    return TagEntry(
        tagged.tag, tagged.digest, kind if isinstance(kind, str) and kind else "image", size or None
    )


def _platform(child: Any) -> str:
    """Return ``linux/arm64/v8``, or "" for what is not an image, such as an attestation."""
    platform = child.get("platform")
    if not isinstance(platform, dict):
        return ""
    names = [platform.get(name) for name in ("os", "architecture", "variant")]
    return "" if "unknown" in names else "/".join(str(name) for name in names if name)

"""Order and list manifests that refer to a subject: signatures, attestations, SBOMs (image-spec
``manifest.md``, distribution-spec "Pushing Manifests with Subject")."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from pusher.oci.bounded_json import load_json
from pusher.oci.document import Document
from pusher.oci.index import Index, parse_index
from pusher.oci.manifest import parse_descriptor
from pusher.oci.media_types import OCI_INDEX


def subject_of(document: Document) -> str | None:
    """Return the digest of the subject of a manifest or index, None if it has none."""
    subject = load_json(document.raw).get("subject")
    try:
        return None if subject is None else parse_descriptor(subject).digest
    except ValueError:
        return None  # the registry reports an invalid one


def push_order(documents: Sequence[Document]) -> list[Document]:
    """Return each document after those that it lists and its subject, the root (the last one) last."""
    known = {document.digest: document for document in documents}
    *others, root = [document.digest for document in documents]
    ordered: dict[str, Document] = {}
    waiting = others[::-1]
    while waiting:
        digest = waiting[-1]
        needed = [] if digest in ordered else _needs(known[digest])
        if missing := [other for other in needed if other in known and other not in ordered]:
            waiting += missing[::-1]
        else:
            ordered.setdefault(waiting.pop(), known[digest])
    ordered.pop(root, None)
    return [*ordered.values(), known[root]]


def _needs(document: Document) -> list[str]:
    """Return the digests of the content that a registry must have before a document."""
    below = [child.digest for child in document.children] if isinstance(document, Index) else []
    subject = subject_of(document)
    return below if subject is None else [*below, subject]


def fallback_tag(subject: str) -> str:
    """Return the tag at which registries without the referrers API keep the referrers of ``subject``
    (distribution-spec, "Referrers Tag Schema")."""
    return subject.replace(":", "-")


def index_with_referrer(listed: bytes | None, document: Document, gone: Collection[str] = ()) -> Index | None:
    """Return the list at the fallback tag with ``document`` and without ``gone``; None if nothing changes.

    ``listed`` is None if there is no list yet. Raises ValueError if it is not an index.
    """
    data: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    if listed is not None:
        children = parse_index(listed).children
        if any(child.digest == document.digest for child in children) and not gone:
            return None
        data = load_json(listed)
    kept = [child for child in data["manifests"] if child["digest"] not in {*gone, document.digest}]
    data["manifests"] = [*kept, _descriptor_of(document)]
    return parse_index(json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode())


def _descriptor_of(document: Document) -> dict[str, object]:
    data = load_json(document.raw)
    described: dict[str, object] = {
        "mediaType": document.media_type,
        "digest": document.digest,
        "size": len(document.raw),
    }
    artifact_type = data.get("artifactType") or (data.get("config") or {}).get("mediaType")
    if artifact_type:
        described["artifactType"] = artifact_type
    if data.get("annotations"):
        described["annotations"] = data["annotations"]
    return described

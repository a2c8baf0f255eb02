"""Rewrite manifests and indexes whose layers are recompressed; change only the blobs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.oci import media_types
from pusher.oci.bounded_json import load_json
from pusher.oci.document import Document
from pusher.oci.index import Index, parse_index
from pusher.oci.manifest import Descriptor, Manifest, parse_manifest

_OF_THE_BYTES: Final = frozenset({"urls", "data"})
"""Fields of a descriptor that are about the very bytes that it names."""
_OF_THE_COMPRESSION: Final = ("io.github.containers.zstd-chunked.", "containerd.io/snapshot/stargz/")
"""Prefixes of layer annotations that give the positions of files in the compressed blob."""


@dataclass(frozen=True)
class Draft:
    """A manifest with the diff IDs of its layers, whose blobs do not exist yet; or an index of drafts."""

    document: Document
    diff_ids: tuple[str, ...] = ()


def fill_drafts(drafts: Sequence[Draft], blobs: Mapping[str, Descriptor]) -> list[Document]:
    """Return the documents with the ``blobs`` that were made, by diff ID, in the order of the drafts.

    A document that lists the same blobs as before keeps its bytes.
    """
    made: dict[str, Document] = {}
    for draft in drafts:
        document = draft.document
        made[document.digest] = (
            _with_children(document, made)
            if isinstance(document, Index)
            else _with_layers(document, [blobs[diff_id] for diff_id in draft.diff_ids])
        )
    return list({document.digest: document for document in made.values()}.values())


def _with_layers(manifest: Manifest, blobs: Sequence[Descriptor]) -> Manifest:
    if [_same(blob) for blob in manifest.layers] == [_same(blob) for blob in blobs]:
        return manifest
    data = load_json(manifest.raw)
    types = [_oci(blob) for blob in blobs]
    is_docker = manifest.media_type == media_types.DOCKER_MANIFEST and set(types) == {
        media_types.OCI_LAYER_GZIP
    }
    if is_docker:
        types = [media_types.DOCKER_LAYER_GZIP for _ in blobs]
    elif manifest.media_type == media_types.DOCKER_MANIFEST:  # it has no zstd, and few tools read tars
        data["config"]["mediaType"] = media_types.OCI_CONFIG
    data["mediaType"] = manifest.media_type if is_docker else media_types.OCI_MANIFEST
    data["layers"] = [
        _rename(layer, media_type, blob.digest, blob.size)
        for layer, media_type, blob in zip(data["layers"], types, blobs, strict=True)
    ]
    return parse_manifest(_serialize(data))


def _with_children(index: Index, made: Mapping[str, Document]) -> Index:
    data = load_json(index.raw)
    is_changed = False
    for number, child in enumerate(data["manifests"]):
        new = made[child["digest"]]
        if new.digest != child["digest"]:
            is_changed = True
            data["manifests"][number] = _rename(child, new.media_type, new.digest, len(new.raw))
            if new.media_type != child["mediaType"]:  # Docker's list is of Docker's manifests
                data["mediaType"] = media_types.OCI_INDEX
    return parse_index(_serialize(data)) if is_changed else index


def _rename(descriptor: dict[str, Any], media_type: str, digest: str, size: int) -> dict[str, Any]:
    kept = {key: value for key, value in descriptor.items() if key not in _OF_THE_BYTES}
    annotations = kept.get("annotations")
    if isinstance(annotations, dict):
        kept["annotations"] = {
            key: value for key, value in annotations.items() if not key.startswith(_OF_THE_COMPRESSION)
        }
    return {**kept, "mediaType": media_type, "digest": digest, "size": size}


def _same(blob: Descriptor) -> tuple[str, int, str]:
    return blob.digest, blob.size, _oci(blob)


def _oci(blob: Descriptor) -> str:
    return media_types.TO_OCI.get(blob.media_type, blob.media_type)


def _serialize(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()

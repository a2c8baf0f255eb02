"""What lies in a registry that images are copied from."""

from __future__ import annotations

import json

from tests.support.fakeregistry import (
    FakeRegistry,
    On,
)
from tests.support.images import OCI_INDEX, OCI_MANIFEST, Image, sha256

SOURCE = "team/app"


def put(origin: FakeRegistry, image: Image, tag: str = "1.2", repository: str = SOURCE) -> str:
    """Have the registry hold an image; the digest of its manifest."""
    for blob in (image.config, *(layer.gzip for layer in image.layers)):
        origin.add_blob(repository, blob)
    return origin.add_manifest(repository, tag, OCI_MANIFEST, image.manifest)


def put_index(origin: FakeRegistry, *images: Image, extra: tuple[dict[str, object], ...] = ()) -> str:
    children = []
    for image in images:
        raw = image.manifest
        put(origin, image, tag=sha256(raw))
        platform = {"os": "linux", "architecture": image.architecture}
        children.append(
            {"mediaType": OCI_MANIFEST, "digest": sha256(raw), "size": len(raw), "platform": platform}
        )
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*children, *extra]}
    return origin.add_manifest(SOURCE, "1.2", OCI_INDEX, json.dumps(index, indent=3).encode())


def name_of(origin: FakeRegistry, rest: str = ":1.2") -> str:
    return f"docker://{origin.address}/{SOURCE}{rest}"


def same(origin: FakeRegistry, registry: FakeRegistry, image: Image, repository: str = "app") -> None:
    """Every blob of the image is there with the bytes of its source."""
    for blob in (image.config, *(layer.gzip for layer in image.layers)):
        assert registry.blob(repository, sha256(blob)) == blob == origin.blob(SOURCE, sha256(blob))


def fetched(origin: FakeRegistry) -> list[str | None]:
    return [record.headers.get("range") for record in origin.requests(On.GET_BLOB)]


def is_layer(image: Image, position: int) -> str:
    return image.layers[position].digest

"""A layout in a folder, and what of it arrives at which registries."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pusher.store.records import JobState
from tests.support.fakeregistry import (
    DISTRIBUTION_2,
    DISTRIBUTION_3,
    SERVERLESS,
    FakeRegistry,
    On,
    Rules,
)
from tests.support.home import CHUNK, Home
from tests.support.images import (
    OCI_CONFIG,
    OCI_LAYER,
    Image,
    sha256,
)
from tests.support.layouts import EMPTY, Descriptor, Layout, on

ALL: dict[str, Rules] = {
    "serverless": SERVERLESS.scaled(min=1_000, max=2 * CHUNK),
    "distribution 2": DISTRIBUTION_2,
    "distribution 3": DISTRIBUTION_3,
    "referrers": dataclasses.replace(DISTRIBUTION_3, notes_subjects=True),
}


class Written(Layout):
    """A layout in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._count = 0

    def name(self, root: Descriptor, name: str = "app:1") -> str:
        """Write a layout that holds ``root``; how it is typed."""
        self._count += 1
        self.listed.clear()
        self.add(root, name)
        return f"oci:{self.write_folder(self.folder / str(self._count))}:{name}"

    def path(self, digest: str) -> Path:
        """A blob of the last one."""
        return self.folder / str(self._count) / "blobs/sha256" / digest.removeprefix("sha256:")

    def picture(self, image: Image, *more: Descriptor) -> Descriptor:
        """An image with further layers, as an index lists it."""
        layers = [self.blob(layer.gzip, f"{OCI_LAYER}+gzip") for layer in image.layers]
        made = self.manifest(self.blob(image.config, OCI_CONFIG), *layers, *more)
        return on(f"linux/{image.architecture}", made)

    def report(self, *layers: Descriptor, subject: Descriptor | None = None, **fields: Any) -> Descriptor:
        """An artifact with the empty config (image-spec ``manifest.md``, "Guidelines for Artifact Usage")."""
        if subject is not None:
            fields["subject"] = {key: subject[key] for key in ("mediaType", "digest", "size")}
        empty = self.blob(b"{}", EMPTY)
        fields["artifactType"] = "application/vnd.example.report"
        return self.manifest(empty, *(layers or [empty]), **fields)


def put(registry: FakeRegistry) -> list[str]:
    """The references that manifests were stored under, in their order."""
    records = [record for record in registry.requests(On.PUT_MANIFEST) if record.status == 201]
    return [record.path.rpartition("/")[2] for record in records]


def is_whole(registry: FakeRegistry, layout: Written, reference: str, repository: str = "app") -> str:
    """See that the registry has exactly this below a reference, blobs included; its digest."""
    _, raw = registry.manifests[repository][reference]
    assert raw == layout.blobs[sha256(raw)]
    data = json.loads(raw)
    for child in data.get("manifests", []):
        assert registry.manifests[repository][child["digest"]][0] == child["mediaType"]
        is_whole(registry, layout, child["digest"], repository)
    for blob in [data["config"], *data["layers"]] if "config" in data else []:
        if not blob.get("urls"):
            assert registry.blob(repository, blob["digest"]) == layout.blobs[blob["digest"]]
    return sha256(raw)


def refused(home: Home, job_id: int) -> tuple[str, str]:
    """Message and hint of a job that the registry refused for good."""
    assert home.state(job_id) == JobState.FAILED
    error = home.job(job_id).error
    assert error is not None
    assert error.code == "registry-refused"
    assert error.hint
    return error.message, error.hint

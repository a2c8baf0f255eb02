"""Artifacts that refer to an image: found through it, whatever the registry knows of such things."""

from __future__ import annotations

import json

import pytest

from pusher.errors import ExitCode
from tests.support.fakeregistry import (
    Answer,
    FakeRegistry,
    Fault,
    On,
)
from tests.support.home import Home
from tests.support.images import (
    OCI_INDEX,
    OCI_MANIFEST,
    make_image,
    sha256,
)
from tests.support.layouts import Descriptor
from tests.worker.written import ALL, Written, is_whole, put, refused


@pytest.mark.parametrize("registry", ALL, indirect=True)
def test_an_artifact_becomes_findable_through_its_subject(
    home: Home, registry: FakeRegistry, layout: Written
) -> None:
    image = layout.picture(make_image(300))
    home.push(layout.name(image), f"{registry.address}/app:1")
    tag = image["digest"].replace(":", "-")
    reports: list[Descriptor] = []
    for n in range(2):
        text = layout.blob(b"report %d" % n, "text/plain")
        reports.append(layout.report(text, subject=image, annotations={"number": str(n)}))
        home.push(layout.name(reports[-1], f"report:{n}"), f"{registry.address}/app:report-{n}")
        is_whole(registry, layout, f"report-{n}")
    if registry.rules.notes_subjects:
        assert tag not in registry.manifests["app"]
        return
    media_type, raw = registry.manifests["app"][tag]
    assert media_type == OCI_INDEX
    listed = json.loads(raw)
    assert (listed["schemaVersion"], listed["mediaType"]) == (2, OCI_INDEX)
    assert listed["manifests"] == [
        {
            "mediaType": OCI_MANIFEST,
            "digest": report["digest"],
            "size": report["size"],
            "artifactType": "application/vnd.example.report",
            "annotations": {"number": str(n)},
        }
        for n, report in enumerate(reports)
    ]


def test_a_second_push_lists_nothing_twice(home: Home, serverless: FakeRegistry, layout: Written) -> None:
    image = layout.picture(make_image(300))
    home.push(layout.name(image), f"{serverless.address}/app:1")
    report = layout.name(layout.report(subject=image), "report:1")
    for _ in range(2):
        home.push(report, f"{serverless.address}/app:report")
    _, raw = serverless.manifests["app"][image["digest"].replace(":", "-")]
    assert len(json.loads(raw)["manifests"]) == 1
    assert put(serverless).count(image["digest"].replace(":", "-")) == 1


def test_an_artifact_type_from_the_config(home: Home, serverless: FakeRegistry, layout: Written) -> None:
    """image-spec: where there is no artifactType it is the config's media type (Helm charts, cosign)."""
    image = layout.picture(make_image(300))
    subject = {key: image[key] for key in ("mediaType", "digest", "size")}
    config = layout.blob(b"{}", "application/vnd.example.config")
    signature = layout.manifest(config, subject=subject)
    index = layout.index(signature, image)
    home.push(layout.name(index), f"{serverless.address}/app:1")
    _, raw = serverless.manifests["app"][image["digest"].replace(":", "-")]
    (entry,) = json.loads(raw)["manifests"]
    assert entry["artifactType"] == "application/vnd.example.config"
    assert "annotations" not in entry


def test_a_subject_in_the_same_index_goes_first(home: Home, registry: FakeRegistry, layout: Written) -> None:
    image = layout.picture(make_image(300))
    report = layout.report(subject=image)
    signature = layout.report(layout.blob(b"signed", "text/plain"), subject=report)
    root = layout.index(signature, report, image)
    home.push(layout.name(root), f"{registry.address}/app:1")
    is_whole(registry, layout, "1")
    order = [reference for reference in put(registry) if reference.startswith("sha256:")]
    assert order == [image["digest"], report["digest"], signature["digest"]]


@pytest.mark.parametrize("registry", ALL, indirect=True)
def test_a_subject_that_is_not_there(home: Home, registry: FakeRegistry, layout: Written) -> None:
    """The specification has registries take it; serverless-registry does not, and says which it wants."""
    image = layout.picture(make_image(300))
    job = home.enqueue(layout.name(layout.report(subject=image)), f"{registry.address}/app:report")
    result = home.run([job.id])
    if registry.rules.name != "serverless-registry":
        assert result.exit_code == ExitCode.DONE
        return
    assert result.exit_code == ExitCode.REFUSED
    message, hint = refused(home, job.id)
    assert image["digest"] in message
    assert hint == f"push that image to {registry.address}/app first"
    assert len(registry.requests(On.OPEN)) == 1, "no blob is sent again"
    home.push(layout.name(image, "image:1"), f"{registry.address}/app:1")
    home.store.jobs.retry(job.id)
    assert home.run([job.id]).exit_code == ExitCode.DONE


def test_a_list_with_entries_that_are_gone(home: Home, serverless: FakeRegistry, layout: Written) -> None:
    image = layout.picture(make_image(300))
    home.push(layout.name(image), f"{serverless.address}/app:1")
    tag = image["digest"].replace(":", "-")
    gone = {"mediaType": OCI_MANIFEST, "digest": sha256(b"gone"), "size": 4}
    old = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [gone]})
    serverless.add_manifest("app", tag, OCI_INDEX, old.encode())
    report = layout.report(subject=image)
    home.push(layout.name(report, "report:1"), f"{serverless.address}/app:report")
    listed = json.loads(serverless.manifests["app"][tag][1])["manifests"]
    assert [entry["digest"] for entry in listed] == [report["digest"]]


def test_something_else_where_the_list_should_be(
    home: Home, serverless: FakeRegistry, layout: Written
) -> None:
    image = layout.picture(make_image(300))
    home.push(layout.name(image), f"{serverless.address}/app:1")
    tag = image["digest"].replace(":", "-")
    home.push(layout.name(image), f"{serverless.address}/app:{tag}")
    job = home.enqueue(layout.name(layout.report(subject=image), "report:1"), f"{serverless.address}/app:2")
    assert home.run([job.id]).exit_code == ExitCode.REFUSED
    assert tag in refused(home, job.id)[0]
    assert serverless.manifests["app"][tag][1] == layout.blobs[image["digest"]]


def test_a_list_that_cannot_be_read_for_a_moment(
    home: Home, serverless: FakeRegistry, layout: Written
) -> None:
    """It is not taken for an empty one."""
    image = layout.picture(make_image(300))
    home.push(layout.name(image), f"{serverless.address}/app:1")
    first = layout.report(layout.blob(b"1", "text/plain"), subject=image)
    home.push(layout.name(first, "report:1"), f"{serverless.address}/app:r1")
    serverless.faults.add(Fault(On.GET_MANIFEST, Answer(503), times=2))
    second = layout.report(layout.blob(b"2", "text/plain"), subject=image)
    home.push(layout.name(second, "report:2"), f"{serverless.address}/app:r2")
    serverless.faults.assert_all_fired()
    _, raw = serverless.manifests["app"][image["digest"].replace(":", "-")]
    assert [entry["digest"] for entry in json.loads(raw)["manifests"]] == [first["digest"], second["digest"]]

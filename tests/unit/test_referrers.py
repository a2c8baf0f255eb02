"""The order of documents, and the list of what refers to an image."""

from __future__ import annotations

import itertools
import json

import pytest

from pusher.oci.document import Document, parse_document
from pusher.oci.manifest import parse_manifest
from pusher.oci.referrers import fallback_tag, index_with_referrer, push_order, subject_of
from tests.support.images import make_image
from tests.support.layouts import Descriptor, Layout


def _documents(layout: Layout, *roots: Descriptor) -> list[Document]:
    return [parse_document(layout.blobs[root["digest"]]) for root in roots]


def test_every_order_gives_one_in_which_nothing_is_missed() -> None:
    layout = Layout()
    image = layout.image(make_image(10))
    report = layout.artifact(b"report", image)
    signature = layout.artifact(b"signature", report)
    inner = layout.index(signature)
    root = layout.index(inner, report, image)
    *others, last = _documents(layout, image, report, signature, inner, root)
    for given in itertools.permutations(others):
        order = [document.digest for document in push_order([*given, last])]
        assert order == [child["digest"] for child in (image, report, signature, inner, root)]


def test_each_may_refer_to_the_next() -> None:
    layout = Layout()
    chain = [layout.image(make_image(1))]
    for number in range(1500):
        chain.append(layout.artifact(b"%d" % number, chain[-1]))
    documents = _documents(layout, *reversed(chain), layout.index(*chain))
    assert [document.digest for document in push_order(documents)][:-1] == [each["digest"] for each in chain]


def test_the_order_is_kept_where_it_will_do() -> None:
    layout = Layout()
    children = [layout.image(make_image(10, seed=seed)) for seed in range(4)]
    documents = _documents(layout, *children, layout.index(*children))
    assert push_order(documents) == documents
    assert push_order(documents[:1]) == documents[:1]


@pytest.mark.parametrize(
    "subject", [None, 3, {}, {"digest": "sha256:../../x", "size": 1, "mediaType": "a/b"}]
)
def test_a_subject_that_makes_no_sense_is_the_registrys_to_judge(subject: object) -> None:
    layout = Layout()
    raw = json.loads(layout.blobs[layout.image(make_image(10))["digest"]])
    assert subject_of(parse_manifest(json.dumps({**raw, "subject": subject}).encode())) is None


def test_the_list_keeps_what_others_wrote() -> None:
    layout = Layout()
    image = layout.image(make_image(10))
    (report,) = _documents(layout, layout.artifact(b"report", image))
    assert fallback_tag(image["digest"]) == f"sha256-{image['digest'][7:]}"
    theirs = {
        "mediaType": "a/b",
        "digest": "sha256:" + "0" * 64,
        "size": 3,
        "artifactType": "x",
        "data": "Zg==",
    }
    listed = json.dumps({"schemaVersion": 2, "annotations": {"ä": "ö"}, "manifests": [theirs]}).encode()
    made = index_with_referrer(listed, report)
    assert made is not None
    data = json.loads(made.raw)
    assert data["annotations"] == {"ä": "ö"}
    assert data["manifests"][0] == theirs
    assert data["manifests"][1]["digest"] == report.digest
    assert index_with_referrer(made.raw, report) is None
    without = index_with_referrer(made.raw, report, gone=[theirs["digest"]])  # type: ignore[list-item]
    assert without is not None
    assert [entry["digest"] for entry in json.loads(without.raw)["manifests"]] == [report.digest]


@pytest.mark.parametrize("listed", [b"", b"[]", b"{}", b'{"manifests": [1]}', b"<html>"])
def test_a_list_that_is_none(listed: bytes) -> None:
    layout = Layout()
    (report,) = _documents(layout, layout.artifact(b"report", layout.image(make_image(10))))
    with pytest.raises(ValueError, match=r"not JSON|index|descriptor"):
        index_with_referrer(listed, report)

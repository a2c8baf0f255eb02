"""The odd rules of the registries that people run themselves, asserted of their fakes."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from tests.support.fakeregistry import (
    ARTIFACTORY,
    DISTRIBUTION_2,
    DOCKER_HUB,
    GITEA,
    GITLAB,
    HARBOR,
    NEXUS,
    QUAY,
    ZOT,
    ZOT_OLD,
    Rules,
)
from tests.support_tests.client import digest_of
from tests.support_tests.test_hosted import DATA, PARTS, send, speaking_to


@pytest.mark.parametrize("rules", [HARBOR, DOCKER_HUB, GITLAB], ids=lambda rules: rules.name)
def test_forks_of_distribution_2_lose_an_upload_that_breaks_inside_a_chunk(rules: Rules) -> None:
    assert rules.admit is DISTRIBUTION_2.admit
    with speaking_to(rules) as (_, client):
        location = client.open().location
        client.break_in_patch(location, PARTS[0], 500, at=0)
        assert client.status(location).code == "BLOB_UPLOAD_INVALID"


# --- Quay -------------------------------------------------------------------------------------------------


def test_quay_counts_one_too_high_in_its_status_and_gives_no_location() -> None:
    with speaking_to(QUAY) as (_, client):
        opened = client.open()
        assert opened.range == "bytes=0--1"
        assert client.status(opened.location).range == "bytes=0-0"
        (first,) = send(client, opened.location, PARTS[:1])
        assert (first.location, first.range) == (opened.location, "0-999")
        status = client.status(opened.location)
        assert (status.status, status.range) == (204, "bytes=0-1000")
        assert "location" not in status.headers


def test_quay_keeps_half_a_chunk() -> None:
    with speaking_to(QUAY) as (registry, client):
        location = client.open().location
        client.break_in_patch(location, PARTS[0], 400, at=0)
        assert client.status(location).range == "bytes=0-400"
        send(client, location, [DATA[400:]], at=400)
        assert client.close(location, digest_of(DATA)).status == 201
        assert registry.blob(client.repository, digest_of(DATA)) == DATA


def test_quay_refuses_a_gap_skips_an_overlap_and_appends_a_chunk_from_0() -> None:
    with speaking_to(QUAY) as (_, client):
        location = client.open().location
        send(client, location, PARTS[:1])
        refused = client.patch(location, PARTS[2], 2_000)
        assert (refused.status, refused.range, refused.location) == (416, "0-1000", location)
        assert client.patch(location, DATA[500:2_000], 500).range == "0-1999"
        assert client.patch(location, PARTS[0], 0).range == "0-2999"
        assert client.close(location, digest_of(DATA), PARTS[3]).status == 400


# --- zot --------------------------------------------------------------------------------------------------


def test_zot_forgets_a_session_whose_chunk_breaks() -> None:
    with speaking_to(ZOT) as (registry, client):
        opened = client.open()
        assert urlsplit(opened.location).netloc + urlsplit(opened.location).query == ""
        assert "blob-upload-uuid" in opened.headers
        send(client, opened.location, PARTS[:1])
        client.break_in_patch(opened.location, PARTS[1], 400, at=1_000)
        assert client.status(opened.location).code == "BLOB_UPLOAD_UNKNOWN"
        assert registry.sessions == {}


def test_zot_refuses_a_chunk_out_of_order_and_goes_on() -> None:
    with speaking_to(ZOT) as (_, client):
        location = client.open().location
        assert [answer.range for answer in send(client, location, PARTS[:2])] == ["0-999", "0-1999"]
        assert client.patch(location, PARTS[0], 0).status == 416
        assert client.patch(location, PARTS[2], content_range="2000-2500").status == 416
        send(client, location, PARTS[2:], at=2_000)
        assert client.close(location, digest_of(DATA)).status == 201


def test_zot_before_2025_told_the_range_of_the_chunk_but_its_status_is_right() -> None:
    with speaking_to(ZOT_OLD) as (_, client):
        location = client.open().location
        assert [answer.range for answer in send(client, location, PARTS)] == ["0-999"] * 3 + ["0-499"]
        assert client.status(location).range == "0-3499"


# --- Gitea ------------------------------------------------------------------------------------------------


def test_gitea_demands_a_range_after_the_first_write() -> None:
    with speaking_to(GITEA) as (_, client):
        location = client.open().location
        assert re.fullmatch(r"/v2/.*/blobs/uploads/[a-z0-9]{25}", location)
        assert client.patch(location, PARTS[0]).status == 202
        refused = client.patch(location, PARTS[1])
        assert (refused.status, b"Stream uploads after first write" in refused.body) == (400, True)
        assert client.patch(location, PARTS[1], 500).code == "BLOB_UPLOAD_INVALID"
        send(client, location, PARTS[1:3], at=1_000)
        assert client.status(location).range == "0-2999"
        assert client.close(location, digest_of(DATA), PARTS[3]).status == 201


# --- Artifactory and Nexus --------------------------------------------------------------------------------


def test_artifactory_does_not_look_at_the_body_of_a_put() -> None:
    with speaking_to(ARTIFACTORY) as (_, client):
        opened = client.open()
        assert opened.headers["x-jfrog-version"].startswith("Artifactory/")
        assert client.close(opened.location, digest_of(DATA), DATA).code == "DIGEST_INVALID"
        send(client, opened.location, PARTS)
        assert client.close(opened.location, digest_of(DATA)).status == 201


def test_nexus_takes_a_blob_in_one_put_only() -> None:
    with speaking_to(NEXUS) as (_, client):
        opened = client.open()
        assert opened.headers["server"].startswith("Nexus/")
        assert client.patch(opened.location, PARTS[0], 0).status == 405
        assert client.status(opened.location).status == 404
        assert client.close(opened.location, digest_of(DATA), DATA).status == 201

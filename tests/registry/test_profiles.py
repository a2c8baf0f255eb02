"""Which registry it is: by its answers, by its name, by what was learned, by what the user says."""

from __future__ import annotations

from dataclasses import fields

import pytest

from pusher.errors import InvalidOption
from pusher.registry.upload import profiles
from pusher.registry.upload.profiles import (
    ACR,
    ALIYUN,
    ARTIFACTORY,
    CHUNKED,
    DEFAULT,
    DISTRIBUTION,
    DISTRIBUTION_2,
    DISTRIBUTION_3,
    DOCKER_HUB,
    ECR,
    GHCR,
    GITEA,
    GITLAB,
    GOOGLE,
    HARBOR,
    MONOLITHIC,
    NEXUS,
    PROFILES,
    QUAY,
    SERVERLESS,
    ZOT,
    Profile,
)

UPLOADS = "https://r.example/v2/a/blobs/uploads/"
UUID = "6c01b5a5-3aac-4f7e-9c55-5c3ad9c1e0f5"
PLAIN = UPLOADS + UUID


@pytest.mark.parametrize(
    ("location", "headers", "expected"),
    [
        (PLAIN + "?_stateHash=ab", {"OCI-Chunk-Max-Length": "100"}, SERVERLESS),
        (PLAIN + "?_stateHash=ab", {"oci-chunk-max-length": "100"}, SERVERLESS),
        (PLAIN + "?_stateHash=ab", {}, DEFAULT),
        (PLAIN, {"OCI-Chunk-Max-Length": "100"}, DEFAULT),
        (PLAIN + "?_state=ab", {"Range": "0-0"}, DISTRIBUTION),
        (PLAIN + "?x=1&_state=ab", {}, DISTRIBUTION),
        (PLAIN + "?_nouploadcache=false&_state=ab", {}, ACR),
        ("https://r.example/v2/a/b/blobs/upload/" + UUID, {}, GHCR),
        ("https://r.example/artifacts-uploads/namespaces/p/repositories/r/uploads/AF2", {}, GOOGLE),
        (PLAIN, {"Range": "bytes=0--1"}, QUAY),
        (PLAIN, {"Range": "0--1"}, DEFAULT),
        (PLAIN, {"Blob-Upload-UUID": UUID}, ZOT),
        (PLAIN, {"X-JFrog-Version": "Artifactory/7.120.3 712003900"}, ARTIFACTORY),
        (PLAIN, {"X-Artifactory-Id": "71d76a7867799d3a"}, ARTIFACTORY),
        (PLAIN, {"Server": "Nexus/3.70.1-02 (OSS)"}, NEXUS),
        (PLAIN, {"Server": "nginx"}, DEFAULT),
        (UPLOADS + "k9h6area7tbavls4fewkuetvy", {}, GITEA),
        (UPLOADS + "k9h6area7tbavls4fewkuetvyx", {}, DEFAULT),
        (PLAIN, {"Docker-Upload-UUID": UUID, "Docker-Distribution-Api-Version": "registry/2.0"}, DEFAULT),
    ],
)
def test_by_its_answers(location: str, headers: dict[str, str], expected: Profile) -> None:
    assert profiles.detect(location, headers) is expected
    assert profiles.detect(location, headers, registry="registry.example.com:5000") is expected


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        ("ghcr.io", GHCR),
        ("GHCR.io:443", GHCR),
        ("notghcr.io", DEFAULT),
        ("ghcr.io.example.com", DEFAULT),
        ("docker.io", DOCKER_HUB),
        ("index.docker.io", DOCKER_HUB),
        ("registry-1.docker.io", DOCKER_HUB),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", ECR),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", ECR),
        ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", ECR),
        ("public.ecr.aws", ECR),
        ("bucket.s3.amazonaws.com", DEFAULT),
        ("europe-docker.pkg.dev", GOOGLE),
        ("gcr.io", GOOGLE),
        ("eu.gcr.io", GOOGLE),
        ("mygcr.io", DEFAULT),
        ("team.azurecr.io", ACR),
        ("team.azurecr.cn", ACR),
        ("quay.io", QUAY),
        ("registry.gitlab.com", GITLAB),
        ("demo.goharbor.io", HARBOR),
        ("codeberg.org", GITEA),
        ("gitea.com", GITEA),
        ("team.jfrog.io", ARTIFACTORY),
        ("registry.cn-hangzhou.aliyuncs.com", ALIYUN),
        ("127.0.0.1:5000", DEFAULT),
        ("", DEFAULT),
    ],
)
def test_by_its_name(registry: str, expected: Profile) -> None:
    assert profiles.detect(PLAIN, {}, registry=registry) is expected


def test_a_name_refines_what_many_answer() -> None:
    for registry, expected in (("docker.io", DOCKER_HUB), ("registry.gitlab.com", GITLAB)):
        assert profiles.detect(PLAIN + "?_state=ab", {}, registry=registry) is expected


def test_answers_come_before_the_name() -> None:
    """A proxy or a mirror under a well-known name."""
    assert profiles.detect(PLAIN, {"Range": "bytes=0--1"}, registry="ghcr.io") is QUAY


@pytest.mark.parametrize("learned", [None, *PROFILES, "unknown"])
def test_what_was_learned_refines_and_never_overrules(learned: str | None) -> None:
    known = {"distribution-2": DISTRIBUTION_2, "distribution-3": DISTRIBUTION_3, "monolithic": MONOLITHIC}
    found = profiles.detect(PLAIN + "?_state=ab", {}, learned=learned)
    assert found is known.get(learned or "", DISTRIBUTION)
    known = {"chunked": CHUNKED, "monolithic": MONOLITHIC}
    assert profiles.detect(PLAIN, {}, learned=learned) is known.get(learned or "", DEFAULT)
    found = profiles.detect(PLAIN, {}, learned=learned, registry="quay.io")
    assert found is (MONOLITHIC if learned == "monolithic" else QUAY)


@pytest.mark.parametrize("name", PROFILES)
def test_what_the_user_says_overrules_everything(name: str) -> None:
    headers = {"OCI-Chunk-Max-Length": "100"}
    found = profiles.detect(
        PLAIN + "?_stateHash=ab", headers, registry="ghcr.io", learned="monolithic", forced=name
    )
    assert found is PROFILES[name] is profiles.by_name(name) is profiles.stored_profile(name)


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(InvalidOption) as error:
        profiles.by_name("dockerhub")
    assert error.value.message == "there is no registry profile called 'dockerhub'"
    assert error.value.hint is not None
    assert all(name in error.value.hint for name in PROFILES)
    with pytest.raises(InvalidOption):
        profiles.detect(PLAIN, {}, forced="dockerhub")


@pytest.mark.parametrize("name", ["of-a-newer-version", "", None])
def test_a_name_in_a_job_store_that_there_is_not(name: str | None) -> None:
    assert profiles.stored_profile(name) is DEFAULT


def test_doubt_tells_2x_from_3x() -> None:
    assert profiles.profile_after_break(DISTRIBUTION, found=False, grown=False) is DISTRIBUTION_2
    assert profiles.profile_after_break(DISTRIBUTION, found=True, grown=True) is DISTRIBUTION_3
    assert profiles.profile_after_break(DISTRIBUTION, found=True, grown=False) is DISTRIBUTION
    for other in set(PROFILES.values()) - {DISTRIBUTION}:
        assert profiles.profile_after_break(other, found=False, grown=False) is other


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_profile_makes_sense(profile: Profile) -> None:
    assert PROFILES[profile.name] is profile
    assert profile.title
    assert profile.max_chunk is None or profile.min_chunk <= profile.max_chunk
    assert profile.takes_chunks or profile.whole, "else there is no way to send anything"
    assert not (profile.whole and profile.max_whole is not None)
    assert not (profile.resends and profile.reports_offset), "asking costs less than sending again"
    assert not profile.whole_chunks or profile.equal_chunks
    assert hash(profile)
    assert not any(isinstance(getattr(profile, field.name), (list, dict, set)) for field in fields(profile))

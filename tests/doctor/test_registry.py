"""The doctor at a registry: logins, permission to push, profiles, chunks, and uploads that can be resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.doctor import EarlyErrors, Status
from pusher.errors import (
    CredentialHelperFailed,
    CredentialsMissing,
    CredentialsRejected,
    CredentialsUnreadable,
    InvalidOption,
    PasswordMissing,
    PermissionDenied,
    PusherError,
    RegistryBusy,
    RegistryRefused,
    RepositoryUnknown,
)
from pusher.registry.upload import profiles
from tests.doctor.diagnosis import PUSHING, Diagnosis, Registry, diagnose, error_reply, settings_in, stay_here
from tests.registry.sites import Site
from tests.support.fakeregistry import (
    DISTRIBUTION_2,
    SERVERLESS,
    Answer,
    DropReply,
    FakeRegistry,
    Fault,
    On,
    Rules,
)
from tests.support.fakeregistry.wire import Reply
from tests.support.home import Home
from tests.support.images import make_image
from tests.support.layouts import Layout
from tests.support.tokens import TokenServer, demand

LOGIN = ("ann", "the-secret-password")
REPOSITORY = ("image", "TLS")
"""What is skipped for a repository of a registry on this machine."""
NO_PUSH = PUSHING[1:]
CHALLENGE = error_reply(
    401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": 'Basic realm="registry"'}
)


@pytest.fixture(autouse=True)
def _stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_here(monkeypatch)


def of(answer: Registry, home: Path, **settings: object) -> Diagnosis:
    with Site(answer) as site:
        return diagnose(f"{site.address}/team/app", settings_in(home, **settings))


# --- logins -----------------------------------------------------------------------------------------------


def test_no_credential(tmp_path: Path) -> None:
    found = of(Registry(PING=CHALLENGE), tmp_path)
    skipped = [*REPOSITORY, *NO_PUSH]
    check = found.assert_failed(
        "login", CredentialsMissing, "no credential is known", "pusher login", skipped=skipped
    )
    assert check.exit_code == 4
    assert "pushing without a login" in found["credential"].message


def test_a_wrong_password(tmp_path: Path) -> None:
    with FakeRegistry(credentials=LOGIN) as registry:
        wrong = settings_in(tmp_path, username="ann", password="s3cr3t-but-wrong")
        found = diagnose(f"{registry.address}/team/app", wrong)
    skipped = [*REPOSITORY, *NO_PUSH]
    found.assert_failed("login", CredentialsRejected, "ann", "--username", "password", skipped=skipped)
    assert "s3cr3t" not in f"{found}"


@pytest.mark.parametrize("rules", [SERVERLESS, DISTRIBUTION_2], ids=lambda rules: rules.name)
def test_the_right_password(tmp_path: Path, rules: Rules) -> None:
    with FakeRegistry(rules, credentials=LOGIN) as registry:
        settings = settings_in(tmp_path, username=LOGIN[0], password=LOGIN[1])
        found = diagnose(f"{registry.address}/team/app", settings)
        assert registry.sessions == {}
    found.assert_healthy(skipped=REPOSITORY)
    assert found["credential"].message == "user ann from --username"
    assert found["login"].message.endswith("accepts user ann from --username (Basic)")
    assert LOGIN[1] not in f"{found}"


def test_a_helper_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"credsStore": "gone"}))
    found = of(Registry(PING=CHALLENGE), tmp_path, docker_config=file)
    check = found.assert_failed(
        "credential", CredentialHelperFailed, "docker-credential-gone", skipped=[*REPOSITORY, *PUSHING]
    )
    assert check.exit_code == 4
    assert found["registry"].status is Status.PASSED


@pytest.mark.parametrize("content", ["{ not JSON", '{"auths": []}'])
def test_a_credential_file_that_is_broken(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(content)
    found = of(Registry(), tmp_path, docker_config=file)
    found.assert_failed("credential", CredentialsUnreadable, str(file), skipped=[*REPOSITORY, *PUSHING])


def test_a_user_without_a_password(tmp_path: Path) -> None:
    errors = EarlyErrors(
        login=PasswordMissing("there is no password for user 'bob'", hint="--password-stdin")
    )
    with Site(Registry()) as site:
        found = diagnose(f"{site.address}/team/app", settings_in(tmp_path, username="bob"), errors=errors)
    found.assert_failed("credential", PasswordMissing, "bob", skipped=[*REPOSITORY, *PUSHING])


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer(login=LOGIN) as running:
        yield running


def with_tokens(tokens: TokenServer, home: Path, **settings: object) -> Diagnosis:
    with FakeRegistry(SERVERLESS) as registry:
        registry.faults.add(demand(tokens))
        return diagnose(f"{registry.address}/team/app", settings_in(home, **settings))


def test_tokens(tmp_path: Path, tokens: TokenServer) -> None:
    found = with_tokens(tokens, tmp_path, username=LOGIN[0], password=LOGIN[1])
    found.assert_healthy(skipped=REPOSITORY)
    assert found["login"].message.endswith(
        f"accepts user ann from --username (Bearer, tokens from {tokens.site.address})"
    )
    shown = f"{found}"
    assert tokens.given
    assert not [secret for secret in (LOGIN[1], *tokens.given) if secret in shown]


def test_tokens_for_nobody_but_users(tmp_path: Path, tokens: TokenServer) -> None:
    found = with_tokens(tokens, tmp_path)
    found.assert_failed(
        "push", CredentialsMissing, "no credential", "pusher login", skipped=[*REPOSITORY, *NO_PUSH[1:]]
    )
    assert "the push shows whether it is needed" in found["login"].message
    tokens.anonymous = True
    with_tokens(tokens, tmp_path).assert_healthy(skipped=REPOSITORY)


def test_a_token_server_that_rejects_the_password(tmp_path: Path, tokens: TokenServer) -> None:
    found = with_tokens(tokens, tmp_path, username="ann", password="s3cr3t-but-wrong")
    found.assert_failed("login", CredentialsRejected, "ann", skipped=[*REPOSITORY, *NO_PUSH])
    assert "s3cr3t" not in f"{found}"


def test_a_token_that_may_not_push(tmp_path: Path, tokens: TokenServer) -> None:
    tokens.allowed = lambda _, action: action == "pull"
    found = with_tokens(tokens, tmp_path, username=LOGIN[0], password=LOGIN[1])
    found.assert_failed("push", PermissionDenied, "push", "ann", skipped=[*REPOSITORY, *NO_PUSH[1:]])


# --- permission to push ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "error", "words", "exit_code"),
    [
        (
            error_reply(403, "DENIED", "push access denied"),
            PermissionDenied,
            ("403", "push access denied"),
            4,
        ),
        (
            error_reply(404, "NAME_UNKNOWN", "repository name not known to registry"),
            RepositoryUnknown,
            ("repository name not known", "create the repository"),
            6,
        ),
        (
            error_reply(405, "UNSUPPORTED", "this is a mirror"),
            RegistryRefused,
            ("405", "this is a mirror"),
            6,
        ),
        (Reply(503, {"Retry-After": "7"}, b"maintenance"), RegistryBusy, ("503", "maintenance"), 5),
    ],
    ids=["forbidden", "unknown", "mirror", "busy"],
)
def test_an_upload_that_cannot_be_opened(
    tmp_path: Path, reply: Reply, error: type[PusherError], words: tuple[str, ...], exit_code: int
) -> None:
    found = of(Registry(POST=reply), tmp_path)
    check = found.assert_failed("push", error, *words, skipped=[*REPOSITORY, *NO_PUSH[1:]])
    assert check.exit_code == exit_code


def test_nothing_is_left_at_the_registry(tmp_path: Path) -> None:
    registry = Registry()
    of(registry, tmp_path).assert_healthy(skipped=REPOSITORY)
    assert registry.opened == 0


def test_a_session_that_the_registry_does_not_delete(tmp_path: Path) -> None:
    found = of(Registry(DELETE=Reply(405)), tmp_path)
    found.assert_healthy(skipped=REPOSITORY)
    assert "it expires there" in found["push"].message


def test_what_the_registry_wants_to_be_read(tmp_path: Path) -> None:
    reply = Reply(204, {"Range": "0-0", "Warning": '299 - "this registry closes in May"'})
    found = of(Registry(GET=reply), tmp_path)
    assert "warns: " in found["push"].message
    assert "this registry closes in May" in found["push"].message


def test_a_registry_alone_has_nowhere_to_push_to(tmp_path: Path) -> None:
    with Site(Registry()) as site:
        found = diagnose(site.address, settings_in(tmp_path))
        assert {seen.method for seen in site.seen} == {"GET"}
    found.assert_healthy(skipped=[*REPOSITORY, *NO_PUSH])
    assert "is read as a registry" in found["reference"].message
    assert f"pusher doctor {site.address}/team/app" in found["push"].hint


# --- can it be resumed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        (error_reply(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown"), "answers 404"),
        (Reply(204, {"Docker-Upload-UUID": "1"}), "204 without a usable Range"),
        (error_reply(500, "UNKNOWN", "oops"), "answers 500"),
    ],
)
def test_a_registry_that_loses_the_status(tmp_path: Path, reply: Reply, word: str) -> None:
    registry = Registry(GET=reply)
    found = of(registry, tmp_path)
    check = found.assert_failed("resume", RegistryRefused, word, "start again", skipped=REPOSITORY)
    assert check.exit_code == 6
    assert registry.opened == 0


def test_a_status_that_never_comes(tmp_path: Path) -> None:
    with FakeRegistry(DISTRIBUTION_2) as registry:
        registry.faults.add(Fault(On.STATUS, DropReply(), times=None))
        found = diagnose(f"{registry.address}/team/app", settings_in(tmp_path))
        assert registry.sessions == {}
    assert found.of(Status.FAILED) == ["resume"]


def test_a_registry_that_never_tells_is_not_to_blame(tmp_path: Path) -> None:
    found = of(Registry(GET=Reply(404)), tmp_path, profile="ecr")
    found.assert_healthy(skipped=[*REPOSITORY, "resume"])
    assert "Amazon ECR" in found["resume"].message


# --- profiles and chunks ----------------------------------------------------------------------------------


def test_serverless_registry(tmp_path: Path) -> None:
    with FakeRegistry(SERVERLESS) as registry:
        found = diagnose(f"{registry.address}/team/app", settings_in(tmp_path))
    found.assert_healthy(skipped=REPOSITORY)
    profile = found["profile"].message
    assert profile.startswith("serverless-registry (Cloudflare's serverless-registry), as its answer shows")
    assert "team/app/blobs/DIGEST, team/app/manifests/TAG, uploads in team/app/uploads/UUID" in profile
    assert "at least 5.0 MiB and at most 95.4 MiB" in found["chunks"].message


def test_a_profile_that_is_asked_for(tmp_path: Path) -> None:
    found = of(Registry(), tmp_path, profile="google")
    found.assert_healthy(skipped=[*REPOSITORY, "resume"])
    assert found["profile"].message.startswith("google, as --profile")
    assert "each layer in one request" in found["chunks"].message
    wrong = of(Registry(), tmp_path, profile="nonsense")
    wrong.assert_failed(
        "profile",
        InvalidOption,
        "'nonsense'",
        "serverless-registry",
        skipped=[*REPOSITORY, "chunks", "resume"],
    )


def test_a_profile_that_was_learned(home: Home) -> None:
    with FakeRegistry(DISTRIBUTION_2) as registry:
        home.store.facts.update(registry.address, profile="distribution-2", max_chunk=3_000_000)
        found = diagnose(f"{registry.address}/team/app", home.settings)
    found.assert_healthy(skipped=REPOSITORY)
    assert found["profile"].message.startswith("distribution-2 (the Docker distribution registry 2.x), as")
    assert "no particular size" in found["chunks"].message
    assert "begins with 19.5 KiB" in found["chunks"].message


@pytest.mark.parametrize("fits", [False, True])
def test_an_image_with_a_layer_that_is_too_large(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    small = replace(profiles.SERVERLESS, max_blob=50_000)
    monkeypatch.setitem(profiles.PROFILES, small.name, small)
    layout = Layout()
    layout.add(layout.image(make_image(200, 60_000, compressible=0.0)))
    image = f"oci:{layout.write_folder(tmp_path / 'layout')}"
    with FakeRegistry(DISTRIBUTION_2 if fits else SERVERLESS) as registry:
        found = diagnose(image, home.settings, to=f"{registry.address}/app:1")
        assert (registry.sessions, registry.body_bytes_received()) == ({}, 0)
    check = found["layers"]
    if fits:
        assert (check.status, "no layer that has to be sent is too large" in check.message) == (
            Status.PASSED,
            True,
        )
    else:
        assert (check.status, check.code, check.exit_code) == (Status.FAILED, "layer-too-large", 6)
        assert "--split-layers 50000" in check.hint


# --- without an argument ----------------------------------------------------------------------------------


def test_the_registries_of_unfinished_jobs(home: Home, archive: Path) -> None:
    with FakeRegistry(SERVERLESS) as one, FakeRegistry(DISTRIBUTION_2) as two, Site(Registry()) as third:
        home.enqueue(archive, f"{one.address}/team/app:1.2")
        home.enqueue(archive, f"{one.address}/team/app:1.3")
        home.enqueue(archive, f"{two.address}/other:1")
        two.faults.add(Fault(On.OPEN, Answer(403), times=None))
        settings = settings_in(home.settings.home, default_registry=f"{third.address}/namespace")
        found = diagnose(None, settings)
        third_address = third.address
    registries = list(dict.fromkeys(check.registry for check in found.checks))
    assert registries == [None, one.address, two.address, third_address]
    assert [(check.registry, check.name) for check in found.checks if check.status is Status.FAILED] == [
        (two.address, "push")
    ]
    assert "jobs: 3 queued" in found["job store"].message


def test_a_password_is_shown_to_no_other_registry(home: Home, archive: Path) -> None:
    with Site(Registry(PING=CHALLENGE)) as one, Site(Registry(PING=CHALLENGE)) as two:
        home.enqueue(archive, f"{one.address}/app:1")
        home.enqueue(archive, f"{two.address}/app:1")
        found = diagnose(None, settings_in(home.settings.home, username="ann", password="s3cr3t"))
        for site in (one, two):
            assert site.seen
            assert not [seen for seen in site.seen if "authorization" in seen.headers]
    failed = [check for check in found.checks if check.status is Status.FAILED]
    assert [(check.name, check.code) for check in failed] == [("credential", InvalidOption.code)] * 2
    assert "for one registry" in failed[0].message

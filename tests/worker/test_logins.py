"""Whole pushes whose logins end on the way: tokens of four seconds, a helper's password, warnings."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from pusher.errors import CredentialsMissing
from pusher.store.records import JobState
from pusher.worker.registries import Registries
from tests.registry.pretended import LOGIN
from tests.support.credential_helper import helper_on_path
from tests.support.fakeregistry import DISTRIBUTION_3, Action, FakeRegistry, Fault, On
from tests.support.fakeregistry.rules import Exchange
from tests.support.fakeregistry.wire import Reply
from tests.support.home import CHUNK, Home, blob_bytes, pushed
from tests.support.images import make_image, sha256, write_archive
from tests.support.link import ShakyLink
from tests.support.tokens import Demand, TokenServer, demand

LIFE = 4
RATE = 150_000
SECONDS = 9


def test_tokens_of_four_seconds_and_no_chunk_twice(tmp_path: Path) -> None:
    image = make_image(*[RATE * SECONDS // 2] * 2, compressible=0)
    archive = write_archive(tmp_path / "image.tar", image)
    with (
        TokenServer(login=LOGIN, life=LIFE) as tokens,
        FakeRegistry(DISTRIBUTION_3) as registry,
        ShakyLink(registry.address, rate=RATE) as link,
        Home(tmp_path / "home", username=LOGIN[0], password=LOGIN[1]) as home,
    ):
        wall = demand(tokens)
        assert isinstance(wall.action, Demand)
        registry.faults.add(wall)
        started = time.monotonic()
        job = home.push(archive, f"{link.address}/team/app:1.0")
        took = time.monotonic() - started
        pushed(registry, "team/app", "1.0", image)
        blobs = blob_bytes(registry, "team/app")
        manifest = len(registry.manifests["team/app"]["1.0"][1])
        assert home.figures(job.id) == (blobs, blobs, blobs + manifest), "a chunk was sent twice"
        assert registry.body_bytes_received() == blobs
        assert wall.action.refused == [], "a token that had ended was sent"
        assert len(registry.chunks) > 40
        assert took > 2 * LIFE, "the push was too short to tell anything"
        assert took / LIFE < len(tokens.given) <= took / (LIFE / 2) + 2, "one token for all threads at a time"


def test_password_of_a_helper_ends_within_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ECR's lives for 12 hours."""
    helper = helper_on_path(tmp_path / "bin", monkeypatch)
    image = make_image(3 * CHUNK, 5 * CHUNK, compressible=0)
    archive = write_archive(tmp_path / "image.tar", image)

    class Change(Action):
        def before(self, exchange: Exchange) -> None:
            helper.keep(registry.address, "AWS", "s3cond")
            registry.credentials = ("AWS", "s3cond")

    with FakeRegistry(DISTRIBUTION_3, credentials=("AWS", "f1rst")) as registry:
        helper.keep(registry.address, "AWS", "f1rst")
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"credHelpers": {registry.address: "test"}}))
        registry.faults.add(Fault(On.CHUNK, Change(), nth=3))
        with Home(tmp_path / "home", docker_config=config, parallel=1) as home:
            home.push(archive, f"{registry.address}/team/app:1.0")
            pushed(registry, "team/app", "1.0", image)
            # what is found for other repositories of the registry is not the old one either
            home.push(archive, f"{registry.address}/other:1.0")
        registry.faults.assert_all_fired()
        assert len([record for record in registry.requests(On.CHUNK) if record.status == 401]) == 1


def test_a_login_stored_while_a_worker_runs_is_used(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    with (
        FakeRegistry(DISTRIBUTION_3, credentials=LOGIN) as registry,
        Home(tmp_path / "home", docker_config=config) as home,
    ):
        registries = Registries(home.store, home.settings)
        with pytest.raises(CredentialsMissing):
            registries.client(registry.address, "team/app").blob_exists("team/app", sha256(b""))
        auth = base64.b64encode(":".join(LOGIN).encode()).decode()
        config.write_text(json.dumps({"auths": {registry.address: {"auth": auth}}}))
        assert not registries.client(registry.address, "team/app").blob_exists("team/app", sha256(b""))
        registries.close()


def test_tokens_for_pulling_only_end_the_job(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "image.tar", make_image(100))
    with (
        TokenServer(login=LOGIN) as tokens,
        FakeRegistry(DISTRIBUTION_3) as registry,
        Home(tmp_path / "home", username=LOGIN[0], password=LOGIN[1]) as home,
    ):
        tokens.allowed = lambda _, action: action == "pull"
        registry.faults.add(demand(tokens))
        job = home.enqueue(archive, f"{registry.address}/team/app:1.0")
        assert home.run().exit_code == 4
        assert home.state(job.id) == JobState.FAILED
        error = home.job(job.id).error
        assert error is not None
        assert error.code == "permission-denied"
        assert "repository:team/app:pull,push" in error.message


def test_token_server_that_is_ill_for_a_while(tmp_path: Path) -> None:
    image = make_image(100)
    archive = write_archive(tmp_path / "image.tar", image)
    with (
        TokenServer(login=LOGIN) as tokens,
        FakeRegistry(DISTRIBUTION_3) as registry,
        Home(tmp_path / "home", username=LOGIN[0], password=LOGIN[1]) as home,
    ):
        tokens.answers = [Reply(500), Reply(500), Reply(503, {"Retry-After": "0"})]
        registry.faults.add(demand(tokens))
        home.push(archive, f"{registry.address}/team/app:1.0")
        pushed(registry, "team/app", "1.0", image)
        told = [reason for _, _, reason in home.progress.of("waiting")]
        assert any("while asking for a token" in reason for reason in told)


def test_warnings_are_told_once(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "image.tar", make_image(3 * CHUNK, 100))

    class Warns(Action):
        def rewrite(self, exchange: Exchange, reply: Reply) -> Reply:
            reply.headers["Warning"] = '299 - "team/app is nearly \\"full\\""'
            return reply

    with FakeRegistry(DISTRIBUTION_3) as registry, Home(tmp_path / "home") as home:
        registry.faults.add(Fault(On.ANY, Warns(), times=None))
        home.push(archive, f"{registry.address}/team/app:1.0")
        assert home.progress.of("note") == [(f'{registry.address} says: team/app is nearly "full"',)]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"credsStore": "gone"}, "docker-credential-gone"),
        ({"auths": {"HOST": {"auth": "bm90aGluZw=="}}}, "is not base64 of user:password"),
        ([], "it is not a JSON object"),
    ],
)
def test_a_broken_place_for_logins_and_a_registry_that_wants_none(
    tmp_path: Path, config: object, words: str
) -> None:
    image = make_image(100)
    archive = write_archive(tmp_path / "image.tar", image)
    with FakeRegistry(DISTRIBUTION_3) as registry:
        file = tmp_path / "config.json"
        file.write_text(json.dumps(config).replace("HOST", registry.address))
        with Home(tmp_path / "home", docker_config=file) as home:
            assert home.push(archive, f"{registry.address}/team/app:1.0").state is JobState.SUCCEEDED
            pushed(registry, "team/app", "1.0", image)
            notes = [note for (note,) in home.progress.of("note")]
            assert len([n for n in notes if words in n and "is asked without a login" in n]) == 1


def test_a_broken_place_for_logins_and_a_registry_that_wants_one(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "image.tar", make_image(100))
    with FakeRegistry(DISTRIBUTION_3, credentials=LOGIN) as registry:
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"credsStore": "gone"}))
        with Home(tmp_path / "home", docker_config=file) as home:
            job = home.enqueue(archive, f"{registry.address}/team/app:1.0")
            assert home.run().exit_code == 4
            error = home.job(job.id).error
            assert error is not None
            assert error.code == "credential-helper-failed"
            assert "docker-credential-gone" in error.message

"""Where ``enqueue`` and ``push`` send an image, and that they say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Pusher
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import SERVERLESS, FakeRegistry
from tests.support.images import Image, make_image, write_archive


@pytest.fixture
def image() -> Image:
    return make_image(2_000, names=())


@pytest.fixture
def archive(tmp_path: Path, image: Image) -> Path:
    """The archive of an image that has no name."""
    return write_archive(tmp_path / "build.tar", image)


@pytest.fixture(autouse=True)
def _engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Image, archive: Path) -> None:
    """A Docker that has the image under every name."""
    engine = FakeEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(engine.folder))
    engine.has(image, archive)


def _destination(pusher: Pusher, *arguments: str) -> str:
    result = pusher("enqueue", "--json", *arguments)
    assert result.code == 0, result.err
    destination = json.loads(result.out)["destination"]
    assert f"-> {destination}, 1 layer." in result.err, "people are told too"
    return str(destination)


def test_to_a_registry_the_image_keeps_its_name(pusher: Pusher) -> None:
    ours = "registry.example.workers.dev"
    assert _destination(pusher, "app:1.2", "--to", ours) == f"{ours}/app:1.2"
    assert _destination(pusher, "app:1.2", "--to", f"{ours}/team/") == f"{ours}/team/app:1.2"
    assert _destination(pusher, "ghcr.io/team/app:1.2", "--to", ours) == f"{ours}/team/app:1.2"
    assert _destination(pusher, "docker-daemon:app:1.2", "--to", ours) == f"{ours}/app:1.2"


def test_the_default_registry_from_variable_and_file(
    pusher: Pusher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pusher.toml").write_text('registry = "filed.example/team"')
    monkeypatch.setenv("PUSHER_CONFIG", str(tmp_path / "pusher.toml"))
    assert _destination(pusher, "app:1.2") == "filed.example/team/app:1.2"
    monkeypatch.setenv("PUSHER_REGISTRY", "r.example:5000")
    assert _destination(pusher, "app:1.2") == "r.example:5000/app:1.2"
    assert _destination(pusher, "ghcr.io/team/app:1.2") == "ghcr.io/team/app:1.2"
    assert _destination(pusher, "app:1.2", "--to", "other.example") == "other.example/app:1.2"


def test_without_one_it_is_docker_hub_and_the_way_out_is_told(pusher: Pusher) -> None:
    note = "has no registry, so it goes to Docker Hub: docker.io/library/app:1.2. "
    result = pusher("enqueue", "app:1.2")
    assert result.err.splitlines()[0] == (
        f"app:1.2 {note}For another registry use --to registry.example.com, or set PUSHER_REGISTRY."
    )
    assert "Docker Hub" in pusher("enqueue", "other:1", "--to", "app:1.2").err
    for said in ("team/app:1.2", "docker.io/library/app:1.2", "library/app:1.2", "r.example/library/app:1"):
        assert "Docker Hub" not in pusher("enqueue", said).err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "--to registry.example.com/team/app:1.2"),
        (["--to", "r.example/team/"], "--to r.example/team/app:1.2"),
    ],
)
def test_an_archive_without_a_name_needs_a_whole_reference(
    pusher: Pusher, archive: Path, arguments: list[str], hint: str
) -> None:
    for command in ("enqueue", "push"):
        result = pusher(command, str(archive), *arguments)
        assert (result.code, result.out) == (2, "")
        assert result.err == (
            f"error: {archive} has no name to be pushed as\n  hint: pusher {command} {archive} {hint}\n"
        )


def test_the_default_registry_does_not_name_an_archive(
    pusher: Pusher, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHER_REGISTRY", "r.example")
    assert "--to r.example/app:1.2\n" in pusher("enqueue", str(archive)).err


def test_a_digest_is_no_destination(pusher: Pusher) -> None:
    digest = "sha256:" + "a" * 64
    result = pusher("enqueue", "app:1", "--to", f"r.example/app@{digest}")
    assert result.err == (
        f"error: r.example/app@{digest} ends in a digest, and an image is pushed to a tag\n"
        f"  hint: leave out @{digest}\n"
    )


def test_push_goes_there_with_the_login_of_that_registry(
    pusher: Pusher, monkeypatch: pytest.MonkeyPatch, image: Image
) -> None:
    with FakeRegistry(SERVERLESS, credentials=("bob", "hunter2")) as registry:
        monkeypatch.setenv("PUSHER_REGISTRY", f"{registry.address}/team")
        monkeypatch.setenv("PUSHER_USERNAME", "bob")
        monkeypatch.setenv("PUSHER_PASSWORD", "hunter2")
        for source in ("app:1.2", "docker-daemon:app:1.2"):
            result = pusher("push", source, "--progress", "lines")
            assert result.code == 0, result.err
            assert f"{source} -> {registry.address}/team/app:1.2" in result.err.splitlines()[0]
            assert result.out.startswith(f"{registry.address}/team/app@sha256:")
        assert "1.2" in registry.manifests["team/app"]


def test_the_user_name_of_a_registrys_table(
    pusher: Pusher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with FakeRegistry(SERVERLESS, credentials=("bob", "hunter2")) as registry:
        file = tmp_path / "pusher.toml"
        file.write_text(f'[registries."{registry.address}"]\nusername = "bob"')
        monkeypatch.setenv("PUSHER_CONFIG", str(file))
        monkeypatch.setenv("PUSHER_PASSWORD", "hunter2")
        result = pusher("push", "app:1.2", "--to", registry.address, "--progress", "none")
        assert result.code == 0, result.err
        monkeypatch.setenv("PUSHER_PASSWORD", "")
        result = pusher("push", "app:1.2", "--to", registry.address)
        assert (result.code, result.err.splitlines()[0]) == (4, "error: PUSHER_PASSWORD is empty")

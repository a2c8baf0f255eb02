"""What the doctor takes its argument for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pusher.doctor import parse_target
from pusher.doctor.target import RegistryTarget, Target, TargetKind, api_url
from pusher.errors import InvalidOption, ReferenceMalformed

HUB = "docker.io"


@pytest.mark.parametrize(
    ("text", "kind", "destination"),
    [
        ("registry.example.com", TargetKind.REGISTRY, RegistryTarget("registry.example.com")),
        ("registry.example.com/", TargetKind.REGISTRY, RegistryTarget("registry.example.com")),
        ("registry.example.com:443", TargetKind.REGISTRY, RegistryTarget("registry.example.com:443")),
        ("Registry.Example.com", TargetKind.REGISTRY, RegistryTarget("registry.example.com")),
        ("localhost", TargetKind.REGISTRY, RegistryTarget("localhost")),
        ("localhost:5000", TargetKind.REGISTRY, RegistryTarget("localhost:5000")),
        ("[::1]:5000", TargetKind.REGISTRY, RegistryTarget("[::1]:5000")),
        ("127.0.0.1:5000", TargetKind.REGISTRY, RegistryTarget("127.0.0.1:5000")),
        ("intranet:5000/", TargetKind.REGISTRY, RegistryTarget("intranet:5000")),
        ("localhost:5000/team/app", TargetKind.REPOSITORY, RegistryTarget("localhost:5000", "team/app")),
        ("intranet:5000/app", TargetKind.REPOSITORY, RegistryTarget("intranet:5000", "app")),
        ("localhost:5000/app:1.2", TargetKind.IMAGE, RegistryTarget("localhost:5000", "app", "1.2")),
        (
            "docker-daemon:localhost:5000/app:1",
            TargetKind.IMAGE,
            RegistryTarget("localhost:5000", "app", "1"),
        ),
        ("podman:localhost:5000/app:1", TargetKind.IMAGE, RegistryTarget("localhost:5000", "app", "1")),
        ("app:1.2", TargetKind.IMAGE, RegistryTarget(HUB, "library/app", "1.2")),
        ("app:5000", TargetKind.IMAGE, RegistryTarget(HUB, "library/app", "5000")),
        ("app.v2:1.2", TargetKind.IMAGE, RegistryTarget(HUB, "library/app.v2", "1.2")),
        ("team/app", TargetKind.IMAGE, RegistryTarget(HUB, "team/app", "latest")),
        ("nerdctl:localhost:5000/app:1", TargetKind.IMAGE, RegistryTarget("localhost:5000", "app", "1")),
        (
            "docker-storage:localhost:5000/app:1",
            TargetKind.IMAGE,
            RegistryTarget("localhost:5000", "app", "1"),
        ),
        (
            "containers-storage:[/mnt]r.example/app:1",
            TargetKind.IMAGE,
            RegistryTarget("r.example", "app", "1"),
        ),
        ("docker-storage:[vfs@/mnt:2]app:1", TargetKind.IMAGE, RegistryTarget(HUB, "library/app", "1")),
        ("oci:1.2", TargetKind.IMAGE, RegistryTarget(HUB, "library/oci", "1.2")),
    ],
)
def test_names(text: str, kind: TargetKind, destination: RegistryTarget) -> None:
    target = parse_target(text)
    assert (target.kind, target.destination(None)) == (kind, destination)
    assert target.has_image == (kind is TargetKind.IMAGE)


@pytest.mark.parametrize(
    ("text", "to", "default", "destination"),
    [
        ("app:1.2", None, "r.example/team", RegistryTarget("r.example", "team/app", "1.2")),
        ("app:1.2", "r.example", None, RegistryTarget("r.example", "app", "1.2")),
        ("app:1.2", "r.example/team/", None, RegistryTarget("r.example", "team/app", "1.2")),
        ("r.example", "s.example/app:1", None, RegistryTarget("s.example", "app", "1")),
        ("s.example/app:1", None, "r.example/team", RegistryTarget("s.example", "app", "1")),
    ],
)
def test_what_completes_a_name(
    text: str, to: str | None, default: str | None, destination: RegistryTarget
) -> None:
    target = parse_target(text, to=to, default=default)
    assert (target.kind, target.destination(None)) == (TargetKind.IMAGE, destination)


@pytest.mark.parametrize(
    "text",
    [
        *("{here}/image", "{here}", "missing.tar", "./missing", "oci:./missing", "oci:{here}/image:1.2"),
        *("docker-archive:anything:app:1", "oci-archive:app", "oci-archive:a.tar.gz:1", "dir:{here}"),
    ],
)
def test_files_and_folders(tmp_path: Path, text: str) -> None:
    (tmp_path / "image").write_bytes(b"")
    target = parse_target(text.format(here=tmp_path))
    assert target.kind is TargetKind.FILE
    assert target.has_image
    assert target.needs_file_name
    assert target.destination("r.example/app:1") == RegistryTarget("r.example", "app", "1")


@pytest.mark.parametrize("text", ["-", "docker-archive:-", "/dev/stdin"])
def test_pipes(text: str) -> None:
    target = parse_target(text, to="r.example/app:1")
    assert (target.kind, target.has_image, target.needs_file_name) == (TargetKind.PIPE, True, False)
    assert target.destination(None) == RegistryTarget("r.example", "app", "1")
    with pytest.raises(InvalidOption, match="has no name to be pushed as"):
        parse_target(text).destination(None)


def test_what_names_a_file() -> None:
    assert parse_target("a.tar", to="r.example/").needs_file_name
    assert not parse_target("a.tar", to="r.example/app:1").needs_file_name
    assert not parse_target("a.tar", to="r.example/APP").needs_file_name


def test_an_image_in_a_registry_goes_elsewhere() -> None:
    image = "docker://ghcr.io/team/app:1.2"
    target = parse_target(image, to="r.example/copies/")
    assert (target.kind, target.has_image, target.needs_file_name) == (TargetKind.REMOTE, True, False)
    assert target.destination(None) == RegistryTarget("r.example", "copies/team/app", "1.2")
    assert parse_target(image, to="r.example/b:2").destination(None) == RegistryTarget("r.example", "b", "2")
    with pytest.raises(InvalidOption) as nowhere:
        parse_target(image, default="r.example").destination(None)
    assert nowhere.value.hint == f"pusher doctor {image} --to r.example/app:1.2"


def test_an_image_in_a_registry_keeps_its_tag_where_a_digest_says_which() -> None:
    target = parse_target(f"docker://ghcr.io/team/app:1.2@sha256:{'a' * 64}", to="r.example/copies/")
    assert target.destination(None) == RegistryTarget("r.example", "copies/team/app", "1.2")


def test_nothing() -> None:
    assert parse_target(None, default="r.example") == Target(TargetKind.MACHINE, default="r.example")


def test_what_cannot_be_pushed_to() -> None:
    with pytest.raises(InvalidOption) as nameless:
        parse_target("a.tar", to="r.example/team/").destination(None)
    assert nameless.value.hint == "pusher doctor a.tar --to r.example/team/app:1.2"
    with pytest.raises(InvalidOption):
        parse_target("0123456789ab").destination(None)
    with pytest.raises(ReferenceMalformed) as digest:
        parse_target("r.example/app@sha256:" + "0" * 64).destination(None)
    assert "ends in a digest" in digest.value.message


@pytest.mark.parametrize(
    ("registry", "plain_http", "url"),
    [
        ("docker.io", False, "https://registry-1.docker.io/v2/"),
        ("r.example:5000", False, "https://r.example:5000/v2/"),
        ("r.example:5000", True, "http://r.example:5000/v2/"),
        ("localhost:5000", False, "http://localhost:5000/v2/"),
    ],
)
def test_where_the_api_is(registry: str, plain_http: bool, url: str) -> None:
    assert api_url(registry, plain_http=plain_http) == url

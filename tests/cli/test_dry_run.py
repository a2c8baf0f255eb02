"""``--dry-run``: what a push would do, by the registry's responses."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pusher.units import human_bytes
from tests.cli.conftest import Pusher
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.images import make_image, write_archive
from tests.support.layouts import Layout
from tests.support.storage import DockerRoot

READING = {"GET", "HEAD"}


def plans(pusher: Pusher, *arguments: str) -> list[dict[str, Any]]:
    result = pusher(*arguments, "--dry-run", "--json")
    assert result.code == 0
    return [json.loads(line) for line in result.out.splitlines()]


def actions(plan: dict[str, Any]) -> list[str]:
    return [blob["action"] for blob in plan["blobs"]]


def test_nothing_is_changed_here_or_there(
    pusher: Pusher, registry: FakeRegistry, home: Path, tmp_path: Path
) -> None:
    archive = str(write_archive(tmp_path / "app.tar", make_image(300, 400, names=("app:1",))))
    result = pusher("push", archive, "--to", registry.address, "--plain-http", "--dry-run")
    assert result.code == 0
    first, *blobs, last = result.out.splitlines()
    assert first == f"{archive} -> {registry.address}/app:1: the tag is new"
    assert [line.split("sha256:")[0].strip() for line in blobs] == 2 * ["compress and send"] + ["send"]
    assert last.startswith("  to send: ")
    size = human_bytes(Path(archive).stat().st_size)
    bound = f"(at most about {size} before compression)"
    assert last.endswith(f" and 2 layers that must be compressed first {bound}")
    assert result.err == "Nothing was changed: this was a dry run.\n"
    assert not home.exists()
    assert {record.method for record in registry.requests()} <= READING


def test_what_is_there_is_skipped(pusher: Pusher, registry: FakeRegistry, tmp_path: Path) -> None:
    image = make_image(300, 400, names=("app:1",))
    archive = str(write_archive(tmp_path / "app.tar", image))
    to = ("--to", registry.address, "--plain-http")
    assert pusher("push", archive, *to).code == 0
    (plan,) = plans(pusher, "push", archive, *to)
    assert (plan["tag"], plan["bytes_to_send"], actions(plan)) == ("current", 0, 3 * ["exists"])
    newer = str(write_archive(tmp_path / "newer.tar", make_image(300, 400, 500, names=("app:1",))))
    (plan,) = plans(pusher, "enqueue", newer, *to)
    assert (plan["tag"], actions(plan)) == ("other", ["exists", "exists", "compress", "send"])
    (plan,) = plans(pusher, "push", archive, "--to", f"{registry.address}/other:2", "--plain-http")
    assert plan["tag"] == "new"
    assert {blob["mount_from"] for blob in plan["blobs"]} == {"app"}


def test_an_image_that_was_pushed_from_elsewhere(
    pusher: Pusher, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = str(write_archive(tmp_path / "app.tar", make_image(300, 400, names=("app:1",))))
    to = ("--to", registry.address, "--plain-http")
    assert pusher("push", archive, *to).code == 0
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("PUSHER_HOME", str(tmp_path / "elsewhere"))
        result = pusher("push", archive, *to, "--dry-run")
        (plan,) = plans(pusher, "push", archive, *to)
    assert result.out.splitlines()[0] == (
        f"{archive} -> {registry.address}/app:1: "
        "the tag names an image with the same config, perhaps with other blobs of its layers"
    )
    assert (plan["tag"], actions(plan)) == ("same_config", ["compress", "compress", "exists"])
    # all blobs are known, and the manifest lists others
    assert pusher("push", archive, *to, "--compression", "zstd").code == 0
    (plan,) = plans(pusher, "push", archive, *to, "--compression", "gzip")
    assert (plan["tag"], actions(plan)) == ("same_config", 3 * ["exists"])
    other = str(write_archive(tmp_path / "other.tar", make_image(300, 401, names=("app:1",))))
    (plan,) = plans(pusher, "push", other, *to)
    assert plan["tag"] == "other"


def test_an_image_whose_config_docker_only_exports(
    pusher: Pusher, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_image(300, 400, names=("app:1",))
    docker = FakeEngine(tmp_path / "bin")
    docker.has(image, write_archive(tmp_path / "app.tar", image))
    described = docker.folder / "docker-inspect.json"
    docker.on("inspect", f'case "$*" in *.Size*) echo 700;; *) /bin/cat {described};; esac')
    monkeypatch.setenv("PATH", str(docker.folder))
    push = ("push", "docker-daemon:app:1", "--to", registry.address, "--plain-http")
    result = pusher(*push, "--dry-run")
    assert result.out.splitlines()[3:] == [
        f"  send  {image.config_digest}",
        (
            "  to send: the image config and 2 layers that must be compressed first "
            "(at most about 700 B before compression)"
        ),
    ]
    (plan,) = plans(pusher, *push)
    assert plan["uncompressed_bytes"] == 700
    assert pusher(*push).code == 0
    (plan,) = plans(pusher, *push)
    assert (plan["tag"], plan["bytes_to_send"], actions(plan)) == ("current", 0, 3 * ["exists"])
    assert [blob["digest"] for blob in plan["blobs"]][2] == image.config_digest
    assert "uncompressed_bytes" not in plan


def test_a_layer_on_dockers_disk_has_a_size_of_its_own(
    pusher: Pusher, registry: FakeRegistry, tmp_path: Path
) -> None:
    image = make_image(300, 400, 500, names=("app:1",))
    base = write_archive(tmp_path / "base.tar", make_image(300, names=("app:0",)))
    assert pusher("push", str(base), "--to", registry.address, "--plain-http").code == 0
    disk = DockerRoot(tmp_path / "docker")
    disk.add(image)
    (plan,) = plans(pusher, "push", disk.source("app:1"), "--to", registry.address, "--plain-http")
    assert actions(plan) == ["exists", "compress", "compress", "send"]
    assert plan["uncompressed_bytes"] == sum(len(layer.tar) for layer in image.layers[1:])


def test_the_size_of_a_compressed_archive_says_nothing_of_its_layers(
    pusher: Pusher, registry: FakeRegistry, tmp_path: Path
) -> None:
    plain = write_archive(tmp_path / "app.tar", make_image(300, 400, names=("app:1",)))
    archive = tmp_path / "app.tar.gz"
    archive.write_bytes(gzip.compress(plain.read_bytes()))
    result = pusher("push", str(archive), "--to", registry.address, "--plain-http", "--dry-run")
    assert result.out.endswith(" and 2 layers that must be compressed first\n")


def test_a_blob_of_two_images_is_sent_once(pusher: Pusher, registry: FakeRegistry, tmp_path: Path) -> None:
    layout = Layout()
    for tag, sizes in (("1", (300, 400)), ("2", (300, 400, 500))):
        layout.add(layout.image(make_image(*sizes)), tag)
    layout.write_folder(tmp_path / "layout")
    first, second = plans(
        pusher,
        "push",
        f"oci:{tmp_path}/layout",
        "--all-tags",
        "--to",
        f"{registry.address}/app",
        "--plain-http",
    )
    assert set(actions(first)) == {"send"}
    assert sorted(actions(second)) == ["exists", "exists", "send", "send"]
    assert first["bytes_to_send"] == sum(blob["size"] for blob in first["blobs"])


def test_a_blob_that_another_image_sends_is_mounted(
    pusher: Pusher, registry: FakeRegistry, tmp_path: Path
) -> None:
    archives = [
        str(write_archive(tmp_path / f"{name}.tar", make_image(*sizes, names=(f"{name}:1",))))
        for name, sizes in (("api", (300, 400)), ("web", (300, 400, 500)))
    ]
    first, second = plans(pusher, "push", *archives, "--to", registry.address, "--plain-http")
    assert actions(first) == ["compress", "compress", "send"]
    assert actions(second) == ["mount", "mount", "compress", "send"]
    assert [blob["mount_from"] for blob in second["blobs"]] == ["api", "api", None, None]


def test_an_error_of_the_registry_and_a_pipe(pusher: Pusher, tmp_path: Path) -> None:
    archive = str(write_archive(tmp_path / "app.tar", make_image(300, names=("app:1",))))
    with FakeRegistry(DISTRIBUTION_3, credentials=("bob", "pw")) as registry:
        result = pusher("push", archive, "--to", registry.address, "--plain-http", "--dry-run")
    assert (result.code, result.out) == (4, "")
    result = pusher("push", "-", "--to", "r.example", "--dry-run")
    assert result.code == 2
    assert result.err.startswith("error: --dry-run cannot read -: ")

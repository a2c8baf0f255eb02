"""Split images in a real registry, unpacked by umoci, Podman and Docker: file for file what the image was."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Docker, Engine, Podman
from tests.support.home import Home
from tests.support.images import Image, Layer, random_bytes, write_archive
from tests.support.real import ReadBack, require
from tests.support.tars import Member, entry, file, folder, layer, link

MIB: Final = 1 << 20
_XATTR: Final = {"SCHILY.xattr.user.note": "kept"}


def _noise(name: str, seed: int, **values: Any) -> Member:
    return entry(name, random_bytes(300_000, seed, compressible=0), **values)


def _many(where: str, count: int, seed: int) -> list[Member]:
    return [_noise(f"{where}/{n}", n, mtime=1_500_000_000 + n) for n in range(seed, seed + count)]


def make_odd_image() -> Image:
    """A base, and on it a layer of 6 MiB with all that is hard to split. Every folder has its entry."""
    base = layer(
        folder("etc", mode=0o750, mtime=1000),
        file("etc/old", 100),
        file("etc/changed", 100),
        folder("cache", mtime=2000),
        file("cache/a", 10),
        folder("cache/deep", mtime=2100),
        file("cache/deep/b", 10),
        folder("replaced", mtime=2200),
        file("replaced/below", 10),
        folder("kept", mode=0o711, uid=3, mtime=2300),
        file("kept/file", 100),
    )
    big = layer(
        folder("./", mode=0o755, mtime=900),
        folder("data", mode=0o2775, uid=12, gid=34, mtime=3000.25, pax_headers=_XATTR),
        _noise("data/target", 1, mode=0o4711, uid=5, pax_headers=_XATTR),
        *_many("data", 8, 100),
        folder("etc", mode=0o700, mtime=1001),
        file("etc/changed", 200, mtime=5),
        entry("etc/.wh.old"),
        folder("cache", mode=0o1777, mtime=2001),
        *_many("cache", 6, 200),
        entry("cache/.wh..wh..opq"),
        file("replaced", 30),
        folder("links", mtime=4000),
        link("links/early", "data/target"),
        link("links/late", "cache/203"),
        entry("links/symbolic", kind=tarfile.SYMTYPE, linkname="../data/target", mtime=7),
        entry("links/fifo", kind=tarfile.FIFOTYPE, mode=0o620, mtime=8),
        folder("kept", mode=0o711, uid=3, mtime=2301),
        file("kept/größe-" + "x" * 150, 20),
        _noise("kept/last", 300),
        *_many("data", 3, 108),
        folder("data/sub", mode=0o555, mtime=3333),
        link("data/sub/again", "links/early"),
    )
    return Image((Layer(base), Layer(big)), ("registry.example.com/odd:1",))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home", chunk_size=MIB // 2) as home:
        yield home


@pytest.fixture
def images(home: Home, docker_registry: DockerRegistry, tmp_path: Path) -> tuple[str, str]:
    """The odd image at the registry, as it is and split."""
    archive = write_archive(tmp_path / "odd.tar", make_odd_image())
    told: list[str] = []
    names = (f"{docker_registry.address}/split/whole:1", f"{docker_registry.address}/split/parts:1")
    home.push(archive, names[0])
    home.push(archive, names[1], split_layers=MIB, note=told.append)
    assert any("becomes 7 layers" in text for text in told), told
    home.assert_clean()
    return names


def facts(root: Path) -> dict[str, tuple[object, ...]]:
    """All that can be seen of the files below a folder; hard links by the paths that they are."""
    found: dict[str, tuple[object, ...]] = {}
    paths: dict[int, list[str]] = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        name = str(path.relative_to(root))
        if not stat.S_ISDIR(status.st_mode):
            paths.setdefault(status.st_ino, []).append(name)
        content = ""
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = str(path.readlink())
        xattrs = [(key, os.getxattr(path, key, follow_symlinks=False)) for key in _xattrs(path)]
        found[name] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            status.st_rdev,
            content,
            xattrs,
            paths.get(status.st_ino),
        )
    return found


def _xattrs(path: Path) -> list[str]:
    return [key for key in os.listxattr(path, follow_symlinks=False) if key.startswith("user.")]


def assert_same(whole: dict[str, tuple[object, ...]], parts: dict[str, tuple[object, ...]]) -> None:
    assert len(whole) > 30
    assert "links/late" in whole
    assert not any(".wh." in name or name in ("etc/old", "cache/a", "replaced/below") for name in whole)
    assert {name for name in {*whole, *parts} if whole.get(name) != parts.get(name)} == set()


def test_the_registry_has_no_blob_that_is_too_large(images: tuple[str, str], read_back: ReadBack) -> None:
    whole, parts = (read_back(image) for image in images)
    assert [len(whole.layers), len(parts.layers)] == [2, 8]
    assert max(layer.size for layer in whole.layers) > 5 * MIB
    assert max(layer.size for layer in parts.layers) <= MIB
    assert parts.layers[0] == whole.layers[0], "what is small enough stays what it is"


def test_umoci_unpacks_the_same(images: tuple[str, str], tmp_path: Path) -> None:
    require("umoci", "skopeo", root=True)

    def unpacked(image: str, name: str) -> Path:
        layout, bundle = tmp_path / f"layout-{name}", tmp_path / f"bundle-{name}"
        _run("skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{image}", f"oci:{layout}:1")
        _run("umoci", "unpack", "--image", f"{layout}:1", str(bundle))
        return bundle / "rootfs"

    assert_same(*(facts(unpacked(image, str(n))) for n, image in enumerate(images)))


def test_podman_unpacks_the_same(images: tuple[str, str], podman: Podman) -> None:
    def mounted(image: str) -> dict[str, tuple[object, ...]]:
        podman.run("pull", "--quiet", "--tls-verify=false", image)
        found = facts(Path(podman.run("image", "mount", image).strip()))
        del found["."]  # Podman leaves the root the time at which it was unpacked
        return found

    assert_same(*(mounted(image) for image in images))


def test_docker_unpacks_the_same(images: tuple[str, str], dockerd: Docker, tmp_path: Path) -> None:
    """Its overlay2 driver unpacks every layer into a folder of its own."""

    def exported(image: str, name: str) -> dict[str, tuple[object, ...]]:
        dockerd.run("pull", "--quiet", image)
        container = dockerd.run("create", "--network", "none", image, "/none").strip()
        path = tmp_path / f"{name}.tar"
        dockerd.run("export", "--output", str(path), container)
        dockerd.run("rm", container)
        return _described(path)

    assert_same(*(exported(image, str(n)) for n, image in enumerate(images)))


@pytest.mark.parametrize("command", ["docker", "podman"])
def test_straight_from_an_engine(
    home: Home,
    docker_registry: DockerRegistry,
    read_back: ReadBack,
    request: pytest.FixtureRequest,
    command: str,
) -> None:
    engine: Engine = request.getfixturevalue({"docker": "dockerd", "podman": "podman"}[command])
    files = {f"data/{n}": random_bytes(300_000, n, compressible=0) for n in range(8)}
    engine.build("localhost/split:1", files, "FROM scratch\nCOPY data /data\n")
    to = f"{docker_registry.address}/split/{command}:1"
    image = "localhost/split:1" if command == "docker" else "podman:localhost/split:1"
    home.push(image, to, split_layers=MIB)
    read = read_back(to)
    assert [layer.diff_id for layer in read.layers] == read.config_diff_ids
    assert len(read.layers) == 3
    engine.run("pull", "--quiet", *(["--tls-verify=false"] if command == "podman" else []), to)
    assert engine.image_id(to) == read.config_digest
    home.assert_clean()


def _described(path: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name in _DOCKERS_OWN or member.name.startswith(
                ("dev/", "etc/host", "etc/resolv", "etc/mtab")
            ):
                continue
            data = tar.extractfile(member) if member.isreg() else None
            content = data.read() if data else b""
            found[member.name] = (
                member.type,
                member.mode,
                member.uid,
                member.gid,
                member.mtime,
                member.linkname,
                content,
                {key: value for key, value in member.pax_headers.items() if "xattr" in key},
            )
    return found


_DOCKERS_OWN: Final = (".dockerenv", "dev", "proc", "sys", "etc")
"""What `docker create` adds to a container's own layer, or changes there."""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stderr}"

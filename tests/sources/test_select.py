"""IMAGE as typed: which source is meant."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest

from pusher.errors import (
    ArchiveInvalid,
    EngineMissing,
    EngineNotRunning,
    ImageNotFound,
    ImageUnsupported,
    PusherError,
    ReferenceMalformed,
    SourceError,
)
from pusher.sources import find, mention_path, reopen
from pusher.sources.archive.docker_archive import ArchiveSource
from pusher.sources.engine.save import EngineSource
from pusher.sources.image_names import did_you_mean, is_image_id, nearest, normalize_name
from tests.support.fake_engine import FakeEngine
from tests.support.images import make_image, write_archive
from tests.support.layouts import Layout, manifest_json, two_platforms

IMAGE = make_image(1000)
NAME = IMAGE.names[0]


def engine_of(image: str) -> tuple[str, str]:
    source, name = find(image)
    assert isinstance(source, EngineSource)
    assert name == source.name
    return source.engine.command, source.name


def archive_of(image: str) -> tuple[str, str | None]:
    source, name = find(image)
    assert isinstance(source, ArchiveSource)
    assert name == NAME
    return str(source.path), source.name


@pytest.mark.parametrize("name", ["app", "app:1", NAME, "localhost:5000/a/b", "app@sha256:" + "0" * 64])
def test_names_are_docker_images(docker: FakeEngine, podman: FakeEngine, name: str) -> None:
    assert engine_of(name) == ("docker", name)
    assert engine_of(f"docker-daemon:{name}") == ("docker", name)
    assert engine_of(f"podman:{name}") == ("podman", name)


def test_names_are_podman_images_where_only_podman_is(podman: FakeEngine) -> None:
    assert engine_of("app:1") == ("podman", "app:1")


def test_every_engine_has_its_prefix(docker: FakeEngine) -> None:
    for prefix, command in (("docker-daemon", "docker"), ("podman", "podman"), ("nerdctl", "nerdctl")):
        assert engine_of(f"{prefix}:app:1") == (command, "app:1")


def test_names_are_docker_images_where_nothing_is(path_folder: Path) -> None:
    assert engine_of("app:1") == ("docker", "app:1")


@pytest.mark.parametrize(
    "file", ["a.tar", "folder/a.tar", "Image", "folder/saved", "with:colon.tar", "app.1.tar"]
)
def test_files_are_archives(
    docker: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    path = write_archive(tmp_path / file, IMAGE)
    assert archive_of(file) == (str(path), None)
    assert archive_of(str(path)) == (str(path), None)
    assert archive_of(f"./{file}") == (str(path), None)
    assert archive_of(f"docker-archive:{file}") == (str(path), None)
    assert archive_of(f"docker-archive:{path}:{NAME}") == (str(path), NAME)


def test_a_file_called_like_an_image_is_an_image(
    docker: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_archive(tmp_path / "app", IMAGE)
    assert engine_of("app") == ("docker", "app")


@pytest.mark.parametrize("kind", ["oci", "dir"])
@pytest.mark.parametrize("name", ["app", "oci", "podman"])
def test_a_folder_with_an_image_is_a_path_whatever_it_is_called(
    docker: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    layout = Layout()
    root = layout.add(layout.image(IMAGE), NAME)
    if kind == "oci":
        layout.write_folder(tmp_path / name)
    else:
        layout.write_dir(tmp_path / name, root)
    assert find(name)[0].resolve().pin.kind == kind
    assert docker.calls() == []


@pytest.mark.parametrize("file", ["manifest.json", "index.json", "version"])
def test_a_folder_of_another_kind_is_none(
    docker: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """As many a web application has, beside an image of its name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / file).write_text("{}")
    assert engine_of("app") == ("docker", "app")


@pytest.mark.parametrize(
    "image", ["missing.tar", "./missing", "/none/at/all", "docker-archive:missing.tar:app:1"]
)
def test_what_is_written_like_a_file_is_one(docker: FakeEngine, image: str) -> None:
    with pytest.raises(ImageNotFound, match="there is no file"):
        find(image)
    assert docker.calls() == []


def test_a_name_too_long_for_a_file_is_an_image(docker: FakeEngine) -> None:
    assert engine_of("a" * 5000)[0] == "docker"


def test_a_folder_is_not_read_as_an_archive(docker: FakeEngine, tmp_path: Path) -> None:
    with pytest.raises(ArchiveInvalid, match="folder"):
        find(f"docker-archive:{tmp_path}")


def test_the_home_folder(docker: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write_archive(tmp_path / "a.tar", IMAGE)
    for image in ("~/a.tar", "docker-archive:~/a.tar"):
        assert archive_of(image) == (str(path), None)


@pytest.mark.parametrize("image", ["ostree:a/b", "sif:a.sif", "tarball:a.tar", "containerd:a"])
def test_sources_of_other_tools_are_named(docker: FakeEngine, image: str) -> None:
    with pytest.raises(ImageUnsupported) as caught:
        find(image)
    assert image.partition(":")[0] in caught.value.message
    for prefix in ("docker-archive:", "nerdctl:", "oci:", "dir:", "containers-storage:"):
        assert prefix in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "ending"),
    [("oci", ""), ("oci-archive", ".tar"), ("oci-archive", ".tgz"), ("dir", ""), ("docker-archive", ".img")],
)
def test_what_lies_at_a_path_is_recognised(
    docker: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, ending: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    path = tmp_path / f"sub/Image{ending}"
    layout = Layout()
    root = layout.add(layout.image(IMAGE), NAME)
    if kind == "oci":
        layout.write_folder(path)
    elif kind == "dir":
        layout.write_dir(path, root)
    else:
        layout.write_archive(path, *([manifest_json(IMAGE)] if kind == "docker-archive" else []))
    if ending == ".tgz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    for image in (f"sub/Image{ending}", str(path), f"{kind}:sub/Image{ending}", f"{kind}:{path}"):
        source, name = find(image)
        found = source.resolve()
        assert found.pin.kind == kind
        assert found.pin.to_json()["path"] == str(path)
        assert name == (None if kind == "dir" else NAME)
        assert [document.digest for document in found.documents] == [root["digest"]]


def test_a_folder_with_both_is_a_layout(docker: FakeEngine, tmp_path: Path) -> None:
    """Docker 25 and later save such, and somebody unpacked it."""
    layout = Layout()
    root = layout.add(layout.image(IMAGE), NAME)
    path = layout.write_folder(tmp_path / "unpacked")
    (path / "manifest.json").write_bytes(manifest_json(IMAGE).data or b"")
    assert find(str(path))[0].resolve().documents[0].digest == root["digest"]


@pytest.mark.parametrize("kind", ["oci", "dir"])
def test_a_folder_here_goes_before_an_image_of_that_name(
    docker: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    layout = Layout()
    root = layout.add(layout.image(IMAGE), NAME)
    if kind == "oci":
        layout.write_folder(tmp_path / "app")
    else:
        layout.write_dir(tmp_path / "app", root)
    assert find(f"{kind}:app")[0].resolve().pin.kind == kind
    assert engine_of(f"{kind}:other") == ("docker", f"{kind}:other")


@pytest.mark.parametrize("image", ["docker:27", "oci:1.2", "dir:latest"])
def test_images_called_like_other_tools_sources_are_images(docker: FakeEngine, image: str) -> None:
    assert engine_of(image) == ("docker", image)


@pytest.mark.parametrize("image", ["", "docker-daemon:", "podman:", "docker-archive:"])
def test_nothing_typed_is_no_image(docker: FakeEngine, image: str) -> None:
    with pytest.raises(ReferenceMalformed) as caught:
        find(image)
    assert "podman:app:1.2" in caught.value.hint
    assert docker.calls() == []


def test_every_kind_can_be_opened_again(docker: FakeEngine, podman: FakeEngine, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", IMAGE)
    docker.has(IMAGE, path)
    podman.has(IMAGE, path)
    for image in ("app", "podman:app", f"docker-archive:{path}"):
        source = find(image)[0]
        first = source.resolve()
        again = reopen(first.pin)
        assert type(again) is type(source)
        assert again.resolve() == first


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("app", "app:latest"),
        ("docker.io/library/app:1", "app:1"),
        ("index.docker.io/team/app", "team/app:latest"),
        ("library/app", "app:latest"),
        ("localhost/app:1", "app:1"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("registry.example.com/docker.io/app:1", "registry.example.com/docker.io/app:1"),
        ("app@sha256:1", "app@sha256:1"),
    ],
)
def test_normalized(name: str, short: str) -> None:
    assert normalize_name(name) == short


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a" * 12, True),
        ("a" * 64, True),
        ("sha256:" + "0" * 64, True),
        ("a" * 11, False),
        ("a" * 65, False),
        ("g" * 12, False),
    ],
)
def test_image_ids(text: str, expected: bool) -> None:
    assert is_image_id(text) is expected


def test_nearest_names() -> None:
    known = ["docker.io/library/web:1", "registry.example.com/team/app:1.2", "db:9"]
    assert nearest("wbe:1", known) == ["docker.io/library/web:1"]
    assert nearest("app", known) == ["registry.example.com/team/app:1.2"]
    assert nearest("something-else", known) == []


def test_hints_for_names() -> None:
    assert did_you_mean("web:2", ["web:1"]) == "did you mean web:1?"
    assert "a:1, b:1" in did_you_mean("zzz", ["b:1", "a:1"])
    assert "and others" in did_you_mean("zzz", [f"{letter}:1" for letter in "abcdef"])
    assert did_you_mean("zzz", []) == "it contains no named image"


@pytest.mark.parametrize(
    "image",
    [
        "~x.tar",
        "~nobody-here/x.tar",
        "oci:~nobody-here/x",
        "oci:./~x",
        "dir:~nobody-here",
        "docker-archive:~x:y",
    ],
)
def test_a_name_may_begin_with_a_tilde(image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a shell: the home folder of a user that there is, else the name itself."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageNotFound, match="~"):
        find(image)[0].resolve()
    written = write_archive(tmp_path / "~x.tar", IMAGE) if "x.tar" in image else None
    if written is not None and image == "~x.tar":
        assert find(image)[0].resolve().config == IMAGE.config
    monkeypatch.setenv("HOME", str(tmp_path))
    write_archive(tmp_path / "own.tar", IMAGE)
    assert find("~/own.tar")[0].resolve().config == IMAGE.config


@pytest.mark.parametrize(
    "image",
    ["{}", "{}.tar", "oci:{}", "oci-archive:{}:app", "dir:{}", "docker-archive:{}", "docker-storage:[{}]app"],
)
def test_names_that_are_too_long_for_any_file(image: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        find(image.format(f"{tmp_path}/{300 * 'a'}"))[0].resolve()


@pytest.mark.parametrize(
    ("image", "words", "hint"),
    [
        (
            "https://x.example/app.tar",
            "does not download from https://",
            "curl -fL https://x.example/app.tar |",
        ),
        ("file:///tmp/a b.tar", "is a URL, not a path", "use: '/tmp/a b.tar'"),
        ("file:///tmp/a%20b.tar", "is a URL, not a path", "use: '/tmp/a b.tar'"),
        ("file://localhost/tmp/a.tar", "is a URL, not a path", "use: /tmp/a.tar"),
        ("file://a.tar", "is a URL, not a path", "use: a.tar"),
        ("file://build/a", "is a URL, not a path", "use: ./build/a"),
        ("file:./a.tar", "is a URL, not a path", "use: ./a.tar"),
        ("file:/tmp/a.tar", "is a URL, not a path", "use: /tmp/a.tar"),
        ("oci://layout", "oci: is written without //", "did you mean oci:layout?"),
        ("s3://bucket/app.tar", "cannot read images from s3://", "docker-archive:"),
        ("docker-archve:app.tar", "unknown prefix docker-archve:", "docker-archive:app.tar?"),
        ("oci-archiv:./app.tar", "unknown prefix oci-archiv:", "oci-archive:./app.tar?"),
        ("docker-deamon:app:1", "unknown prefix docker-deamon:", "docker-daemon:app:1?"),
    ],
)
def test_addresses_and_mistyped_prefixes(image: str, words: str, hint: str) -> None:
    with pytest.raises(PusherError, match=words) as caught:
        find(image)
    assert hint in caught.value.hint


def test_a_name_behind_a_path_needs_a_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layout, _ = two_platforms()
    layout.write_folder(tmp_path / "layout")
    digest = layout.listed[0]["digest"]
    write_archive(tmp_path / "f.tar", make_image(10, names=("app:1",)))
    for image, meant in (
        ("./layout:v1", "oci:./layout:v1"),
        ("f.tar:app:1", "docker-archive:f.tar:app:1"),
        (f"{tmp_path}/f.tar:app:1", f"docker-archive:{tmp_path}/f.tar:app:1"),
        (f"./layout@{digest}", f"oci:./layout:@{digest}"),
        (f"layout@{digest}", f"oci:layout:@{digest}"),
    ):
        with pytest.raises(PusherError, match="an image inside a file or folder needs a prefix") as caught:
            find(image)
        assert caught.value.hint == f"use: {meant}"
    assert find("docker-archive:f.tar:app:1")[1] == "app:1"
    for image in (f"oci:layout@{digest}", f"oci:./layout@{digest}"):
        with pytest.raises(PusherError, match="has no colon before the digest") as caught:
            find(image)
        assert caught.value.hint == f"use: oci:layout:@{digest}"


@pytest.mark.parametrize("image", ["app:1.2", "team/app:1.2", "localhost:5000/app:1", "out/app:1"])
def test_a_folder_or_program_of_an_images_name_is_none(
    docker: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    """As most projects have: their sources, and what is built of them."""
    monkeypatch.chdir(tmp_path)
    for folder in ("app", "team/app", "localhost", "out"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "out/app").write_bytes(b"\x7fELF")
    assert engine_of(image) == ("docker", image)


@pytest.mark.parametrize(
    ("image", "words", "hint"),
    [
        ("docker-archive:{}/layout", "is an OCI layout, not an archive file", "use: oci:{}/layout"),
        ("oci-archive:{}/layout", "is an OCI layout, not an archive file", "use: oci:{}/layout"),
        ("dir:{}/layout", "is an OCI layout, and dir: means a folder that", "use: oci:{}/layout"),
        ("docker-archive:{}/copied", "is a folder that skopeo wrote with dir:", "use: dir:{}/copied"),
        ("oci:{}/copied", "is a folder that skopeo wrote with dir:, and oci: means", "use: dir:{}/copied"),
        ("{}/above", "is not an image, but the folder layout in it is", "use: oci:{}/above/layout"),
        ("oci:{}/above", "is not an image, but the folder layout in it is", "use: oci:{}/above/layout"),
        ("dir:{}/above", "is not an image, but the folder layout in it is", "use: oci:{}/above/layout"),
        (
            "oci:{}/unpacked",
            "is an unpacked docker-archive",
            "pack it again: tar -C {}/unpacked -cf app.tar .",
        ),
        ("{}/empty", "is a folder without an image", "push an OCI layout, a folder"),
        ("oci:{}/empty", "is not an OCI layout: it has no index.json", "skopeo copy SOURCE oci:PATH:TAG"),
        ("dir:{}/empty", "it has no manifest.json", "skopeo copy SOURCE dir:PATH writes one"),
    ],
)
def test_a_folder_that_is_another_kind_of_image(tmp_path: Path, image: str, words: str, hint: str) -> None:
    layout, _ = two_platforms()
    layout.write_folder(tmp_path / "layout")
    layout.write_folder(tmp_path / "above/layout")
    layout.write_dir(tmp_path / "copied", layout.listed[0])
    for folder in ("empty", "unpacked", "above/sources"):
        (tmp_path / folder).mkdir()
    (tmp_path / "unpacked/manifest.json").write_text("[]")
    with pytest.raises(PusherError, match=words) as caught:
        find(image.format(tmp_path))[0].resolve()
    assert hint.format(tmp_path) in caught.value.hint


@pytest.mark.parametrize(
    ("image", "meant"),
    [
        ("noext", "./noext"),
        ("oci-app", "./oci-app"),
        ("a:1", "./a:1"),
        ("noext:app", "docker-archive:./noext:app"),
        ("above", "oci:./above/layout"),
        ("sources", None),
        ("nosuch", None),
        ("program", None),
        ("podman:noext", None),
    ],
)
def test_a_file_that_is_called_like_the_image_is_mentioned(
    docker: FakeEngine, podman: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str,
    meant: str | None,
) -> None:  # fmt: skip
    """Where the engine has no such image, or does not answer."""
    monkeypatch.chdir(tmp_path)
    for name in ("noext", "oci-app", "a:1"):
        write_archive(Path(name), IMAGE)
    two_platforms()[0].write_folder(tmp_path / "above/layout")
    Path("sources").mkdir()
    Path("program").write_bytes(b"\x7fELF")
    for error in (
        ImageNotFound("Docker has no such image", hint="look"),
        EngineNotRunning("Docker does not answer", hint="look"),
        EngineMissing("the docker command is not installed", hint="look"),
    ):
        mention_path(image, error)
        assert error.hint.partition("\n")[0] == "look"
        assert error.hint.endswith(f" is meant, use: {meant}") == (meant is not None)
    other = ReferenceMalformed("not a name", hint="look")
    mention_path(image, other)
    assert other.hint == "look"


def test_a_file_with_an_odd_name_is_found_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "a" + "_-" * 100 + "!"
    write_archive(Path(name), IMAGE)
    begun = time.monotonic()
    assert isinstance(find(name)[0], ArchiveSource)
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("image", "hint"),
    [
        ("tar:a.tar", "did you mean docker-archive:a.tar?"),
        ("archive:a.tar", "did you mean docker-archive:a.tar?"),
        ("ocidir://layout", "did you mean oci:layout?"),
        ("oci-layout://layout", "did you mean oci:layout?"),
        ("DOCKER-ARCHIVE:a.tar", "did you mean docker-archive:a.tar?"),
        ("a.tar@0", "use: docker-archive:a.tar:@0"),
        ("oci:a.tar", "use: docker-archive:a.tar"),
        ("dir:a.tar", "use: docker-archive:a.tar"),
        ("oci:-", "write oci-archive:- or docker-archive:-"),
    ],
)
def test_what_other_tools_call_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_archive(Path("a.tar"), make_image(100))
    with pytest.raises(PusherError) as caught:
        find(image)[0].resolve()
    assert caught.value.hint == hint

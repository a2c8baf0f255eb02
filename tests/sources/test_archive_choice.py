"""Which image of a docker-archive is meant, told apart by names, digests, numbers or platforms alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.errors import ImageAmbiguous, ImageNotFound
from pusher.oci.platform import Platform
from pusher.sources import find, reopen
from pusher.sources.base import EVERYTHING, Choice, SourceImage
from tests.support.images import Entry, Image, Shape, make_image, sha256, write_archive, write_tar
from tests.support.layouts import Descriptor, Layout, on
from tests.support.pins import stored

IMAGE = make_image(300, 200, names=())


def entry(config: str, layers: list[Descriptor], *names: str) -> dict[str, object]:
    paths = [f"blobs/sha256/{layer['digest'].removeprefix('sha256:')}" for layer in layers]
    return {"Config": f"blobs/sha256/{config[7:]}", "RepoTags": list(names) or None, "Layers": paths}


def written(layout: Layout, path: Path, *described: dict[str, object]) -> Path:
    return layout.write_archive(path, Entry("manifest.json", json.dumps(described).encode()))


def named(descriptor: Descriptor, name: str, *, whole: bool = True) -> Descriptor:
    """An entry of index.json, as Docker writes its names, or as the OCI does."""
    tag = {"org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    full = {"io.containerd.image.name": f"docker.io/library/{name}"} if whole else {}
    return {**descriptor, "annotations": {**full, **tag}}


def resolved(image: str, choice: Choice = EVERYTHING) -> tuple[SourceImage, str | None]:
    source, name = find(image, choice)
    found = source.resolve()
    assert reopen(stored(found.pin)).resolve() == found
    return found, name


def root(image: str, choice: Choice = EVERYTHING) -> str:
    found, _ = resolved(image, choice)
    assert found.root is not None
    return found.root.digest


def layers_of(layout: Layout, manifest: Descriptor) -> list[Descriptor]:
    listed: list[Descriptor] = json.loads(layout.blobs[manifest["digest"]])["layers"]
    return listed


@pytest.fixture(params=[True, False], ids=["whole names", "tags"])
def two_compressions(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, str, str]:
    """One config over layers compressed in two ways, each under a name of its own."""
    layout = Layout()
    gzip, zstd = layout.image(IMAGE), layout.image(IMAGE, zstd=True)
    layout.listed = [
        named(gzip, "app:gz", whole=request.param),
        named(zstd, "app:zst", whole=request.param),
    ]
    path = written(
        layout,
        tmp_path / "a.tar",
        entry(IMAGE.config_digest, layers_of(layout, gzip), "app:gz"),
        entry(IMAGE.config_digest, layers_of(layout, zstd), "app:zst"),
    )
    return path, gzip["digest"], zstd["digest"]


def test_the_name_decides_between_two_compressions(two_compressions: tuple[Path, str, str]) -> None:
    path, gzip, zstd = two_compressions
    for number, (name, digest) in enumerate((("app:gz", gzip), ("app:zst", zstd))):
        for spelling in (name, f"docker.io/library/{name}", f"@{number}", f"@{digest}", f"{name}@{digest}"):
            assert root(f"docker-archive:{path}:{spelling}") == digest, spelling
    assert resolved(f"docker-archive:{path}:app:zst")[1] == "app:zst"


def test_the_config_alone_does_not(two_compressions: tuple[Path, str, str]) -> None:
    path, gzip, _ = two_compressions
    for image in (str(path), f"docker-archive:{path}:{IMAGE.config_digest}"):
        with pytest.raises(ImageAmbiguous) as caught:
            resolved(image)
        assert caught.value.message.endswith("contains 2 images: app:gz, app:zst")
        assert caught.value.hint == f"choose one: docker-archive:{path}:app:gz"
    for name in (f"app:zst@{gzip}", "@sha256:" + "0" * 64, "app:other", "@2"):
        with pytest.raises(ImageNotFound):
            resolved(f"docker-archive:{path}:{name}")


@pytest.mark.parametrize("first", [0, 1])
def test_an_index_and_one_of_its_manifests_under_names_of_their_own(tmp_path: Path, first: int) -> None:
    layout = Layout()
    one = layout.image(IMAGE)
    other = layout.image(replace(IMAGE, architecture="arm64"))
    multi = layout.index(on("linux/amd64", one), on("linux/arm64", other))
    listed = [named(multi, "app:multi"), named(one, "app:one")]
    layout.listed = [listed[first], listed[1 - first]]
    layers = layers_of(layout, one)
    path = written(layout, tmp_path / "a.tar", entry(IMAGE.config_digest, layers, "app:multi", "app:one"))
    assert root(f"docker-archive:{path}:app:multi") == multi["digest"]
    assert root(f"docker-archive:{path}:app:one") == one["digest"]
    assert resolved(f"docker-archive:{path}:app:one")[1] == "app:one"
    assert resolved(f"docker-archive:{path}:@{one['digest']}")[1] == "app:one"
    for image in (str(path), f"docker-archive:{path}:@0"):
        with pytest.raises(ImageAmbiguous) as caught:
            resolved(image)
        assert {"app:multi", "app:one"} <= set(caught.value.message.replace(",", "").split())
    arm = Choice((Platform("linux", "arm64"),))
    assert root(f"docker-archive:{path}:app:multi", arm) == other["digest"]


def test_the_same_manifest_under_several_names_is_one_image(tmp_path: Path) -> None:
    layout = Layout()
    one = layout.image(IMAGE)
    layout.listed = [named(one, "app:1"), named(one, "app:latest")]
    layers = layers_of(layout, one)
    path = written(layout, tmp_path / "a.tar", entry(IMAGE.config_digest, layers, "app:1", "app:latest"))
    assert resolved(str(path))[1] == "app:1"
    assert root(f"docker-archive:{path}:app") == one["digest"]


def test_an_image_that_is_listed_twice_is_one(tmp_path: Path) -> None:
    layout = Layout()
    one = layout.image(IMAGE)
    described = entry(IMAGE.config_digest, layers_of(layout, one), "app:1")
    layout.listed = [named(one, "app:1")]
    assert root(str(written(layout, tmp_path / "a.tar", described, described))) == one["digest"]


def apko(path: Path, *names: str, config: str = "sha256:") -> Path:
    """As apko writes an archive of several platforms: the config's digest is its path, the layer is gzip."""
    content: list[Entry] = []
    described: list[dict[str, object]] = []
    for name, architecture in zip(names, ("amd64", "arm64", "riscv64"), strict=False):
        image = Image(make_image(100, seed=len(content)).layers, (name,), architecture=architecture)
        layer = image.layers[0]
        content += [
            Entry(config + image.config_digest[7:], image.config),
            Entry(f"{layer.digest[7:]}.tar.gz", layer.gzip),
        ]
        described.append(
            {
                "Config": config + image.config_digest[7:],
                "RepoTags": [name] if name else None,
                "Layers": [f"{layer.digest[7:]}.tar.gz"],
            }
        )
    return write_tar(path, [*content, Entry("manifest.json", json.dumps(described).encode())])


def test_platforms_under_names_of_their_own(tmp_path: Path) -> None:
    path = apko(tmp_path / "a.tar", "etcd:latest-amd64", "etcd:latest-arm64")
    with pytest.raises(ImageAmbiguous, match="2 images: etcd:latest-amd64, etcd:latest-arm64"):
        resolved(str(path))
    image, name = resolved(str(path), Choice((Platform("linux", "arm64"),)))
    assert name == "etcd:latest-arm64"
    assert image.config is not None
    assert json.loads(image.config)["architecture"] == "arm64"
    with pytest.raises(ImageNotFound) as caught:
        resolved(str(path), Choice((Platform("linux", "s390x"),)))
    assert caught.value.hint == "its images are for linux/amd64, linux/arm64"


@pytest.mark.parametrize("shape", ["classic", "containerd", "docker25"])
def test_a_platform_that_none_of_several_images_is_for(tmp_path: Path, shape: Shape) -> None:
    """Also where the archive has an index.json, in which an index might hold the platform."""
    images = [make_image(50, names=(), seed=seed) for seed in (1, 2)]
    path = write_archive(tmp_path / "a.tar", *images, shape=shape)
    with pytest.raises(ImageNotFound, match="has no image for linux/s390x") as caught:
        resolved(str(path), Choice((Platform("linux", "s390x"),)))
    assert caught.value.hint == "its images are for linux/amd64"
    with pytest.raises(ImageAmbiguous, match="contains 2 images"):
        resolved(str(path), Choice((Platform("linux", "amd64"),)))


@pytest.mark.parametrize("name", ["etcd:latest", ""])
def test_platforms_under_one_name_or_none(tmp_path: Path, name: str) -> None:
    path = apko(tmp_path / "a.tar", name, name)
    with pytest.raises(ImageAmbiguous) as caught:
        resolved(str(path))
    assert "@0 (linux/amd64), @1 (linux/arm64)" in caught.value.message
    assert caught.value.hint == f"choose one: docker-archive:{path}:@0, or with --platform linux/amd64"
    image, own = resolved(f"docker-archive:{path}:@1")
    assert own == (name or None)
    assert image.config_digest == resolved(str(path), Choice((Platform("linux", "arm64"),)))[0].config_digest


def test_a_config_that_is_not_what_its_path_says(tmp_path: Path) -> None:
    path = apko(tmp_path / "a.tar", "app:1")
    data = path.read_bytes().replace(b'"architecture":"amd64"', b'"architecture":"arm64"')
    path.write_bytes(data)
    with pytest.raises(Exception, match=r"the config in .* should have digest"):
        resolved(str(path))


@pytest.mark.parametrize("shape", ["classic", "podman"])
def test_images_without_names_are_told_by_number(tmp_path: Path, shape: str) -> None:
    images = [make_image(50, names=(), seed=seed) for seed in (1, 2)]
    path = write_archive(tmp_path / "it's a.tar", *images, shape=shape)  # type: ignore[arg-type]
    with pytest.raises(ImageAmbiguous) as caught:
        resolved(f"docker-archive:{path}")
    assert "contains 2 images without names: @0 (linux/amd64), @1" in caught.value.message
    assert "'\"'\"'" in caught.value.hint, "the path is quoted for the shell"
    assert resolved(f"docker-archive:{path}:@1")[0].config == images[1].config


@pytest.mark.parametrize(
    "config",
    [
        b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null}}',
        b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers"}}',
        b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}',
    ],
)
@pytest.mark.parametrize("layers", ["null", "[]"])
def test_images_without_layers(tmp_path: Path, config: bytes, layers: str) -> None:
    name = f"{sha256(config)[7:]}.json"
    described = f'[{{"Config":"{name}","RepoTags":["z:1"],"Layers":{layers}}}]'.encode()
    path = write_tar(tmp_path / "a.tar", [Entry("manifest.json", described), Entry(name, config)])
    image, own = resolved(str(path))
    assert (own, image.config, image.layers, image.documents) == ("z:1", config, (), ())


@pytest.mark.parametrize("layers", [None, []])
def test_layouts_of_images_without_layers(tmp_path: Path, layers: list[object] | None) -> None:
    layout = Layout()
    config = layout.blob(
        b'{"os":"linux","rootfs":{"type":"layers"}}', "application/vnd.oci.image.config.v1+json"
    )
    manifest = layout.document({"schemaVersion": 2, "config": config, "layers": layers})
    layout.add(manifest)
    image, _ = resolved(str(layout.write_folder(tmp_path / "layout")))
    assert image.root is not None
    assert image.root.raw == layout.blobs[manifest["digest"]]
    assert image.layers == ()

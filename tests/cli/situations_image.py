"""What can be wrong with layouts, indexes, storages, and images in registries."""

from __future__ import annotations

import json

from tests.cli.world import IMAGE, NAME, World, situation
from tests.store.privileges import like_any_user
from tests.support.fakeregistry import DISTRIBUTION_3, Answer, Fault, On
from tests.support.images import Image, Layer, make_image, random_bytes, tar_of
from tests.support.layouts import Layout, two_platforms
from tests.support.storage import DockerRoot
from tests.worker.origin import SOURCE, name_of, put

SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


# --- layouts and folders ------------------------------------------------------------------------------------


@situation("archive-invalid-no-image", "archive-invalid")
def a_folder_of_something_else(world: World) -> None:
    world.file("build/Dockerfile", "FROM scratch\n")
    world.run("push", world.folder / "build", "--to", NAME)


@situation("archive-invalid-layout", "archive-invalid")
def half_an_index_json(world: World) -> None:
    layout, _ = two_platforms()
    folder = layout.write_folder(world.folder / "layout")
    world.file("layout/index.json", layout.index_json[:40])
    world.run("push", folder, "--to", NAME)


@situation("archive-invalid-blob", "archive-invalid")
def half_a_blob(world: World) -> None:
    layout = Layout()
    layout.add(layout.image(IMAGE))
    folder = layout.write_folder(world.folder / "layout")
    name = f"layout/blobs/sha256/{IMAGE.layers[0].digest.removeprefix('sha256:')}"
    world.file(name, IMAGE.layers[0].gzip[:1000])
    world.run("push", f"oci:{folder}", "--to", NAME)


@situation("archive-invalid-unpacked", "archive-invalid")
def an_unpacked_archive(world: World) -> None:
    world.file("app/manifest.json", '[{"Config": "config.json", "Layers": []}]')
    world.run("push", world.folder / "app", "--to", NAME)


@situation("layer-mismatch-manifest", "layer-mismatch")
def another_manifest(world: World) -> None:
    layout = Layout()
    root = layout.add(layout.image(IMAGE))
    folder = layout.write_folder(world.folder / "layout")
    raw = layout.blobs[root["digest"]]
    world.file(f"layout/blobs/sha256/{root['digest'].removeprefix('sha256:')}", raw.replace(b" ", b"\n"))
    world.run("push", folder, "--to", NAME)


@situation("image-not-found-in-layout", "image-not-found")
def another_name_in_the_layout(world: World) -> None:
    layout, _ = two_platforms(("registry.example.com/team/app:1.2",))
    world.run("push", f"oci:{layout.write_folder(world.folder / 'layout')}:1.3", "--to", NAME)


@situation("image-ambiguous-layout", "image-ambiguous")
def two_images_in_a_layout(world: World) -> None:
    layout, _ = two_platforms(("registry.example.com/team/app:1.2",))
    layout.add(layout.image(IMAGE), "registry.example.com/team/other:2")
    world.run("push", layout.write_folder(world.folder / "layout"), "--to", NAME)


@situation("image-unsupported")
def a_source_of_another_tool(world: World) -> None:
    world.run("push", "sif:app.sif", "--to", NAME)


@situation("image-unsupported-schema-1", "image-unsupported")
def an_image_of_2015(world: World) -> None:
    layout = Layout()
    layout.add({**layout.document({"schemaVersion": 1, "fsLayers": []}), "mediaType": SCHEMA_1})
    world.run("push", layout.write_folder(world.folder / "layout"), "--to", NAME)


# --- platforms ----------------------------------------------------------------------------------------------


@situation("image-incomplete")
def one_platform_of_two(world: World) -> None:
    layout, root = two_platforms()
    children = json.loads(layout.blobs[root["digest"]])["manifests"]
    folder = layout.without(children[1], children[3]).write_folder(world.folder / "layout")
    world.run("push", folder, "--to", NAME)
    world.run("push", folder, "--to", NAME, "--platform", "linux/arm64")


@situation("image-incomplete-blob", "image-incomplete")
def a_layer_is_gone(world: World) -> None:
    layout = Layout()
    layout.add(layout.image(IMAGE))
    lower = {"digest": IMAGE.layers[0].digest}
    world.run("push", layout.without(lower).write_folder(world.folder / "layout"), "--to", NAME)


@situation("image-not-found-platform", "image-not-found")
def a_platform_that_there_is_not(world: World) -> None:
    layout, _ = two_platforms()
    folder = layout.write_folder(world.folder / "layout")
    world.run("push", folder, "--to", NAME, "--platform", "linux/s390x")
    world.run("push", world.archive(), "--to", NAME, "--platform", "linux/s390x")


@situation("option-invalid-platform", "option-invalid")
def nonsense_for_a_platform(world: World) -> None:
    world.run("push", "app:1.2", "--to", NAME, "--platform", "arm64")
    world.run("push", "app:1.2", "--to", NAME, "--platform", "linux/arm64", "--all")


# --- layers -------------------------------------------------------------------------------------------------


@situation("option-invalid-compression", "option-invalid")
def nonsense_for_a_compression(world: World) -> None:
    world.run("push", "app:1.2", "--to", NAME, "--compression", "lzma")
    world.run("push", "app:1.2", "--to", NAME, "--compression", "gzip", "--compression-level", "13")


@situation("image-unsupported-split", "image-unsupported")
def a_file_larger_than_the_parts(world: World) -> None:
    layer = Layer(tar_of([("models/large.bin", random_bytes(3 << 20)), ("etc/small", b"x")]))
    world.run("push", world.archive(Image((layer,))), "--to", NAME, "--split-layers", "2MiB")


@situation("image-unsupported-split-registry", "image-unsupported")
def a_split_between_registries(world: World) -> None:
    world.run("push", "docker://ghcr.io/team/app:1.2", "--to", NAME, "--split-layers", "4GiB")


# --- storages -----------------------------------------------------------------------------------------------


@situation("storage-doubtful")
def no_storage(world: World) -> None:
    world.env(PUSHER_DOCKER_ROOT=str(world.folder / "docker"))
    world.run("push", "docker-storage:app:1.2", "--to", NAME)


@situation("storage-doubtful-permission", "storage-doubtful")
def somebody_elses_storage(world: World) -> None:
    storage = DockerRoot(world.folder / "docker")
    storage.add(IMAGE)
    storage.root.chmod(0)
    world.env(PUSHER_DOCKER_ROOT=str(storage.root))
    with like_any_user():
        world.run("push", f"docker-storage:{NAME}")


@situation("storage-doubtful-layer", "storage-doubtful")
def a_layer_without_tar_split(world: World) -> None:
    storage = DockerRoot(world.folder / "docker")
    storage.add(IMAGE)
    storage.tar_split(IMAGE, 0).unlink()
    world.patch.setenv("PATH", str(world.folder))  # nor is there a Docker to ask instead
    world.push(f"docker-storage:[{storage.root}]{IMAGE.names[0]}", f"{world.registry().address}/team/app:1.2")


@situation("image-not-found-storage", "image-not-found")
def another_name_in_the_storage(world: World) -> None:
    storage = DockerRoot(world.folder / "docker")
    storage.add(IMAGE)
    world.run("push", f"docker-storage:[{storage.root}]app:1.3", "--to", NAME)


# --- registries ---------------------------------------------------------------------------------------------


@situation("option-invalid-nowhere", "option-invalid")
def from_a_registry_to_nowhere(world: World) -> None:
    world.run("push", "docker://ghcr.io/team/app:1.2")


@situation("image-not-found-registry", "image-not-found")
def not_in_the_registry(world: World) -> None:
    origin = world.registry(DISTRIBUTION_3)
    put(origin, IMAGE)
    world.run("push", name_of(origin, ":1.3"), "--to", NAME)


@situation("image-unsupported-schema-1-registry", "image-unsupported")
def an_image_of_2015_in_a_registry(world: World) -> None:
    origin = world.registry(DISTRIBUTION_3)
    raw = json.dumps({"schemaVersion": 1, "fsLayers": []}).encode()
    origin.add_manifest(SOURCE, "1.2", SCHEMA_1, raw)
    world.run("push", name_of(origin), "--to", NAME)


@situation("registry-unreachable-source", "registry-unreachable")
def the_source_registry_is_away(world: World) -> None:
    world.run("push", "docker://127.0.0.1:1/team/app:1.2", "--to", NAME)


@situation("credentials-missing-source", "credentials-missing")
def the_source_registry_wants_a_login(world: World) -> None:
    origin = world.registry(DISTRIBUTION_3, credentials=("ann", "s0urce"))
    put(origin, IMAGE)
    world.env(PUSHER_USERNAME="bob", PUSHER_PASSWORD="hunter2")
    world.run("push", name_of(origin), "--to", NAME)


@situation("layer-mismatch-registry", "layer-mismatch")
def the_source_registry_changes_bytes(world: World) -> None:
    origin, registry = world.registry(DISTRIBUTION_3), world.registry()
    image = make_image(3_000)
    put(origin, image)
    layer = image.layers[0]
    wrong = Answer(200, {}, bytes(len(layer.gzip)))
    origin.faults.add(Fault(On.GET_BLOB, wrong, times=None, path=layer.digest))
    world.push(name_of(origin), f"{registry.address}/team/app:1.2")

"""What can be wrong with the image and where it is read from."""

from __future__ import annotations

from pathlib import Path

from tests.cli.world import IMAGE, NAME, World, situation
from tests.store.privileges import like_any_user
from tests.support.images import entries, make_image, truncated, write_tar


@situation("archive-invalid")
def a_text_file(world: World) -> None:
    world.run("push", world.file("notes.txt", "buy milk\n"), "--to", NAME)


@situation("archive-invalid-empty", "archive-invalid")
def an_empty_file(world: World) -> None:
    world.run("push", world.file("app.tar", b""), "--to", NAME)


@situation("archive-invalid-folder", "archive-invalid")
def a_folder(world: World) -> None:
    (world.folder / "build").mkdir()
    world.run("push", f"docker-archive:{world.folder}/build", "--to", NAME)


@situation("archive-truncated")
def half_an_archive(world: World) -> None:
    world.run("push", truncated(world.archive(), 30_000), "--to", NAME)


@situation("image-not-found-file", "image-not-found")
def no_such_file(world: World) -> None:
    world.run("push", f"docker-archive:{world.folder}/ap.tar", "--to", NAME)


@situation("image-not-found")
def a_mistyped_name(world: World) -> None:
    engine = world.engine()
    engine.fails("inspect", "Error response from daemon: No such image: app:1.3")
    engine.on("ls", "echo registry.example.com/team/app:1.2")
    world.run("push", "registry.example.com/team/app:1.3")


@situation("image-not-found-in-archive", "image-not-found")
def another_name_in_the_archive(world: World) -> None:
    world.run("push", f"docker-archive:{world.archive()}:app:1.3", "--to", NAME)


@situation("image-ambiguous")
def two_images(world: World) -> None:
    both = world.archive(IMAGE)
    other = make_image(1000, names=["registry.example.com/team/other:2"], seed=7)
    write_tar(both, entries("classic", IMAGE, other))
    world.run("push", both, "--to", NAME)


@situation("image-changed")
def the_archive_is_replaced(world: World) -> None:
    world.run("enqueue", world.archive(), "--to", world.registry().address + "/team/app:1.2")
    world.archive(make_image(60_000, seed=3))
    world.run("run", "--progress", "none")


@situation("layer-mismatch")
def a_damaged_layer(world: World) -> None:
    world.push(_damaged_archive(world), world.registry().address + "/team/app:1.2")


@situation("piped-archive-unusable")
def a_damaged_layer_from_a_pipe(world: World) -> None:
    archive, to = _damaged_archive(world), world.registry().address + "/team/app:1.2"
    world.shell(f"pusher push - --to {to} --progress none < {archive}")
    assert not list((world.home / "spool" / "incoming").iterdir())
    world.run("retry", "1")
    world.run("run", "--progress", "none")


def _damaged_archive(world: World) -> Path:
    content = entries("classic", IMAGE)
    damaged = [type(e)(e.name, b"x" * len(e.data)) if e.data == IMAGE.layers[0].tar else e for e in content]
    return write_tar(world.folder / "app.tar", damaged)


@situation("source-error")
def no_permission(world: World) -> None:
    archive = world.archive()
    archive.chmod(0)
    with like_any_user():
        world.run("push", archive, "--to", NAME)


# --- engines ------------------------------------------------------------------------------------------------


@situation("engine-missing")
def nothing_is_installed(world: World) -> None:
    world.patch.setenv("PATH", str(world.folder))
    world.run("push", NAME)


@situation("engine-not-running")
def docker_is_stopped(world: World) -> None:
    world.engine().fails(
        "inspect",
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
    )
    world.run("push", NAME)


@situation("engine-not-permitted")
def not_in_the_group(world: World) -> None:
    world.engine().fails(
        "inspect",
        "permission denied while trying to connect to the Docker daemon socket at "
        "unix:///var/run/docker.sock: dial unix /var/run/docker.sock: connect: permission denied",
    )
    world.run("push", NAME)


@situation("engine-failed")
def docker_save_fails(world: World) -> None:
    world.engine().fails("save", "Error response from daemon: unable to read layer: input/output error")
    world.push(NAME, world.registry().address + "/team/app:1.2")

"""``pusher enqueue``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pusher.cli import completers
from pusher.cli.base import Command, json_option, opened, print_json, read_settings, warn
from pusher.cli.options import setting_options
from pusher.errors import ExitCode

if TYPE_CHECKING:
    from pusher.config import Settings
    from pusher.store.records import JobRecord
    from pusher.store.store import Store

to_option = click.option(
    "--to",
    metavar="WHERE",
    help="A reference, or a registry (registry.example.com, or with a namespace and a slash at the end, "
    "registry.example.com/team/) in which IMAGE keeps its name.",
)


@click.command(cls=Command)
@click.argument("image", shell_complete=completers.images)
@to_option
@click.option(
    "--priority",
    type=click.IntRange(-1000, 1000),
    metavar="N",
    default=0,
    show_default=True,
    help="Higher goes first.",
)
@setting_options("compression_level")
@json_option
def enqueue(image: str, to: str | None, priority: int, compression_level: str | None, as_json: bool) -> int:
    """Put IMAGE into the queue and print the job's id.

    IMAGE is a name in Docker or Podman, docker-archive:PATH[:NAME], or the path of such a file. What it is
    now will be pushed, even if its tag moves later.

    Without --to it is pushed where its name says. A name that says no registry goes to the one of the setting
    "registry" (PUSHER_REGISTRY), or else to Docker Hub.

    \b
    Example:
      pusher enqueue app:1.2 --to registry.example.com/team/app:1.2
      pusher enqueue app:1.2 --to registry.example.com
      pusher run
    """
    settings = read_settings(compression_level=compression_level)
    with opened(settings) as store:
        job = record(store, settings, image, to, priority=priority, with_level=compression_level is not None)
        layers = sum(layer.position >= 0 for layer in store.layers.of(job.id))
    if as_json:
        print_json({"id": job.id, "image": job.image, "destination": job.destination, "state": job.state})
    else:
        click.echo(job.id)
    count = f"{layers} layer" + ("s" if layers != 1 else "")
    warn(f"Job {job.id}: {job.image} -> {job.destination}, {count}. Start it with: pusher run")
    return ExitCode.DONE


def record(
    store: Store,
    settings: Settings,
    image: str,
    to: str | None,
    *,
    priority: int = 0,
    with_level: bool = False,
) -> JobRecord:
    """Resolve the image and record its job."""
    from pusher.reference import DOCKER_HUB
    from pusher.worker.enqueue import enqueue

    level = settings.compression_level if with_level else None
    job = enqueue(
        store,
        image,
        to=to,
        default_registry=settings.default_registry,
        priority=priority,
        compression_level=level,
    )
    if job.destination.startswith(f"{DOCKER_HUB}/library/") and "library/" not in (to or image):
        warn(
            f"{to or image} names no registry, so it goes to Docker Hub: {job.destination}. "
            "To a registry of your own: --to registry.example.com, or set PUSHER_REGISTRY."
        )
    return job

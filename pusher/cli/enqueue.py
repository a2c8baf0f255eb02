"""Implement ``pusher enqueue``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from pusher.cli import completers
from pusher.cli.command import Command, json_option
from pusher.cli.image import image_options, read_image_options
from pusher.cli.options import compression_options, setting_options
from pusher.cli.output import print_json, print_notice
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store
from pusher.errors import ExitCode, PusherError

if TYPE_CHECKING:
    from pusher.config import Settings
    from pusher.store.records import JobRecord
    from pusher.store.store import Store

to_option = click.option(
    "--to",
    metavar="WHERE",
    multiple=True,
    help="Destination: a reference, or a registry (registry.example.com, or registry.example.com/team/ "
    "with a "
    "slash at the end) where IMAGE keeps its name. May be repeated.",
)

no_supersede_option = click.option(
    "--no-supersede",
    "keeps_older",
    is_flag=True,
    help="Keep unfinished older jobs for the same tag; the jobs set the tag in the order of their IDs.",
)


@click.command(cls=Command)
@click.argument("image", shell_complete=completers.images)
@to_option
@no_supersede_option
@click.option(
    "--priority",
    type=click.IntRange(-1000, 1000),
    metavar="N",
    default=0,
    show_default=True,
    help="Jobs with a higher priority go first.",
)
@image_options
@setting_options("plain_http", "insecure", "ca_cert")  # only docker:// is checked here
@compression_options
@json_option
def enqueue(
    image: str, to: tuple[str, ...], keeps_older: bool, priority: int, as_json: bool, **flags: object
) -> int:
    """Add IMAGE to the queue and print the job ID.

    IMAGE is a name in Docker or Podman, the path of an archive or folder, or

    \b
      docker-daemon:NAME, podman:NAME, nerdctl:NAME
                                  an image in that engine
      docker-storage:NAME, containers-storage:NAME
                                  an image on its disk, read without the engine
      docker-archive:FILE[:NAME]  the output of docker save or podman save
      oci:FOLDER[:NAME], oci-archive:FILE[:NAME], dir:FOLDER
                                  the output of buildx, skopeo, kaniko or ko
      docker://REFERENCE          an image in another registry, read with the
                                  login of pusher login or docker login

    The job pushes the image as it is now, even if its name is moved to another image later. Unfinished older
    jobs for the same tag are superseded, so the tag never moves back to an older image.

    Without --to, the image is pushed to its own name. A name without a registry goes to the setting
    "registry" (PUSHER_REGISTRY), or else to Docker Hub.

    \b
    Example:
      pusher enqueue app:1.2 --to registry.example.com/team/app:1.2
      pusher enqueue app:1.2 --to registry.example.com --to ghcr.io/team/
      pusher run
    """
    from pusher.oci.media_types import CONFIGS

    settings = read_settings(**flags)
    image_arguments = read_image_options(flags, settings)
    with open_store(settings) as store, receive_image(image, store, settings) as image:
        jobs = enqueue_image(
            store, settings, image, to, image_arguments, "enqueue", keeps_older=keeps_older, priority=priority
        )
        superseded = {job.id: [older.id for older in store.jobs.superseded_by(job)] for job in jobs}
        layers = sum(
            not layer.is_config and layer.media_type not in CONFIGS
            for layer in store.blobs.of_job(jobs[0].id)
        )
    if as_json:
        told = [
            {
                "id": job.id,
                "image": job.image,
                "destination": job.destination,
                "state": job.state,
                "supersedes": superseded[job.id],
            }
            for job in jobs
        ]
        print_json(told[0] if len(told) == 1 else {"jobs": told})
    else:
        for job in jobs:
            click.echo(job.id)
    count = f"{layers} layer" + ("s" if layers != 1 else "")
    for job in jobs:
        start = ". Start it with: pusher run" if len(jobs) == 1 else "."
        print_notice(f"Job {job.id}: {job.image} -> {job.destination}, {count}{start}")
    if len(jobs) > 1:
        print_notice("Start them with: pusher run")
    return ExitCode.DONE


@contextmanager
def receive_image(image: str, store: Store, settings: Settings) -> Iterator[str]:
    """Yield IMAGE, or the file with the content of a pipe; remove that file if no job was recorded."""
    from pusher.sources.archive import stream
    from pusher.worker import piped_archives

    if not stream.is_stream(image):
        yield image
        return
    folder = settings.spool / piped_archives.FOLDER
    kept = stream.receive(image, folder, _print_note)
    try:
        yield kept
    except PusherError as error:
        raise stream.as_typed(error, image, folder) from error
    finally:
        piped_archives.remove_if_unneeded(store, folder, kept)


def enqueue_image(
    store: Store,
    settings: Settings,
    image: str,
    to: Sequence[str],
    image_arguments: dict[str, Any],
    command: str,
    *,
    keeps_older: bool,
    priority: int = 0,
) -> list[JobRecord]:
    """Resolve the image, record a job for each destination, and report the jobs that they supersede.

    ``image_arguments`` come from ``read_image_options``; ``command`` is the command that was typed."""
    from pusher.reference import DOCKER_HUB
    from pusher.worker.enqueue import enqueue

    typed = to or (image,)
    jobs = enqueue(
        store,
        image,
        settings=settings,
        to=to,
        default_registry=settings.default_registry,
        keeps_older=keeps_older,
        priority=priority,
        command=command,
        note=_print_note,
        **image_arguments,
    )
    for job in jobs:
        for older in store.jobs.superseded_by(job):
            print_notice(f"Job {job.id} supersedes job {older.id} ({older.image} -> {older.destination}).")
        if job.destination.startswith(f"{DOCKER_HUB}/library/") and not any("library/" in w for w in typed):
            print_notice(
                f"{' '.join(typed)} has no registry, so it goes to Docker Hub: {job.destination}. "
                "For another registry use --to registry.example.com, or set PUSHER_REGISTRY."
            )
    return jobs


def _print_note(text: str) -> None:
    print_notice(f"note: {text}")

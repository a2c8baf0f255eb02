"""Implement ``pusher enqueue``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from pusher.cli.auth_file import auth_file_option, source_auth_file_option, with_auth_files
from pusher.cli.command import Command, json_option, quiet_option
from pusher.cli.dry_run import dry_run
from pusher.cli.found_images import FoundImages, find_images, receive_images
from pusher.cli.image import image_options, read_image_options
from pusher.cli.image_list import (
    check_standard_input,
    image_list_options,
    read_image_list,
    source_registries,
)
from pusher.cli.options import compression_options, setting_options
from pusher.cli.output import print_json, print_notice, printing_results, report_unwritable
from pusher.cli.queueing import advise_start, queueing_options, read_queueing
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store
from pusher.errors import PusherError

if TYPE_CHECKING:
    from pusher.store.records import JobRecord


@click.command(cls=Command)
@image_list_options
@queueing_options
@image_options
@setting_options("plain_http", "insecure", "ca_cert")  # only docker:// is checked here
@auth_file_option
@source_auth_file_option
@compression_options
@json_option
@quiet_option
def enqueue(as_json: bool, **flags: Any) -> int:
    """Add each IMAGE to the queue and print the job IDs.

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
      pusher enqueue api:1.2 web:1.2 --to registry.example.com/team/
      pusher enqueue --from-file images.txt --keep-going
      pusher run
    """
    from pusher.oci.media_types import CONFIGS

    settings = read_settings(**flags)
    image_arguments, queueing = read_image_options(flags, settings), read_queueing(flags)
    check_standard_input(flags)
    requests = read_image_list(flags, settings, "enqueue")
    settings = with_auth_files(
        settings, flags, lambda: source_registries(requests, keep_going=flags["keep_going"]), list
    )
    if flags["dry_run"]:
        return dry_run(settings, requests, image_arguments, flags, "enqueue", is_json=as_json)
    with open_store(settings) as store, receive_images(requests, store, settings) as requests:
        found = find_images(
            store,
            settings,
            requests,
            image_arguments,
            "enqueue",
            all_tags=flags["all_tags"],
            keep_going=flags["keep_going"],
        )
        jobs = found.record(store, queueing)
        superseded = {job.id: [older.id for older in store.jobs.superseded_by(job)] for job in jobs}
        layers = {
            job.id: sum(
                not layer.is_config and layer.media_type not in CONFIGS
                for layer in store.blobs.of_job(job.id)
            )
            for job in jobs
        }
        start = advise_start(store, jobs, settings)
    unwritable: list[PusherError] = []
    with printing_results(unwritable.append):
        if as_json:
            print_json(_as_json(jobs, superseded, found, single=len(jobs) == 1 == len(requests)))
        else:
            for job in jobs:
                click.echo(job.id)
    for job in jobs:
        count = f"{layers[job.id]} layer" + ("s" if layers[job.id] != 1 else "")
        end = f". {start}" if len(jobs) == 1 else "."
        print_notice(f"Job {job.id}: {job.image} -> {job.destination}, {count}{end}")
    if len(jobs) > 1:
        print_notice(start)
    found.report_errors("queued", again=False)
    return report_unwritable(unwritable, found.exit_code)


def _as_json(
    jobs: Sequence[JobRecord], superseded: Mapping[int, Sequence[int]], found: FoundImages, *, single: bool
) -> dict[str, object]:
    """Return the object of the ``single`` job, or all jobs, and the images that were not found."""
    described: list[dict[str, object]] = [
        {
            "id": job.id,
            "image": job.image,
            "destination": job.destination,
            "state": job.state,
            "supersedes": superseded[job.id],
        }
        for job in jobs
    ]
    if single:
        return described[0]
    return {"jobs": described, **({"errors": found.errors_as_json()} if found.errors else {})}

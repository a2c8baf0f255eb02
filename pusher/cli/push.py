"""Implement ``pusher push``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from pusher.cli.auth_file import (
    auth_file_option,
    destination_auth_file_option,
    source_auth_file_option,
    with_auth_files,
)
from pusher.cli.command import Command, progress_option
from pusher.cli.dry_run import dry_run
from pusher.cli.found_images import find_images, receive_images
from pusher.cli.image import image_options, read_image_options
from pusher.cli.image_list import (
    ImageRequest,
    check_standard_input,
    destination_registries,
    image_list_options,
    read_image_list,
    source_registries,
)
from pusher.cli.job_output import JobOutput, job_output_options
from pusher.cli.options import worker_options
from pusher.cli.password import login_options, with_password
from pusher.cli.queueing import label_option, read_queueing, supersede_option, window_option
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store
from pusher.cli.tls_verify import tls_verify_option, with_tls_verify
from pusher.cli.work import report_result, work
from pusher.errors import PusherError
from pusher.system import tune_malloc

if TYPE_CHECKING:
    from pusher.config import Settings


@click.command(cls=Command)
@image_list_options
@supersede_option
@label_option
@window_option
@image_options
@login_options
@auth_file_option
@source_auth_file_option
@destination_auth_file_option
@tls_verify_option
@worker_options
@progress_option
@job_output_options
def push(password_stdin: bool, progress: str, **flags: Any) -> int:
    """Push each IMAGE, and print its reference with the digest.

    The same as enqueue and run for these images; see pusher enqueue --help for what IMAGE can be. If the
    push is interrupted, pusher run resumes it.

    --username is for the destination. An image in docker:// is read with the login that pusher login or
    docker login stored for its registry.

    \b
    Example:
      pusher push registry.example.com/team/app:1.2
      pusher push app:1.2 --to registry.example.com --to ghcr.io/team/
      pusher push app:1.2 --to ghcr.io/team/app --tag 1.2 --tag latest
      pusher push api:1.2 web:1.2 --to registry.example.com/team/
      pusher push build/app.tar --to registry.example.com/team/app:1.2
      docker save app:1.2 | pusher push - --to registry.example.com
      pusher push docker://ghcr.io/team/app:1.2 --to registry.example.com
    """
    from pusher.sources.archive.stream import is_stream

    settings = read_settings(**flags)
    image_arguments, queueing = read_image_options(flags, settings), read_queueing(flags)
    output = JobOutput.read(flags, settings.workers, progress)
    check_standard_input(flags, password_stdin=password_stdin)
    requests = read_image_list(flags, settings, "push")
    is_piped = any(is_stream(request.image) for request in requests)
    if not is_piped:
        settings = _with_logins(settings, requests, flags, password_stdin=password_stdin)
    tune_malloc()  # has its full effect before the first thread starts
    early = _early_registries(requests, settings)
    _connect_early(early, settings)  # what is imported before this delays the first request
    if flags["dry_run"]:
        return dry_run(settings, requests, image_arguments, flags, "push", is_json=output.is_json)
    from pusher.worker.registries import Registries
    from pusher.worker.result import RunResult

    with open_store(settings) as store, receive_images(requests, store, settings) as requests:
        if is_piped:  # its name is known only after reading it
            settings = _with_logins(settings, requests, flags, password_stdin=password_stdin)
        with closing(Registries(store, settings)) as registries:
            registries.connect_early(early)
            is_copy = bool(source_registries(requests, keep_going=True))
            if is_copy:  # side by side with what is asked of its source
                registries.ask_early(early)
            found = find_images(
                store,
                settings,
                requests,
                image_arguments,
                "push",
                all_tags=flags["all_tags"],
                keep_going=flags["keep_going"],
                registries=registries,
            )
            if found.images and not is_copy:
                registries.ask_early(early)
            jobs = found.record(store, queueing)
            result = RunResult()
            if jobs:
                ids = [job.id for job in jobs]
                result = work(store, settings, progress, only=ids, registries=registries)
        output.print_jobs(store, result.jobs)
    single = len(jobs) == 1 == len(requests)
    code = report_result(result, progress, single=single, pushed=len(jobs), found=found)
    code = output.finish(result.jobs, code)
    found.report_errors("pushed", again=True)
    return code


def _early_registries(requests: Sequence[ImageRequest], settings: Settings) -> set[str]:
    """Return the registry that images are read from and the one that they go to, if it is one for all."""
    try:
        places = [source_registries(requests, keep_going=False)]
        if all(request.to for request in requests):  # an image's own name may take a look into a file
            places.append(destination_registries(requests, settings))
    except PusherError:  # reported with its image, or its line of the list
        return set()
    return {each for registries in places if len(registries) == 1 for each in registries}


def _connect_early(registries: Collection[str], settings: Settings) -> None:
    """Begin to connect to the registries."""
    from pusher.registry.http.early_connection import connect_early
    from pusher.registry.http.happy_eyeballs import discard_early

    click.get_current_context().call_on_close(discard_early)
    for registry in registries:
        site = settings.at(registry)
        connect_early(registry, site.timeouts.connect, plain_http=site.plain_http)


def _with_logins(
    settings: Settings, requests: Sequence[ImageRequest], flags: Mapping[str, Any], *, password_stdin: bool
) -> Settings:
    """Return the settings with the files of logins, with user name and password, and with what
    ``--dest-tls-verify`` asks for."""
    keep_going = flags["keep_going"]

    def destinations() -> set[str]:
        return destination_registries(requests, settings, keep_going=keep_going)

    if flags["dest_tls_verify"] is False:
        settings = with_tls_verify(settings, destinations())
    settings = with_auth_files(
        settings, flags, lambda: source_registries(requests, keep_going=keep_going), destinations
    )
    if not password_stdin and not _has_login(settings):
        return settings
    registries = destinations()
    if not registries:  # no image can be pushed, which is reported for each
        return settings
    return with_password(settings, registries, password_stdin=password_stdin)


def _has_login(settings: Settings) -> bool:
    """Return whether a user name or password was given, possibly for another registry."""
    named = any("username" in table for table in settings.registries.values())
    return named or settings.username is not None or settings.password is not None

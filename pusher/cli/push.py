"""Implement ``pusher push``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pusher.cli import completers
from pusher.cli.command import Command, progress_option
from pusher.cli.enqueue import enqueue_image, no_supersede_option, receive_image, to_option
from pusher.cli.image import image_options, read_image_options
from pusher.cli.options import worker_options
from pusher.cli.password import login_options, with_password
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store
from pusher.cli.work import report_result, work

if TYPE_CHECKING:
    from pusher.config import Settings


@click.command(cls=Command)
@click.argument("image", shell_complete=completers.images)
@to_option
@no_supersede_option
@image_options
@login_options
@worker_options
@progress_option
def push(
    image: str, to: tuple[str, ...], keeps_older: bool, password_stdin: bool, progress: str, **flags: object
) -> int:
    """Push IMAGE, and print its reference with the digest.

    The same as enqueue and run for this one image; see pusher enqueue --help for what IMAGE can be. If the
    push is interrupted, pusher run resumes it.

    --username is for the destination. An image in docker:// is read with the login that pusher login or
    docker login stored for its registry.

    \b
    Example:
      pusher push registry.example.com/team/app:1.2
      pusher push app:1.2 --to registry.example.com --to ghcr.io/team/
      pusher push build/app.tar --to registry.example.com/team/app:1.2
      docker save app:1.2 | pusher push - --to registry.example.com
      pusher push docker://ghcr.io/team/app:1.2 --to registry.example.com
    """
    from pusher.errors import InvalidOption
    from pusher.sources.archive.stream import is_standard_input, is_stream

    settings = read_settings(**flags)
    image_arguments = read_image_options(flags, settings)
    if password_stdin and is_standard_input(image):
        raise InvalidOption(
            "standard input cannot be both the archive and the password",
            hint="log in first: pusher login REGISTRY",
        )
    is_piped = is_stream(image)
    if not is_piped:
        settings = _with_login(settings, image, to, password_stdin=password_stdin)
    with open_store(settings) as store, receive_image(image, store, settings) as image:
        if is_piped:  # its name is known only after reading it
            settings = _with_login(settings, image, to, password_stdin=password_stdin)
        jobs = enqueue_image(store, settings, image, to, image_arguments, "push", keeps_older=keeps_older)
        result = work(store, settings, progress, only=[job.id for job in jobs])
    return report_result(result, progress, single=len(jobs) == 1, pushed=len(jobs))


def _with_login(settings: Settings, image: str, to: Sequence[str], *, password_stdin: bool) -> Settings:
    if not password_stdin and not _has_login(settings):
        return settings
    from pusher.worker.destination import resolve

    found = [resolve(image, place, settings.default_registry) for place in to or (None,)]
    registries = {destination.registry() for destination in found}
    return with_password(settings, registries, password_stdin=password_stdin)


def _has_login(settings: Settings) -> bool:
    """Return whether a user name or password was given, possibly for another registry."""
    named = any("username" in table for table in settings.registries.values())
    return named or settings.username is not None or settings.password is not None

"""``pusher push``."""

from __future__ import annotations

from pathlib import Path

import click

from pusher.cli.base import (
    Command,
    chunk_size_option,
    opened,
    parallel_option,
    progress_option,
    read_settings,
)
from pusher.cli.enqueue import level_option, record, to_option
from pusher.cli.password import login_options, with_password
from pusher.cli.work import conclude, work


@click.command(cls=Command)
@click.argument("image")
@to_option
@level_option
@parallel_option
@chunk_size_option
@login_options
@progress_option
def push(
    image: str,
    to: str | None,
    compression_level: str | None,
    parallel: str | None,
    chunk_size: str | None,
    username: str | None,
    password_stdin: bool,
    plain_http: bool,
    progress: str,
) -> int:
    """Push IMAGE now, and print the reference with its digest.

    The same as enqueue and run for this one image. Where it is cut off, pusher run goes on with it.

    \b
    Example:
      pusher push registry.example.com/team/app:1.2
      pusher push build/app.tar --to registry.example.com/team/app:1.2
    """
    settings = read_settings(
        parallel=parallel,
        chunk_size=chunk_size,
        compression_level=compression_level,
        username=username,
        plain_http=plain_http,
    )
    registry = _registry(image, to)
    settings = with_password(settings, {registry} if registry else (), password_stdin=password_stdin)
    with opened(settings) as store:
        job = record(store, settings, image, to, with_level=compression_level is not None)
        result = work(store, settings, progress, only=[job.id])
    return conclude(result, progress, single=True)


def _registry(image: str, to: str | None) -> str | None:
    """The registry that the password is asked for, before anything else; None if the archive names it."""
    from pusher.reference import Reference

    if to is None and (image.startswith("docker-archive:") or Path(image).exists()):
        return None
    return Reference.parse(to or image).registry

"""Complete arguments and values of options in the shell. Completers never fail, block for long or change
anything."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

from pusher.text import printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]

_ENGINE_TIMEOUT: Final = 1.0
"""Seconds that Docker or Podman may take to list its images."""
_MAX_JOBS: Final = 200
_PLATFORMS: Final = (
    *("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386"),
    *("linux/ppc64le", "linux/s390x", "linux/riscv64", "windows/amd64"),
)


def _never_failing(completer: Completer) -> Completer:
    """Return a completer that offers nothing if it fails, instead of printing a traceback."""

    @functools.wraps(completer)
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            return completer(context, parameter, incomplete)
        except Exception:
            return []

    return complete


@_never_failing
def jobs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the IDs of the jobs to which the command applies, the newest first."""
    from click.shell_completion import CompletionItem

    from pusher.cli.settings import read_settings
    from pusher.cli.store import open_store, store_exists
    from pusher.store.decisions import DECISIONS

    settings = read_settings()
    # A remote database may be unreachable, and the timeout is long.
    if not settings.database_url.startswith("sqlite") or not store_exists(settings):
        return []
    decision = DECISIONS.get(context.info_name or "")
    typed = set(context.params.get(parameter.name or "") or ())
    with open_store(settings) as store:
        found = store.jobs.list(
            states=None if decision is None else decision.of_all,
            starts=incomplete,
            limit=_MAX_JOBS + len(typed),
        )
    return [
        CompletionItem(str(job.id), help=printable(f"{job.state}: {job.image}"))
        for job in reversed(found)
        if str(job.id) not in typed
    ][:_MAX_JOBS]


@_never_failing
def images(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Return files, and the names of the images in Docker or Podman."""
    import subprocess

    from click.shell_completion import CompletionItem

    from pusher.config.child_environment import engine_environment
    from pusher.sources.engine.command import DOCKER, PODMAN, is_installed

    files = CompletionItem(incomplete, type="file")
    engine = next((engine for engine in (DOCKER, PODMAN) if is_installed(engine)), None)
    if engine is None or incomplete.startswith(("/", ".", "~")):
        return [files]
    command = [engine.command, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]
    try:
        done = subprocess.run(
            command,
            env=engine_environment(),
            capture_output=True,
            text=True,
            timeout=_ENGINE_TIMEOUT,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return [files]
    names = sorted({name for name in done.stdout.split() if "<none>" not in name})
    return [files, *(CompletionItem(name) for name in names if name.startswith(incomplete))]


@_never_failing
def files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Let the shell complete file names."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


@_never_failing
def compressions(
    context: click.Context,  # noqa: ARG001
    parameter: click.Parameter,  # noqa: ARG001
    incomplete: str,
) -> list[CompletionItem]:
    """Return the kinds of compression."""
    from click.shell_completion import CompletionItem

    from pusher.config.options import COMPRESSIONS

    return [CompletionItem(n, help=text) for n, text in COMPRESSIONS.items() if n.startswith(incomplete)]


@_never_failing
def platforms(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the most common platforms of images."""
    from click.shell_completion import CompletionItem

    typed = set(context.params.get(parameter.name or "") or ())
    return [
        CompletionItem(platform)
        for platform in _PLATFORMS
        if platform.startswith(incomplete) and platform not in typed
    ]


@_never_failing
def profiles(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Return the names of registry profiles."""
    from click.shell_completion import CompletionItem

    from pusher.registry.upload.profiles import PROFILES

    return [
        CompletionItem(profile.name, help=profile.title)
        for profile in PROFILES.values()
        if profile.name.startswith(incomplete)
    ]

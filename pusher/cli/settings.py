"""Read and check the settings of a command."""

from __future__ import annotations

import os
from typing import Final

import click

from pusher import config
from pusher.cli.output import print_notice
from pusher.config.variables import unknown_variables

_VARIABLES_CHECKED: Final = "pusher.variables-checked"


def read_settings(**flags: object) -> config.Settings:
    """Return the settings of this command, from its flags, the environment and ``pusher.toml``.

    Raises InvalidOption, ConfigInvalid; CertificateFileUnusable for a ``--ca-cert`` that is not there.
    """
    settings = config.load(flags)
    check_settings(settings)
    if flags.get("ca_cert") and settings.ca_cert is not None and not settings.ca_cert.is_file():
        from pusher.registry.http.certificates import check_readable

        check_readable(settings.ca_cert)  # also for plain http, which does not use it
    warn_of_unknown_variables()
    return settings


def check_settings(settings: config.Settings) -> None:
    """Raise InvalidOption for an unknown profile, or a level that the compression does not have."""
    if settings.compression_level is not None:
        from pusher.worker.compression import RequestedCompression

        RequestedCompression.parse(settings.compression, settings.compression_level)
    named = {settings.at(registry).profile for registry in settings.registries} | {settings.profile}
    if named != {None}:
        from pusher.registry.upload.profiles import by_name

        for name in named - {None}:
            by_name(str(name))


def warn_of_unknown_variables() -> None:
    """Warn once about unknown ``PUSHER_*`` environment variables, which have no effect."""
    context = click.get_current_context(silent=True)  # None: the shell asks for completions
    if context is None or context.find_root().meta.get(_VARIABLES_CHECKED):
        return
    context.find_root().meta[_VARIABLES_CHECKED] = True
    for name, meant in unknown_variables(os.environ).items():
        guess = f"; did you mean {meant}?" if meant else "; pusher config shows those that exist"
        print_notice(f"Unknown environment variable {name}{guess}")

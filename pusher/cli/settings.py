"""Read and check the settings of a command."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import click

from pusher import config
from pusher.cli.output import print_notice
from pusher.config.variables import unknown_variables

_VARIABLES_CHECKED: Final = "pusher.variables-checked"


def read_settings(**flags: object) -> config.Settings:
    """Return the settings of this command, from its flags, the environment and ``pusher.toml``.

    Raises InvalidOption, ConfigInvalid; CertificateFileUnusable for a CA certificate that is not there.
    """
    settings = config.load(flags)
    check_settings(settings)
    if "ca_cert" in flags:  # else the command sends no request to a registry
        _check_certificates(settings, flags)
    warn_of_unknown_variables()
    return settings


def _check_certificates(settings: config.Settings, flags: Mapping[str, object]) -> None:
    """Raise CertificateFileUnusable for a file that is not there, though plain http does not use it."""
    given = [settings.ca_cert, *(settings.at(registry).ca_cert for registry in settings.registries)]
    if all(file is None or file.is_file() for file in given):
        return
    from pusher.config.load import resolve
    from pusher.registry.http.certificates import check_readable

    found = resolve(flags)
    for table in (found.values, *found.registries.values()):
        file = table.get("ca_cert")
        if file is not None and file.value is not None and not file.value.is_file():
            where = "" if file.source == "--ca-cert" else f"{file.place}: "
            check_readable(file.value, f"{where}{file.value}")


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

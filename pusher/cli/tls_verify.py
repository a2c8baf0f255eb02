"""Define ``--dest-tls-verify``, as skopeo has it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pusher.cli.options import SettingOption
from pusher.config.options import REGISTRY
from pusher.errors import NotARegistry, PusherError
from pusher.reference import api_host, is_loopback

if TYPE_CHECKING:
    from pusher.config import Settings

F = TypeVar("F", bound=Callable[..., Any])


class _Option(SettingOption):
    group = REGISTRY


def tls_verify_option(function: F) -> F:
    """Add the option to a command."""
    return click.option(
        "--dest-tls-verify",
        type=click.BOOL,
        metavar="BOOL",
        cls=_Option,
        help="false: as --insecure for the destinations, or --plain-http where they have no TLS.",
    )(function)


def with_tls_verify(settings: Settings, registries: Collection[str]) -> Settings:
    """Return the settings for ``--dest-tls-verify=false``: certificates of these registries are not verified,
    and plain http is used for those that do not speak TLS."""
    tables = {
        name: {
            **settings.registries.get(name, {}),
            "insecure": True,
            "plain_http": settings.at(name).plain_http or not _may_speak_tls(name, settings),
        }
        for name in registries
    }
    return replace(settings, registries={**settings.registries, **tables})


def _may_speak_tls(registry: str, settings: Settings) -> bool:
    """Return whether to use TLS; also if nothing answers, which the push reports."""
    if is_loopback(registry):
        return True  # there both are tried
    from pusher.registry.http.tls import Trust
    from pusher.registry.http.transport import Transport

    transport = Transport(settings.timeouts, trust=lambda host: Trust(None, insecure=True))  # noqa: ARG005
    try:
        transport.send("GET", f"https://{api_host(registry)}/v2/")
    except NotARegistry:
        return False
    except PusherError:
        return True
    finally:
        transport.close()
    return True

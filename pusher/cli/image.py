"""Define options of enqueue and push: which part of IMAGE is pushed, and whether layers are split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pusher.cli import completers
from pusher.cli.options import SettingOption
from pusher.config import parse_size
from pusher.errors import InvalidOption

if TYPE_CHECKING:
    from pusher.config import Settings
    from pusher.sources.base import Choice

F = TypeVar("F", bound=Callable[..., Any])

_MIN_PART: Final = 1024 * 1024
"""Bytes of a layer's part: below that images would get very many layers."""


class ImageOption(SettingOption):
    """An option shown below the heading "Image"."""

    group = "Image"


_OPTIONS: Final = (
    click.option(
        "--platform",
        "platforms",
        multiple=True,
        metavar="OS/ARCH",
        cls=ImageOption,
        shell_complete=completers.platforms,
        help="Push only this platform, such as linux/arm64. May be repeated.",
    ),
    click.option(
        "-a",
        "--all",
        "every",
        is_flag=True,
        cls=ImageOption,
        help="Push all platforms that the image lists: the default, unless Docker has pulled only one.",
    ),
    click.option(
        "--skip-missing",
        is_flag=True,
        cls=ImageOption,
        help="Leave out platforms that the source does not have; the digest changes.",
    ),
    click.option(
        "--drop-attestations",
        is_flag=True,
        cls=ImageOption,
        help="Leave out the provenance and SBOM of BuildKit; the digest changes.",
    ),
    click.option(
        "--allow-nondistributable",
        is_flag=True,
        cls=ImageOption,
        help="Push foreign layers too, such as those of Windows images.",
    ),
    click.option(
        "--follow-links",
        is_flag=True,
        cls=ImageOption,
        help="Follow links that lead out of the image's folder, such as those of Bazel.",
    ),
    click.option(
        "--split-layers",
        metavar="SIZE",
        cls=ImageOption,
        help="Split layers larger than this, such as 4GiB; the digest changes.",
    ),
)


def image_options(function: F) -> F:
    """Add the options to a command that takes ``**flags``; ``read_image_options`` reads them."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def read_image_options(flags: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the arguments of ``worker.enqueue`` about the image. Raises InvalidOption."""
    # Without a flag, the settings of the run that sends the image determine kind and level.
    is_said = flags["compression"] is not None or flags["compression_level"] is not None
    return {
        "choice": _choice(flags),
        "split_layers": _split_size(flags),
        "compression": settings.compression if is_said else None,
        "compression_level": settings.compression_level if is_said else None,
    }


def _choice(flags: Mapping[str, Any]) -> Choice:
    from pusher.oci.platform import Platform
    from pusher.sources.base import Choice

    texts: Sequence[str] = flags["platforms"]
    if flags["every"] and texts:
        raise InvalidOption("--all and --platform cannot be used together", hint="leave out one of the two")
    try:
        platforms = tuple(Platform.parse(text) for text in texts)
    except ValueError as error:
        raise InvalidOption(
            f"--platform: {error}", hint="write it like linux/arm64 or linux/arm/v7"
        ) from None
    return Choice(
        platforms,
        every=flags["every"],
        skip_missing=flags["skip_missing"],
        drop_attestations=flags["drop_attestations"],
        foreign=flags["allow_nondistributable"],
        follow_links=flags["follow_links"],
    )


def _split_size(flags: Mapping[str, Any]) -> int | None:
    text = flags["split_layers"]
    return None if text is None else parse_size(text, "--split-layers", least=_MIN_PART)

"""Read the values of settings: sizes, times, numbers, switches, names. Errors name the option."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pusher.errors import InvalidOption, PusherError
from pusher.reference import RegistryPath
from pusher.text import quoted

MIB: Final = 1024 * 1024

MAX_BYTES: Final = 1 << 50
_DIGITS: Final = 30
_LONGEST_TIME: Final = 366 * 86400.0
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str, option: str, *, least: int = 0) -> int:
    """Return the bytes of ``50MiB``, ``100MB``, ``1.5G`` or ``1048576``.

    K, M, G, T and KiB, MiB, GiB, TiB are powers of 1024; KB, MB, GB, TB of 1000, as in registries'
    limits. Case is ignored. Raises InvalidOption, which names ``option``, for invalid text and
    for less than ``least`` bytes.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([kmgt]?)(i?b)?", text.strip().lower())
    if match is None or (match[3] == "ib" and not match[2]):
        raise InvalidOption(
            f"{option} is {quoted(text)}, which is not a size",
            hint="write it like 50MiB, 100MB, 1.5G or 1048576 (bytes)",
        )
    base = 1000 if match[2] and match[3] == "b" else 1024
    from decimal import Decimal  # exact, where float is not

    size = int(Decimal(match[1][:_DIGITS]) * base ** _POWERS[match[2]])
    if size > MAX_BYTES or len(match[1]) > _DIGITS:
        raise InvalidOption(f"{option} is {quoted(text)}, which is too much", hint="write 1024TiB or less")
    if size < least:
        shown, unit = (f"{least // MIB}MiB", "") if least % MIB == 0 else (f"{least}", " bytes")
        raise InvalidOption(
            f"{option} is {quoted(text)}, which is less than {shown}{unit}", hint=f"write {shown} or more"
        )
    return size


def size_parser(least: int) -> Callable[[str, str], int]:
    return lambda text, option: parse_size(text, option, least=least)


def parse_chunk_size(text: str, option: str) -> int | None:
    """Return bytes; None for ``auto``."""
    return None if text.strip().lower() == "auto" else parse_size(text, option, least=1000)


def integer_parser(least: int, most: int) -> Callable[[str, str], int]:
    def convert(text: str, option: str) -> int:
        if re.fullmatch(r"[0-9]{1,9}", text.strip(" ")) and least <= int(text) <= most:
            return int(text)
        raise InvalidOption(
            f"{option} is {quoted(text)}", hint=f"write a whole number from {least} to {most}"
        )

    return convert


def word_parser(*words: str) -> Callable[[str, str], str]:
    """Return a parser that accepts only these words."""

    def convert(text: str, option: str) -> str:
        if text.strip().lower() in words:
            return text.strip().lower()
        raise InvalidOption(
            f"{option} is {quoted(text)}", hint=f"write {', '.join(words[:-1])} or {words[-1]}"
        )

    return convert


_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_seconds(text: str, option: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([smh]?)", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise InvalidOption(
            f"{option} is {quoted(text)}, which is not a time", hint="write seconds like 30, or 90s, 15m, 2h"
        )
    time = float(match[1]) * _SECONDS[match[2]]
    if time > _LONGEST_TIME:
        raise InvalidOption(
            f"{option} is {quoted(text)}, which is more than a year", hint="write 24h or less"
        )
    return time


_AGES: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_age(text: str, option: str) -> float:
    """Return the seconds of ``7d``, ``12h``, ``2w`` or ``0``. Raises InvalidOption that names ``option``."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*([smhdw])|0", text.strip().lower())
    if match is None:
        raise InvalidOption(
            f"{option} is {quoted(text)}, which is not an age", hint="write it like 7d, 12h, 2w, or 0"
        )
    return min(float(match[1]) * _AGES[match[2]], 100 * _LONGEST_TIME) if match[1] else 0.0


def parse_switch(text: str, option: str) -> bool:
    value = text.strip().lower()
    if value in ("1", "true", "yes", "on"):
        return True
    if value in ("0", "false", "no", "off"):
        return False
    raise InvalidOption(
        f"{option} is {quoted(text)}, which is neither yes nor no", hint="write true or false"
    )


def parse_text(text: str, option: str) -> str:
    if not text.strip().isprintable():
        raise InvalidOption(
            f"{option} is {quoted(text)}, which contains invisible characters", hint="type it again"
        )
    if text.strip():
        return text.strip()
    raise InvalidOption(f"{option} is empty", hint="write a value, or leave it out")


def parse_command(text: str, option: str) -> str:
    """Return a command for the shell, which may have several lines."""
    if "\0" in text:
        raise InvalidOption(f"{option} contains a NUL character", hint="type it again")
    if text.strip():
        return text.strip()
    raise InvalidOption(f"{option} is empty", hint="write a command for /bin/sh, or leave it out")


def parse_path(text: str, option: str) -> Path:
    """Return a path; ``~`` and ``~user`` at its beginning are home folders."""
    try:
        return Path(parse_text(text, option)).expanduser()
    except RuntimeError:
        why = "there is no such user" if text.strip()[1:2] not in ("", "/") else "no home folder is known"
        raise InvalidOption(f"{option} is {quoted(text)}, and {why}", hint="write the whole path") from None


def user_home() -> Path:
    """Return the user's home folder. Raises InvalidOption if it is unknown."""
    return parse_path("~", "HOME")


def parse_registry_path(text: str, option: str) -> str:
    """Return ``host[:port][/namespace]``."""
    try:
        return str(RegistryPath.parse(text))
    except PusherError as error:
        raise InvalidOption(f"{option}: {error.message}", hint=error.hint) from None


def parse_host(text: str, option: str) -> str:
    """Return ``host[:port]`` of a registry."""
    name = parse_registry_path(text, option)
    if "/" in name:
        raise InvalidOption(
            f"{option} is {quoted(text)}, which is more than a registry",
            hint=f"write {name.partition('/')[0]}",
        )
    return name


def parse_hosts(text: str, option: str) -> frozenset[str]:
    """Return registries that are separated by commas."""
    return frozenset(parse_host(name.strip(), option) for name in text.split(",") if name.strip())

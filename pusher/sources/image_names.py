"""Compare image names as engines write them, and find the names nearest to a wrong one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from pusher.reference import has_tag
from pusher.text import printable, suggest

_IMPLIED: Final = re.compile(r"^(localhost/|((index\.)?docker\.io/)?(library/)?)")
_ID: Final = re.compile(r"(sha256:)?[0-9a-f]{12,64}")
_MAX_GUESSES: Final = 3


def normalize_name(name: str) -> str:
    """Return the short spelling with a tag: ``docker.io/library/app`` and ``localhost/app`` are
    ``app:latest``."""
    name = _IMPLIED.sub("", name, count=1)
    if "@" in name or ":" in name.rpartition("/")[2]:
        return name
    return f"{name}:latest"


def repository_of(name: str) -> str:
    """Return the name without its tag and digest."""
    name = name.partition("@")[0]
    return name.rpartition(":")[0] if has_tag(name) else name


def tag_of(name: str) -> str:
    """Return the tag of a name, ``latest`` if it has none; the name itself if it is only a tag, as in an OCI
    layout."""
    name = name.partition("@")[0]
    if has_tag(name):
        return name.rpartition(":")[2]
    return "latest" if "/" in name else name


def display_name(name: str) -> str:
    """Return a name from an archive, safe to print."""
    return printable(name, 200)


def choose_one(place: str, names: Iterable[str]) -> str:
    """Return a hint with the first image in ``place`` (``oci:FOLDER``) whose name can be typed."""
    commands = (suggest("choose one: {}", f"{place}:{name}") for name in (*names, "@0"))
    return next(filter(None, commands), "")


def is_image_id(name: str) -> bool:
    """Return whether ``name`` is an image ID, whole or cut to at least 12 digits: not a name to push to."""
    return _ID.fullmatch(name) is not None


def parse_number(name: str) -> int | None:
    """Return N if ``name`` is ``@N``: the N-th image from 0."""
    digits = name.removeprefix("@")
    return int(digits) if digits != name and digits.isdecimal() and len(digits) < 10 else None


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return the names among ``known`` that are most like ``name``."""
    spellings = {normalize_name(candidate): candidate for candidate in known}
    wanted = normalize_name(name)
    found = difflib.get_close_matches(wanted, spellings, n=_MAX_GUESSES, cutoff=0.6)
    tail = wanted.rpartition("/")[2].partition(":")[0]
    found += [spelling for spelling in spellings if tail == spelling.rpartition("/")[2].partition(":")[0]]
    return [spellings[spelling] for spelling in dict.fromkeys(found)][:_MAX_GUESSES]


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return a hint that names the nearest of ``known``, or some of them, or says that there are none."""
    if not known:
        return "it contains no named image"
    if near := nearest(name, known):
        return f"did you mean {' or '.join(near)}?"
    listed = ", ".join(sorted(known)[:5])
    return f"it has {listed}{' and others' if len(known) > 5 else ''}"

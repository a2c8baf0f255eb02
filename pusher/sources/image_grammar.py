"""Read how IMAGE is written: with a prefix, as a path, or as the name of an image in an engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pusher.sources.archive import docker_archive
from pusher.sources.archive.file import open_archive
from pusher.sources.engine.command import ENGINES
from pusher.sources.engine.disk.kinds import STORAGE_KINDS
from pusher.sources.folders import (
    DIR,
    LAYOUT,
    LAYOUT_ARCHIVE,
    holds_image,
    kind_of_folder,
    wrong_folder_error,
)
from pusher.sources.foreign_files import exists, typed_path

_PACKED: Final = ("gz", "xz", "zst", "bz2", "lz4", "lzma", "lz", "lzo", "Z", "br", "sz", "7z", "zip", "rar")
ARCHIVE_ENDINGS: Final = (
    ".tar",
    *(f".tar.{packed}" for packed in _PACKED),
    *(".tgz", ".txz", ".tzst", ".tbz2", ".tlz", ".zip", ".7z"),
)
PATH_STARTS: Final = ("/", "./", "../", "~/")
ENGINE_NAME: Final = re.compile(r"[a-z0-9]+(?:[._:/@-][A-Za-z0-9._:/@-]*[A-Za-z0-9_])?")
FILE_PREFIXES: Final = (docker_archive.KIND, LAYOUT, LAYOUT_ARCHIVE, DIR)
PREFIXES: Final = (*ENGINES, *STORAGE_KINDS, *FILE_PREFIXES)
ALSO_NAMES: Final = (LAYOUT, DIR)
"""Prefixes that an image in an engine may be called: ``oci:1.2`` is one, unless there is such a folder."""


def is_file(image: str) -> bool:
    """Return whether IMAGE is a file or folder, whose own name is known only after reading it."""
    prefix, colon, rest = image.partition(":")
    if colon and rest and prefix in PREFIXES:
        return is_file_prefix(prefix, rest)
    return is_path(image)


def is_file_prefix(prefix: str, rest: str) -> bool:
    return prefix in FILE_PREFIXES and (prefix not in ALSO_NAMES or _is_meant_as_path(rest))


def _is_meant_as_path(rest: str) -> bool:
    if "/" in rest or rest.startswith("~") or rest in (".", ".."):
        return True
    return exists(split_path(rest)[0]) or exists(Path(rest.partition("@")[0]))


def is_path(image: str) -> bool:
    """Return whether a path is meant: it is written like one, or exists and is a folder with an image in it
    or no name that an engine could have."""
    if image.startswith(PATH_STARTS) or image.lower().endswith(ARCHIVE_ENDINGS):
        return True
    return exists(Path(image)) and (
        "/" in image or ENGINE_NAME.fullmatch(image) is None or holds_image(Path(image))
    )


def split_path(text: str) -> tuple[Path, str | None]:
    """Return PATH and NAME of ``PATH[:NAME]``: the shortest PATH that exists, so that either may hold a
    colon."""
    cuts = [position for position, character in enumerate(text) if character == ":"]
    for cut in cuts:
        path = typed_path(text[:cut])
        if exists(path):
            return path, text[cut + 1 :] or None
    if not cuts or exists(typed_path(text)):
        return typed_path(text), None
    return typed_path(text[: cuts[0]]), text[cuts[0] + 1 :] or None


def kind_of_path(path: Path) -> str:
    """Return the source for a path, chosen by its content."""
    if exists(path) and path.is_dir():
        if (kind := kind_of_folder(path)) is None:
            raise wrong_folder_error(path)
        return kind
    with open_archive(path) as file:
        is_layout = "index.json" in file and "manifest.json" not in file
        return LAYOUT_ARCHIVE if is_layout else docker_archive.KIND

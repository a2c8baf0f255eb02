"""Detect the kind of image in a folder, and explain a folder that was given as something else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pusher.errors import ArchiveInvalid
from pusher.sources.pins import DirPin
from pusher.text import suggest

LAYOUT: Final = "oci"
LAYOUT_ARCHIVE: Final = "oci-archive"
"""A layout in a tar."""
DIR: Final = DirPin.kind
_IS: Final = {LAYOUT: "an OCI layout", DIR: "a folder that skopeo wrote with dir:"}
_LACKS: Final = {LAYOUT: "index.json", DIR: "manifest.json"}
_MAX_LOOKED_AT: Final = 1000
"""Entries of a folder among which one with an image is looked for."""


def kind_of_folder(folder: Path) -> str | None:
    """Return ``oci`` or ``dir``, judged by the files in the folder; None where it holds no image."""
    if any((folder / name).is_file() for name in ("oci-layout", "index.json")):
        return LAYOUT
    return DIR if (folder / "manifest.json").is_file() else None


def holds_image(folder: Path) -> bool:
    """Return whether a folder is certainly an image; web projects have a ``manifest.json``, too."""
    return (folder / "oci-layout").is_file() or all(
        (folder / name).is_file() for name in ("version", "manifest.json")
    )


def image_inside(folder: Path) -> Path | None:
    """Return the first folder in ``folder`` that is certainly an image."""
    try:
        children = [child for child, _ in zip(folder.iterdir(), range(_MAX_LOOKED_AT), strict=False)]
        return next((child for child in sorted(children) if holds_image(child)), None)
    except OSError:
        return None


def wrong_folder_error(folder: Path, kind: str | None = None) -> ArchiveInvalid:
    """Return the error for a folder that is not what the prefix ``kind`` means; None: not an archive file."""
    found = kind_of_folder(folder)
    if found == DIR and _is_unpacked_archive(folder):
        return unpacked_archive_error(folder)
    if found is not None and found != kind:
        wanted = f"and {kind}: means {_IS[kind]}" if kind else "not an archive file"
        return ArchiveInvalid(
            f"{folder} is {_IS[found]}, {wanted}", hint=suggest("use: {}", f"{found}:{folder}")
        )
    if inside := image_inside(folder):
        return ArchiveInvalid(
            f"{folder} is not an image, but the folder {inside.name} in it is",
            hint=suggest("use: {}", f"{kind_of_folder(inside)}:{inside}"),
        )
    if kind:
        return ArchiveInvalid(
            f"{folder} is not {_IS[kind]}: it has no {_LACKS[kind]}",
            hint=f"skopeo copy SOURCE {kind}:PATH{':TAG' * (kind == LAYOUT)} writes one",
        )
    return ArchiveInvalid(
        f"{folder} is a folder without an image: it has neither index.json nor manifest.json",
        hint="push an OCI layout, a folder that skopeo wrote with dir:, or an archive file",
    )


def unpacked_archive_error(folder: Path) -> ArchiveInvalid:
    """Return the error for a docker-archive that was unpacked."""
    return ArchiveInvalid(
        f"{folder} is an unpacked docker-archive, which cannot be pushed",
        hint=suggest("pack it again: tar -C {} -cf app.tar .", folder),
    )


def _is_unpacked_archive(folder: Path) -> bool:
    try:
        with (folder / "manifest.json").open("rb") as file:
            return file.read(100).lstrip().startswith(b"[")
    except OSError:
        return False

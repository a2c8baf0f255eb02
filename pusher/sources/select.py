"""From IMAGE as typed to a source, and from what a job pinned back to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pusher.errors import ImageUnsupported, ReferenceMalformed
from pusher.sources import archive
from pusher.sources.archive import ArchiveSource
from pusher.sources.base import Source
from pusher.sources.engine import EngineSource
from pusher.sources.engine_cli import DOCKER, ENGINES, PODMAN, is_installed

_ARCHIVE_ENDINGS: Final = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst")
_PATH_STARTS: Final = ("/", "./", "../", "~/")
_ENGINE_NAME: Final = re.compile(r"[a-z0-9]+([._:/@-]+[A-Za-z0-9_]+)*")
_NOT_YET: Final = ("oci", "oci-archive", "dir", "docker", "containers-storage", "ostree", "sif", "containerd")


def find(image: str) -> tuple[Source, str | None]:
    """The source that IMAGE names, and the image's own name, for use as the destination.

    ``docker-archive:PATH[:NAME]``, ``docker-daemon:NAME``, ``podman:NAME``, the path of an archive, or else a
    name in Docker (in Podman where only that is installed). Raises what ``Source.own_name`` raises.
    """
    source = _source(image)
    return source, source.own_name()


def reopen(pinned: Mapping[str, str | int | None]) -> Source:
    """The source of a job, from what ``SourceImage.pinned`` held when it was enqueued."""
    kind = str(pinned["kind"])
    name = pinned.get("name")
    if kind == archive.KIND:
        return ArchiveSource(Path(str(pinned["path"])), None if name is None else str(name), pinned=pinned)
    return EngineSource(ENGINES[kind], str(name), pinned=pinned)


def _source(image: str) -> Source:
    prefix, colon, rest = image.partition(":")
    if not image or (not rest and prefix in (archive.KIND, *ENGINES)):
        raise ReferenceMalformed(
            f"{image!r} names no image",
            hint=f"examples: app:1.2, {DOCKER.kind}:app:1.2, {PODMAN.kind}:app:1.2, {archive.KIND}:app.tar",
        )
    if colon and prefix == archive.KIND:
        return ArchiveSource(*_split(rest))
    if colon and prefix in ENGINES:
        return EngineSource(ENGINES[prefix], rest)
    if colon and prefix in _NOT_YET and (rest.startswith("/") or prefix not in ("docker", "oci", "dir")):
        raise ImageUnsupported(
            f"pusher cannot read images from {prefix}: yet",
            hint="it reads docker-archive:PATH, docker-daemon:NAME, podman:NAME, and names in Docker",
        )
    if is_path(image):
        return ArchiveSource(Path(image).expanduser())
    return EngineSource(PODMAN if is_installed(PODMAN) and not is_installed(DOCKER) else DOCKER, image)


def is_path(image: str) -> bool:
    """Whether a file is meant: it is written like one, or exists and is no name that an engine could have."""
    if image.startswith(_PATH_STARTS) or image.endswith(_ARCHIVE_ENDINGS):
        return True
    try:
        exists = Path(image).is_file()
    except (OSError, ValueError):
        return False
    return exists and ("/" in image or _ENGINE_NAME.fullmatch(image) is None)


def _split(text: str) -> tuple[Path, str | None]:
    """PATH and NAME of ``PATH[:NAME]``: the shortest PATH that exists, so that either may hold a colon."""
    cuts = [position for position, character in enumerate(text) if character == ":"]
    for cut in cuts:
        path = Path(text[:cut]).expanduser()
        if path.is_file():
            return path, text[cut + 1 :] or None
    if not cuts or Path(text).expanduser().exists():
        return Path(text).expanduser(), None
    return Path(text[: cuts[0]]).expanduser(), text[cuts[0] + 1 :] or None

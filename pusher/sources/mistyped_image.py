"""Refuse what is not an IMAGE, and say what was probably meant."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import unquote

from pusher.errors import (
    EngineMissing,
    EngineNotPermitted,
    EngineNotRunning,
    ImageNotFound,
    ImageUnsupported,
    InvalidOption,
    PusherError,
    ReferenceMalformed,
)
from pusher.reference import names_registry
from pusher.sources.archive import docker_archive
from pusher.sources.archive.stream import is_stream
from pusher.sources.engine.command import PODMAN
from pusher.sources.folders import LAYOUT, LAYOUT_ARCHIVE, holds_image, image_inside
from pusher.sources.foreign_files import exists, typed_path
from pusher.sources.image_grammar import (
    ALSO_NAMES,
    ARCHIVE_ENDINGS,
    ENGINE_NAME,
    FILE_PREFIXES,
    PATH_STARTS,
    PREFIXES,
    is_path,
    kind_of_path,
    split_path,
)
from pusher.text import suggest

_OF_OTHERS: Final = {
    "ocidir": LAYOUT,
    "oci-dir": LAYOUT,
    "oci-layout": LAYOUT,
    "tar": docker_archive.KIND,
    "docker-tar": docker_archive.KIND,
    "archive": docker_archive.KIND,
}
"""What regctl, oras, img and others call what pusher reads under another name."""
_NO_FILE: Final = (
    "a name that no file here has is taken for an image in Docker, Podman or nerdctl; "
    "write a file as ./PATH, an image in a registry as docker://NAME"
)
_NOT_OURS: Final = ("ostree", "sif", "containerd", "tarball", "atomic")


def refuse_malformed(image: str, prefix: str, rest: str) -> None:
    """Raise the error for what is not an IMAGE of this machine, whatever its prefix."""
    if not image or (not rest and prefix in PREFIXES and not is_path(image)):
        raise ReferenceMalformed(
            f"{image!r} names no image",
            hint=f"examples: app:1.2, {PODMAN.kind}:app:1.2, {docker_archive.KIND}:app.tar, oci:./folder",
        )
    if rest.startswith("//") and not is_path(prefix):
        raise _url_error(prefix, rest)
    if is_stream(image):
        raise InvalidOption(
            f"{image} is a pipe, which only push and enqueue read",
            hint="write the image to a file first: docker save -o app.tar app:1.2",
        )
    if prefix in ALSO_NAMES and rest == "-":
        raise InvalidOption(
            f"{prefix}: reads a folder, not a pipe",
            hint=f"write {LAYOUT_ARCHIVE}:- or {docker_archive.KIND}:-",
        )


def refuse_unknown_prefix(image: str, prefix: str, rest: str) -> None:
    """Raise the error for a prefix of other tools, or a mistyped one."""
    if prefix in _NOT_OURS:
        raise ImageUnsupported(
            f"pusher cannot read images from {prefix}:",
            hint=f"it reads {': '.join(PREFIXES)}: and docker://",
        )
    is_address = prefix == "file" and (rest.startswith(PATH_STARTS) or exists(Path(rest)))
    if is_address and not exists(typed_path(image)):
        raise _file_address_error(image)
    if (meant := _meant(prefix, rest)) is not None:
        raise ReferenceMalformed(
            f"unknown prefix {prefix}:", hint=suggest("did you mean {}?", f"{meant}:{rest}")
        )


def refuse_missing_prefix(image: str) -> None:
    """Raise the error for ``PATH:NAME`` and ``PATH@DIGEST``, which need a prefix."""
    path, name = split_path(image)
    if name and _is_meant(image, path):
        raise _without_prefix_error(image, f"{kind_of_path(path)}:{image}")
    before, at, chosen = image.partition("@")
    if at and _is_meant(image, typed_path(before)):
        raise _without_prefix_error(image, f"{kind_of_path(typed_path(before))}:{before}:@{chosen}")


def _without_prefix_error(image: str, meant: str) -> ReferenceMalformed:
    """Return the error for a path that is followed by the name or digest of an image in it."""
    return ReferenceMalformed(
        f"{image}: an image inside a file or folder needs a prefix",
        hint=suggest("use: {}", meant),
    )


def _url_error(scheme: str, rest: str) -> PusherError:
    """Return the error for an address: none is read but docker://."""
    address = f"{scheme}:{rest}"
    if scheme in ("http", "https", "ftp"):
        command = "curl -fL {} | pusher push - --to registry.example.com/team/app:1.2"
        return ImageUnsupported(f"pusher does not download from {scheme}://", hint=suggest(command, address))
    if scheme == "file":
        return _file_address_error(address)
    if (meant := _OF_OTHERS.get(scheme)) is not None:
        return ReferenceMalformed(
            f"unknown prefix {scheme}:", hint=suggest("did you mean {}?", f"{meant}:{rest[2:]}")
        )
    if scheme in PREFIXES:
        return ReferenceMalformed(
            f"{scheme}: is written without //", hint=suggest("did you mean {}?", f"{scheme}:{rest[2:]}")
        )
    return ImageUnsupported(
        f"pusher cannot read images from {scheme}://",
        hint=f"it reads {': '.join(PREFIXES)}: and docker://",
    )


def _file_address_error(address: str) -> ReferenceMalformed:
    """Return the error for ``file:`` with a path, of which the path alone is to be given."""
    path = unquote(address.removeprefix("file:"))
    for before, after in (("//localhost/", "/"), ("///", "/"), ("//", "")):
        if path.startswith(before):
            path = after + path.removeprefix(before).lstrip("/")
            break
    if not is_path(path):
        path = f"./{path}"
    return ReferenceMalformed(f"{address} is a URL, not a path", hint=suggest("use: {}", path))


def mention_path(image: str, error: PusherError) -> None:
    """Add to the hint of ``error`` that a file or folder in the working folder is called ``image``, where an
    engine of whom it was asked has no such image, or does not answer; and if it does not answer and there is
    no such file, why it was asked."""
    kinds = (EngineMissing, EngineNotPermitted, EngineNotRunning, ImageNotFound)
    prefix, colon, _ = image.partition(":")
    if not isinstance(error, kinds) or is_path(image) or (colon and prefix in PREFIXES):
        return
    path, _ = split_path(image)
    if not exists(path):
        if not isinstance(error, ImageNotFound) and not names_registry(image):
            error.hint = f"{error.hint}\n{_NO_FILE}"
        return
    if path.is_dir() and not holds_image(path):
        inside = image_inside(path)
        meant = "" if inside is None else f"{kind_of_path(inside)}:./{inside}"
    else:
        try:
            meant = f"./{image}" if str(path) == image else f"{kind_of_path(path)}:./{image}"
        except PusherError:
            return
    kind = "folder" if path.is_dir() else "file"
    if hint := meant and suggest(f"or, if the {kind} {{}} is meant, use: {{}}", path, meant):
        error.hint = f"{error.hint}\n{hint}"


def _is_meant(image: str, path: Path) -> bool:
    """Return whether PATH:NAME is meant, not an image of an engine beside a file of its name."""
    is_written_so = image.startswith(PATH_STARTS) or path.name.endswith(ARCHIVE_ENDINGS)
    return exists(path) and (is_written_so or not ENGINE_NAME.fullmatch(image) or holds_image(path))


def _meant(prefix: str, rest: str) -> str | None:
    """Return the prefix that is mistyped; None where it may be the name of an image in an engine."""
    found = typed_path(rest.partition(":")[0])
    if prefix.lower() in (*_OF_OTHERS, *FILE_PREFIXES) and prefix not in PREFIXES and exists(found):
        return kind_of_path(found)
    import difflib

    near = difflib.get_close_matches(prefix, [known for known in PREFIXES if "-" in known], 1, 0.8)
    is_name = ENGINE_NAME.fullmatch(f"{prefix}:{rest}") is not None and ":" not in rest
    if not near or prefix in PREFIXES or (is_name and not is_path(rest) and not exists(typed_path(rest))):
        return None
    return near[0]

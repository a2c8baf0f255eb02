"""Open the source that IMAGE names, or the source that a job's pin names.

Each source is imported when it is opened: a push needs one, and importing all of them takes a tenth of the
time of a push that finds everything at the registry.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from pusher.errors import (
    ArchiveInvalid,
    EngineMissing,
    EngineNotPermitted,
    EngineNotRunning,
    ImageNotFound,
    ImageUnsupported,
    InvalidOption,
    PusherError,
    ReferenceMalformed,
)
from pusher.sources.archive import docker_archive
from pusher.sources.archive.docker_archive import ArchiveSource
from pusher.sources.archive.file import open_archive
from pusher.sources.archive.stream import is_stream
from pusher.sources.base import EVERYTHING, BlobKeeper, Choice, Pin, Source
from pusher.sources.engine.command import DOCKER, ENGINES, PODMAN, Engine, is_installed
from pusher.sources.engine.disk.kinds import STORAGE_KINDS
from pusher.sources.folders import (
    DIR,
    LAYOUT,
    LAYOUT_ARCHIVE,
    holds_image,
    image_inside,
    kind_of_folder,
    refuse_folder,
)
from pusher.sources.foreign_files import exists, typed_path
from pusher.sources.pins import (
    ArchivePin,
    ContentStorePin,
    DirPin,
    EnginePin,
    LayoutPin,
    ListPin,
    SplitPin,
    StoragePin,
)
from pusher.sources.registry import names as registry_names
from pusher.sources.tagged import TaggedImage
from pusher.text import suggest

_PACKED: Final = ("gz", "xz", "zst", "bz2", "lz4", "lzma", "lz", "lzo", "Z", "br", "sz", "7z", "zip", "rar")
_ARCHIVE_ENDINGS: Final = (
    ".tar",
    *(f".tar.{packed}" for packed in _PACKED),
    *(".tgz", ".txz", ".tzst", ".tbz2", ".tlz", ".zip", ".7z"),
)
_PATH_STARTS: Final = ("/", "./", "../", "~/")
_ENGINE_NAME: Final = re.compile(r"[a-z0-9]+(?:[._:/@-][A-Za-z0-9._:/@-]*[A-Za-z0-9_])?")
_FILES: Final = (docker_archive.KIND, LAYOUT, LAYOUT_ARCHIVE, DIR)
_PREFIXES: Final = (*ENGINES, *STORAGE_KINDS, *_FILES)
_ALSO_NAMES: Final = (LAYOUT, DIR)
"""Prefixes that an image in an engine may be called: ``oci:1.2`` is one, unless there is such a folder."""
_OF_OTHERS: Final = {
    "ocidir": LAYOUT,
    "oci-dir": LAYOUT,
    "oci-layout": LAYOUT,
    "tar": docker_archive.KIND,
    "docker-tar": docker_archive.KIND,
    "archive": docker_archive.KIND,
}
"""What regctl, oras, img and others call what pusher reads under another name."""
_NOT_OURS: Final = ("ostree", "sif", "containerd", "tarball", "atomic")


def find(
    image: str,
    choice: Choice = EVERYTHING,
    *,
    docker_root: Path | None = None,
    keeper: BlobKeeper | None = None,
) -> tuple[Source, str | None]:
    """Return the source that IMAGE names, and the image's own name, for use as the destination.

    A prefix of containers-transports(5) says where it is; a path is recognised by looking into it; all else
    is a name in Docker, or in Podman or nerdctl where that is not installed. ``docker_root``: Docker's data
    root, if not the one that Docker reports or the usual one; ``keeper``: takes blobs that pass while the
    image is looked for. Raises the errors of ``Source.own_name``.
    """
    source = _source(image, choice, docker_root, keeper)
    return source, source.own_name()


def own_name(image: str) -> str | None:
    """Return the name by which IMAGE is pushed unless another is given; None: it has none.

    A file is opened for it; no engine and no registry is asked. Raises what ``Source.own_name`` raises.
    """
    if image.startswith(registry_names.PREFIX):
        return registry_names.own_name(registry_names.read_reference(image))
    return _source(image, EVERYTHING).own_name()


def list_tagged(image: str) -> list[TaggedImage]:
    """Return the images that an engine has under the name IMAGE, or the named ones of an archive or layout.

    Raises ImageUnsupported for a source that cannot list them, ImageNotFound if there is none, and what
    ``Source.resolve`` raises.
    """
    from pusher.sources.engine.save import EngineSource
    from pusher.sources.oci import LayoutSource

    source = _source(image, EVERYTHING)
    if not isinstance(source, EngineSource | ArchiveSource | LayoutSource):
        raise ImageUnsupported(
            f"--all-tags cannot list the images of {image}",
            hint="it lists those of a name in Docker, Podman or nerdctl, of an archive, an OCI layout, and "
            "of docker://REPOSITORY",
        )
    return source.list_tagged()


def reopen(pin: Pin) -> Source:
    """Return the source of a job, from its pin."""
    match pin:
        case ArchivePin():
            return ArchiveSource(pin.path, pin.name, pin=pin)
        case LayoutPin():
            from pusher.sources.oci import LayoutSource

            return LayoutSource(pin.kind, pin.path, pin.name, pin=pin)
        case DirPin():
            from pusher.sources.docker_dir import DirSource

            return DirSource(pin.path, pin=pin)
        case SplitPin():
            from pusher.sources.split.source import SplitSource

            return SplitSource(reopen(pin.inner), pin.size, reopen, pin=pin)
        case StoragePin():
            from pusher.sources.engine.disk.source import StorageSource

            return StorageSource(pin.kind, pin.name, pin=pin)
        case ListPin():
            from pusher.sources.engine.disk.podman_lists import PodmanListSource

            return PodmanListSource(pin)
        case ContentStorePin():
            from pusher.sources.engine.content_store import ContentStoreSource

            return ContentStoreSource.from_pin(pin)
        case EnginePin():
            from pusher.sources.engine.local_engine import LocalEngineSource

            return LocalEngineSource(ENGINES[pin.kind], pin.name, pin=pin)
    raise ValueError(f"no source on this machine is of the kind {pin.kind}")


def _source(
    image: str, choice: Choice, docker_root: Path | None = None, keeper: BlobKeeper | None = None
) -> Source:
    prefix, colon, rest = image.partition(":")
    _refuse_malformed(image, prefix, rest)
    if colon:
        if _is_file_prefix(prefix, rest):
            return _file(prefix, *_split(rest), choice)
        if prefix in STORAGE_KINDS:
            from pusher.sources.engine.disk.source import StorageSource

            return StorageSource(prefix, rest, choice, docker_root=docker_root)
        if prefix in ENGINES:
            return _engine(ENGINES[prefix], rest, choice, docker_root, keeper)
        _refuse_unknown_prefix(image, prefix, rest)
    if not exists(typed_path(image)):
        _refuse_missing_prefix(image)
    if is_path(image):
        where = typed_path(image)
        return _file(_kind_of(where), where, None, choice)
    installed = [engine for engine in ENGINES.values() if is_installed(engine)]
    engine = installed[0] if installed else DOCKER
    return _engine(engine, image, choice, docker_root, keeper)


def _engine(
    engine: Engine, name: str, choice: Choice, docker_root: Path | None, keeper: BlobKeeper | None
) -> Source:
    from pusher.sources.engine.local_engine import LocalEngineSource

    return LocalEngineSource(engine, name, choice, docker_root=docker_root, keeper=keeper)


def _refuse_malformed(image: str, prefix: str, rest: str) -> None:
    """Raise the error for what is not an IMAGE of this machine, whatever its prefix."""
    if not image or (not rest and prefix in _PREFIXES and not is_path(image)):
        raise ReferenceMalformed(
            f"{image!r} names no image",
            hint=f"examples: app:1.2, {PODMAN.kind}:app:1.2, {docker_archive.KIND}:app.tar, oci:./folder",
        )
    if rest.startswith("//") and not is_path(prefix):
        raise _url(prefix, rest)
    if is_stream(image):
        raise InvalidOption(
            f"{image} is a pipe, which only push and enqueue read",
            hint="write the image to a file first: docker save -o app.tar app:1.2",
        )
    if prefix in _ALSO_NAMES and rest == "-":
        raise InvalidOption(
            f"{prefix}: reads a folder, not a pipe",
            hint=f"write {LAYOUT_ARCHIVE}:- or {docker_archive.KIND}:-",
        )


def _refuse_unknown_prefix(image: str, prefix: str, rest: str) -> None:
    """Raise the error for a prefix of other tools, or a mistyped one."""
    if prefix in _NOT_OURS:
        raise ImageUnsupported(
            f"pusher cannot read images from {prefix}:",
            hint=f"it reads {': '.join(_PREFIXES)}: and docker://",
        )
    is_address = prefix == "file" and (rest.startswith(_PATH_STARTS) or exists(Path(rest)))
    if is_address and not exists(typed_path(image)):
        raise _file_address(image)
    if (meant := _meant(prefix, rest)) is not None:
        raise ReferenceMalformed(
            f"unknown prefix {prefix}:", hint=suggest("did you mean {}?", f"{meant}:{rest}")
        )


def _refuse_missing_prefix(image: str) -> None:
    """Raise the error for ``PATH:NAME`` and ``PATH@DIGEST``, which need a prefix."""
    path, name = _split(image)
    if name and _is_meant(image, path):
        raise _without_prefix(image, f"{_kind_of(path)}:{image}")
    before, at, chosen = image.partition("@")
    if at and _is_meant(image, typed_path(before)):
        raise _without_prefix(image, f"{_kind_of(typed_path(before))}:{before}:@{chosen}")


def _without_prefix(image: str, meant: str) -> ReferenceMalformed:
    """Return the error for a path that is followed by the name or digest of an image in it."""
    return ReferenceMalformed(
        f"{image}: an image inside a file or folder needs a prefix",
        hint=suggest("use: {}", meant),
    )


def _url(scheme: str, rest: str) -> PusherError:
    """Return the error for an address: none is read but docker://."""
    address = f"{scheme}:{rest}"
    if scheme in ("http", "https", "ftp"):
        command = "curl -fL {} | pusher push - --to registry.example.com/team/app:1.2"
        return ImageUnsupported(f"pusher does not download from {scheme}://", hint=suggest(command, address))
    if scheme == "file":
        return _file_address(address)
    if (meant := _OF_OTHERS.get(scheme)) is not None:
        return ReferenceMalformed(
            f"unknown prefix {scheme}:", hint=suggest("did you mean {}?", f"{meant}:{rest[2:]}")
        )
    if scheme in _PREFIXES:
        return ReferenceMalformed(
            f"{scheme}: is written without //", hint=suggest("did you mean {}?", f"{scheme}:{rest[2:]}")
        )
    return ImageUnsupported(
        f"pusher cannot read images from {scheme}://",
        hint=f"it reads {': '.join(_PREFIXES)}: and docker://",
    )


def _file_address(address: str) -> ReferenceMalformed:
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
    engine of whom it was asked has no such image, or does not answer."""
    kinds = (EngineMissing, EngineNotPermitted, EngineNotRunning, ImageNotFound)
    if not isinstance(error, kinds) or is_path(image) or image.startswith(_PREFIXES):
        return
    path, _ = _split(image)
    if not exists(path):
        return
    if path.is_dir() and not holds_image(path):
        inside = image_inside(path)
        meant = "" if inside is None else f"{_kind_of(inside)}:./{inside}"
    else:
        try:
            meant = f"./{image}" if str(path) == image else f"{_kind_of(path)}:./{image}"
        except PusherError:
            return
    kind = "folder" if path.is_dir() else "file"
    if hint := meant and suggest(f"or, if the {kind} {{}} is meant, use: {{}}", path, meant):
        error.hint = f"{error.hint}\n{hint}"


def _is_meant(image: str, path: Path) -> bool:
    """Return whether PATH:NAME is meant, not an image of an engine beside a file of its name."""
    is_written_so = image.startswith(_PATH_STARTS) or path.name.endswith(_ARCHIVE_ENDINGS)
    return exists(path) and (is_written_so or not _ENGINE_NAME.fullmatch(image) or holds_image(path))


def _meant(prefix: str, rest: str) -> str | None:
    """Return the prefix that is mistyped; None where it may be the name of an image in an engine."""
    found = typed_path(rest.partition(":")[0])
    if prefix.lower() in (*_OF_OTHERS, *_FILES) and prefix not in _PREFIXES and exists(found):
        return _kind_of(found)
    import difflib

    near = difflib.get_close_matches(prefix, [known for known in _PREFIXES if "-" in known], 1, 0.8)
    is_name = _ENGINE_NAME.fullmatch(f"{prefix}:{rest}") is not None and ":" not in rest
    if not near or prefix in _PREFIXES or (is_name and not is_path(rest) and not exists(typed_path(rest))):
        return None
    return near[0]


def _file(kind: str, path: Path, name: str | None, choice: Choice) -> Source:
    before, at, chosen = str(path).rpartition("@")
    if at and not exists(path) and exists(Path(before)):
        digest = f"@{chosen}" + (f":{name}" if name else "")
        raise ReferenceMalformed(
            f"{kind}:{before}{digest} has no colon before the digest",
            hint=suggest("use: {}", f"{kind}:{before}:{digest}"),
        )
    if kind in _ALSO_NAMES and exists(path) and path.is_file():
        typed = f"{_kind_of(path)}:{path}" + (f":{name}" if name else "")
        raise ArchiveInvalid(f"{path} is a file, and {kind}: means a folder", hint=suggest("use: {}", typed))
    if kind == docker_archive.KIND:
        return ArchiveSource(path, name, choice)
    if kind == DIR:
        if name is not None:
            raise InvalidOption(
                f"{kind}:{path} holds one image, which has no name", hint=f"leave out :{name}"
            )
        from pusher.sources.docker_dir import DirSource

        return DirSource(path, choice)
    from pusher.sources.oci import LayoutSource

    return LayoutSource(kind, path, name, choice)


def _kind_of(path: Path) -> str:
    """Return the source for a path, chosen by its content."""
    if exists(path) and path.is_dir():
        if (kind := kind_of_folder(path)) is None:
            raise refuse_folder(path)
        return kind
    with open_archive(path) as file:
        is_layout = "index.json" in file and "manifest.json" not in file
        return LAYOUT_ARCHIVE if is_layout else docker_archive.KIND


def is_file(image: str) -> bool:
    """Return whether IMAGE is a file or folder, whose own name is known only after reading it."""
    prefix, colon, rest = image.partition(":")
    if colon and rest and prefix in _PREFIXES:
        return _is_file_prefix(prefix, rest)
    return is_path(image)


def _is_file_prefix(prefix: str, rest: str) -> bool:
    return prefix in _FILES and (prefix not in _ALSO_NAMES or _is_meant_as_path(rest))


def _is_meant_as_path(rest: str) -> bool:
    if "/" in rest or rest.startswith("~") or rest in (".", ".."):
        return True
    return exists(_split(rest)[0]) or exists(Path(rest.partition("@")[0]))


def is_path(image: str) -> bool:
    """Return whether a path is meant: it is written like one, or exists and is a folder with an image in it
    or no name that an engine could have."""
    if image.startswith(_PATH_STARTS) or image.lower().endswith(_ARCHIVE_ENDINGS):
        return True
    return exists(Path(image)) and (
        "/" in image or _ENGINE_NAME.fullmatch(image) is None or holds_image(Path(image))
    )


def _split(text: str) -> tuple[Path, str | None]:
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

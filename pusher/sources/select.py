"""Open the source that IMAGE names, or the source that a job's pin names.

Each source is imported when it is opened: a push needs one, and importing all of them takes a tenth of the
time of a push that finds everything at the registry.
"""

from __future__ import annotations

from pathlib import Path

from pusher.errors import (
    ArchiveInvalid,
    ImageUnsupported,
    InvalidOption,
    ReferenceMalformed,
)
from pusher.sources.archive import docker_archive
from pusher.sources.archive.docker_archive import ArchiveSource
from pusher.sources.base import EVERYTHING, BlobKeeper, Choice, Pin, Source
from pusher.sources.engine.command import DOCKER, ENGINES, Engine, is_installed
from pusher.sources.engine.disk.kinds import STORAGE_KINDS
from pusher.sources.folders import (
    DIR,
)
from pusher.sources.foreign_files import exists, typed_path
from pusher.sources.image_grammar import (
    ALSO_NAMES,
    is_file_prefix,
    is_path,
    kind_of_path,
    split_path,
)
from pusher.sources.mistyped_image import refuse_malformed, refuse_missing_prefix, refuse_unknown_prefix
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
    refuse_malformed(image, prefix, rest)
    if colon:
        if is_file_prefix(prefix, rest):
            return _file(prefix, *split_path(rest), choice)
        if prefix in STORAGE_KINDS:
            from pusher.sources.engine.disk.source import StorageSource

            return StorageSource(prefix, rest, choice, docker_root=docker_root)
        if prefix in ENGINES:
            return _engine(ENGINES[prefix], rest, choice, docker_root, keeper)
        refuse_unknown_prefix(image, prefix, rest)
    if not exists(typed_path(image)):
        refuse_missing_prefix(image)
    if is_path(image):
        where = typed_path(image)
        return _file(kind_of_path(where), where, None, choice)
    installed = [engine for engine in ENGINES.values() if is_installed(engine)]
    engine = installed[0] if installed else DOCKER
    return _engine(engine, image, choice, docker_root, keeper)


def _engine(
    engine: Engine, name: str, choice: Choice, docker_root: Path | None, keeper: BlobKeeper | None
) -> Source:
    from pusher.sources.engine.local_engine import LocalEngineSource

    return LocalEngineSource(engine, name, choice, docker_root=docker_root, keeper=keeper)


def _file(kind: str, path: Path, name: str | None, choice: Choice) -> Source:
    before, at, chosen = str(path).rpartition("@")
    if at and not exists(path) and exists(Path(before)):
        digest = f"@{chosen}" + (f":{name}" if name else "")
        raise ReferenceMalformed(
            f"{kind}:{before}{digest} has no colon before the digest",
            hint=suggest("use: {}", f"{kind}:{before}:{digest}"),
        )
    if kind in ALSO_NAMES and exists(path) and path.is_file():
        typed = f"{kind_of_path(path)}:{path}" + (f":{name}" if name else "")
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

"""Check this machine: settings, image, job store, disk."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from enum import Enum
from pathlib import Path

from pusher.config import Settings
from pusher.doctor.check import Check, Skipped
from pusher.doctor.file_systems import describe_home, describe_spool
from pusher.doctor.machines import compare_machines
from pusher.doctor.target import RegistryTarget, Target, TargetKind, api_url
from pusher.errors import DiskFull, PusherError, home_error
from pusher.oci.digest import short
from pusher.oci.index import Index
from pusher.oci.media_types import CONFIGS
from pusher.sources.archive.docker_archive import ArchiveSource
from pusher.sources.archive.file import open_archive
from pusher.sources.base import Source, SourceImage
from pusher.sources.docker_dir import DirSource
from pusher.sources.engine.command import run_command
from pusher.sources.engine.disk.source import StorageSource
from pusher.sources.engine.save import EngineSource
from pusher.sources.oci import LayoutSource
from pusher.sources.registry.source import RegistrySource
from pusher.spool.disk import room_at
from pusher.spool.spool import Spool
from pusher.store import schema
from pusher.store.store import Store
from pusher.store.url import file_of, label_of, parse_url
from pusher.text import suggest
from pusher.units import human_bytes
from pusher.worker.sources import open_source

_MAX_PLATFORMS = 5


class _Measure(Enum):
    """What a number of bytes says of an image's layers; the values are words before and after it."""

    EXACT = "", ""
    UNCOMPRESSED = "at most ", " before compression"
    ARCHIVE = "about ", " in a compressed archive"


class LocalChecks:
    """Checks of this machine. Later checks use their results: ``destination``, ``store``, ``sizes``."""

    def __init__(self, target: Target, settings: Settings, config_error: PusherError | None) -> None:
        self.destination: RegistryTarget | None = None
        self.store: Store | None = None
        self.sizes: dict[str, int] = {}
        """Bytes of the image's blobs that exist already, by digest."""
        self._target = target
        self._settings = settings
        self._config_error = config_error
        self._own_name: str | None = None
        """The name that a file or folder gives its image."""
        self._source: Source | None = None
        self._image: SourceImage | None = None
        self._stack = ExitStack()

    def checks(self) -> list[Check]:
        """Return the checks in their order: a file that names the destination is opened first."""
        target = self._target
        needs = ("reference",) if target.kind is not TargetKind.FILE and target.to is None else ()
        reference = Check(
            "reference", "reading it", self._read_reference, ("image",) if target.needs_file_name else ()
        )
        image = Check("image", f"looking for {target.text}", self._find_image, needs)
        return [
            Check("config", "reading the settings", self._check_settings),
            *((image, reference) if target.needs_file_name else (reference, image)),
            Check("job store", "opening it", self._open_store),
            Check("disk", f"writing to {self._settings.home}", self._check_disk),
            *self._checks_of_machines(),
        ]

    def close(self) -> None:
        """Close the job store."""
        self._stack.close()

    def _checks_of_machines(self) -> list[Check]:
        """Return the check of what machines share; a SQLite file belongs to one."""
        if not self._settings.database_url.startswith("postgres"):
            return []
        return [Check("machines", "comparing machines", self._compare_machines, ("job store",))]

    def _compare_machines(self) -> str:
        assert self.store is not None  # noqa: S101 - the check of the job store has passed
        return compare_machines(self.store, self._settings)

    def _check_settings(self) -> str:
        if self._config_error is not None:
            raise self._config_error
        return f"the settings are valid; PUSHER_HOME is {self._settings.home}"

    def _read_reference(self) -> str:
        target = self._target
        if target.kind is TargetKind.MACHINE:
            raise Skipped(
                "because neither an image nor a registry was given",
                hint="pusher doctor registry.example.com/team/app:1.2",
            )
        self.destination = found = target.destination(self._own_name)
        base = api_url(found.registry, plain_http=self._settings.at(found.registry).plain_http)
        if target.kind is TargetKind.REGISTRY:
            return f"{target.text} is read as a registry: {found.registry}, asked at {base}"
        blobs = f"blobs go to {base}{found.repository}/blobs/uploads/"
        if target.kind is TargetKind.REPOSITORY:
            return (
                f"{target.text} has no tag and is read as a repository: registry {found.registry}, "
                f"repository {found.repository}; {blobs}"
            )
        return (
            f"{target.text} is read as {target.kind.value} to be pushed to registry {found.registry}, "
            f"repository {found.repository}, tag {found.tag}; {blobs}, "
            f"its manifest to {base}{found.repository}/manifests/{found.tag}"
        )

    def _find_image(self) -> str:
        target = self._target
        if not target.has_image:
            hint = (
                suggest("pusher doctor {}", f"{target.text}:latest")
                if target.kind is TargetKind.REPOSITORY
                else ""
            )
            raise Skipped("because no image was given", hint=hint)
        if target.kind is TargetKind.PIPE:
            raise Skipped("because a pipe can be read only once: push and enqueue check what comes from it")
        destination = target.resolve() if target.kind is TargetKind.REMOTE else None
        opened = open_source(target.text, store=None, settings=self._settings, destination=destination)
        with opened as (source, self._own_name):
            self._source = source
            self._image = image = source.resolve()
        self.sizes = {layer.blob.digest: layer.blob.size for layer in image.layers if layer.blob is not None}
        size, measure = _compressed_size(image), _Measure.EXACT
        if size is None:
            size, measure = self._bytes_needed()
        amount = f", {human_bytes(size)}{measure.value[1]}" if size else ""
        return f"found in {_place_of(source)}: {_describe(image)}{amount}"

    def _open_store(self) -> str:
        url = parse_url(self._settings.database_url)
        label = label_of(url)
        if url.is_sqlite and not _exists(file_of(url)):
            _try_to_write(file_of(url).parent)
            return f"there is none yet; the first push creates it at {label}"
        self.store = self._stack.enter_context(Store.open(self._settings.database_url))
        self.store.check_writable()
        counts = self.store.jobs.counts()
        states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        jobs = f"jobs: {states}" if states else "no jobs"
        return f"{label} can be written and has schema {schema.head()}; {jobs}"

    def _check_disk(self) -> str:
        facts = [self._check_room(), describe_home(self._settings), describe_spool(self._settings)]
        return "; ".join(filter(None, facts))

    def _check_room(self) -> str:
        spool = self._settings.spool
        free = max(0, room_at(_try_to_write(spool)))
        size, measure = self._bytes_needed()
        needed = max(0, (size or 0) - self._bytes_in_spool(measure))
        room = f"room for {human_bytes(free)}"
        if not needed:
            return f"{spool} can be written and has {room}"
        if needed > free:
            raise DiskFull(
                f"{spool} has {room}, and the layers that must be stored there have "
                f"{human_bytes(needed)}{measure.value[1]}",
                hint="free some space there, or move PUSHER_HOME to a larger disk: export PUSHER_HOME=FOLDER",
            )
        return (
            f"{spool} can be written and has {room}; the layers need {measure.value[0]}{human_bytes(needed)}"
        )

    def _bytes_needed(self) -> tuple[int | None, _Measure]:
        """Return the bytes that the layers may take in the spool (None: unknown), and how they are measured.

        Layers that are uploaded from their file, or mounted, take none. Uncompressed sizes are an upper
        bound, and layers take about as many bytes as a compressed archive of them.
        """
        image, source = self._image, self._source
        if image is None:
            return None, _Measure.UNCOMPRESSED
        if _compressed_size(image) is not None:
            to = self.destination
            if isinstance(source, RegistrySource) and to and to.registry == source.reference.registry:
                return 0, _Measure.EXACT
            sent = (layer.blob.size for layer in image.layers if layer.blob and not layer.file)
            return sum(sent), _Measure.EXACT
        if isinstance(source, ArchiveSource):
            with open_archive(source.path) as archive:
                measure = _Measure.ARCHIVE if archive.is_compressed else _Measure.UNCOMPRESSED
            return source.path.stat().st_size, measure
        if isinstance(source, EngineSource) and not image.drafts:
            return _size_in_engine(source), _Measure.UNCOMPRESSED
        return None, _Measure.UNCOMPRESSED

    def _bytes_in_spool(self, measure: _Measure) -> int:
        """Return the bytes of layers that are already in the spool, counted as in ``_bytes_needed``."""
        spool, image = self._settings.spool, self._image
        if self.store is None or image is None or not spool.is_dir():
            return 0
        blobs = Spool(spool)
        final = [layer.blob for layer in image.layers if layer.blob and not layer.file]
        total = sum(blob.size for blob in final if blobs.path(blob.digest).exists())
        streams = {layer.key for layer in image.layers if layer.blob is None}
        for known in self.store.known_blobs.of_layers(streams).values():
            kept = next((blob for blob in known if blobs.path(blob.digest).exists()), None)
            if kept is not None:
                total += (kept.uncompressed_size or 0) if measure is _Measure.UNCOMPRESSED else kept.size
        return total


def _compressed_size(image: SourceImage) -> int | None:
    """Return the compressed bytes of the image's layers; None if some are not compressed yet."""
    sizes = [layer.blob.size for layer in image.layers if layer.blob is not None]
    return sum(sizes) if len(sizes) == len(image.layers) else None


def _place_of(source: Source) -> str:
    """Describe the location of an image, for users."""
    if isinstance(source, EngineSource):
        return source.engine.title
    if isinstance(source, ArchiveSource | LayoutSource | DirSource):
        return str(source.path)
    if isinstance(source, StorageSource):
        return str(source.root)
    assert isinstance(source, RegistrySource)  # noqa: S101 - `open_source` gives no other
    return source.reference.registry


def _describe(image: SourceImage) -> str:
    """Describe the content of an image; for an index, its platforms."""
    layers = [layer for layer in image.layers if layer.blob is None or layer.blob.media_type not in CONFIGS]
    counted = f"{len(layers)} layer" + ("" if len(layers) == 1 else "s")
    indexes = [document for document in image.all_documents if isinstance(document, Index)]
    if not indexes:
        return f"{short(image.config_digest)}, {counted}"
    nested = {index.digest for index in indexes}
    listed = {child.digest: child for index in indexes for child in index.children}
    names = [
        str(child) for digest, child in listed.items() if not child.is_attestation and digest not in nested
    ]
    shown = ", ".join(names[:_MAX_PLATFORMS]) + (", ..." if len(names) > _MAX_PLATFORMS else "")
    counted_platforms = f"{len(names)} platform" + ("" if len(names) == 1 else "s")
    return f"index {short(indexes[-1].digest)}, {counted_platforms} ({shown}), {counted}"


def _size_in_engine(source: EngineSource) -> int | None:
    """Return the image's uncompressed size in Docker or Podman."""
    try:
        answer = run_command(source.engine, "image", "inspect", "--format", "{{.Size}}", "--", source.name)
        return int(answer)
    except (PusherError, ValueError):
        return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise _write_error(path, error) from error


def _try_to_write(folder: Path) -> Path:
    """Write a byte in ``folder``, or in the nearest folder above it that exists, and return that one.

    Raises the errors of ``home_error``.
    """
    place = folder
    while not _exists(place) and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place, buffering=0) as file:
            file.write(b"\0")
    except OSError as error:
        raise _write_error(place, error) from error
    return place


def _write_error(path: Path, error: OSError) -> PusherError:
    return home_error(
        error,
        path,
        f"{path} cannot be written: {error.strerror or error}",
        hint="check its owner and permissions, or choose another folder: export PUSHER_HOME=FOLDER",
    )

"""Read images in Docker, Podman and containerd from the output of `docker save` and the like."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.errors import (
    ArchiveInvalid,
    ArchiveTruncated,
    EngineFailed,
    ImageChanged,
    ImageNotFound,
    InvalidOption,
    PusherError,
    StorageDoubtful,
)
from pusher.oci.bounded_json import load_json
from pusher.oci.digest import is_sha256
from pusher.oci.platform import Platform
from pusher.reference import has_tag
from pusher.sources.base import EVERYTHING, BlobKeeper, Choice, ExportPiece, Source, SourceImage, SourceLayer
from pusher.sources.engine.command import (
    DOCKER,
    NERDCTL,
    PODMAN,
    CommandOutput,
    Engine,
    is_installed,
    run_command,
)
from pusher.sources.engine.podman_manifest import is_manifest_list, list_error
from pusher.sources.engine.save_stream import image_in_stream, pinned_image, scan_save_stream
from pusher.sources.entry_names import pieces
from pusher.sources.image_names import did_you_mean, is_image_id, normalize_name, repository_of, tag_of
from pusher.sources.pins import EnginePin
from pusher.sources.platforms import check_platform
from pusher.sources.tagged import TaggedImage
from pusher.sources.tar import reader
from pusher.text import suggest

_SNAPSHOTTER: Final = "io.containerd.snapshotter"
"""In the driver status of `docker info` if images are in containerd's image store."""


@dataclass(frozen=True)
class _Inspection:
    """What `image inspect` prints."""

    id: str
    """The digest of the config, or ``target``: what the engine is asked for."""
    diff_ids: tuple[str, ...]
    platform: Platform | None
    target: str | None = None
    """The digest of the manifest or index, in containerd's image store."""


class EngineSource:
    """One image in an engine. Once pinned it is asked for by its ID, so a tag moved later changes nothing."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        choice: Choice = EVERYTHING,
        *,
        pin: EnginePin | None = None,
        keeper: BlobKeeper | None = None,
    ) -> None:
        """``keeper`` gets the blobs that pass while manifests are looked for."""
        self.engine = engine
        self._choice = choice if pin is None else pin.choice
        self.name = name
        self._pin = pin
        self._keeper = keeper
        self._daemon = engine.daemon() if pin is None else pin.daemon

    def own_name(self) -> str | None:
        """Return the name as typed; None for an image ID."""
        return None if is_image_id(self.name) else self.name

    def list_tagged(self) -> list[TaggedImage]:
        """Return the images of this repository, in the engine's order."""
        if has_tag(self.name) or "@" in self.name or is_image_id(self.name):
            raise InvalidOption(
                f"--all-tags pushes every tag of a repository, and {self.name} is one image",
                hint=suggest("leave out the tag: {}", f"{self.engine.kind}:{repository_of(self.name)}"),
            )
        output = run_command(self.engine, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", self.name)
        names = [name for name in dict.fromkeys(output.split()) if not name.endswith(":<none>")]
        wanted = repository_of(normalize_name(self.name))
        found = [name for name in names if repository_of(normalize_name(name)) == wanted]
        if not found:
            raise ImageNotFound(
                f"{self.engine.title} has no tagged image of {self.name}", hint=self._not_found_hint()
            )
        return [TaggedImage(f"{self.engine.kind}:{name}", tag_of(name)) for name in found]

    def resolve(self) -> SourceImage:
        """Ask the engine for ID and diff IDs; a pinned image is known without asking.

        In containerd's image store the manifests exist, but inspect does not print them. Where its content
        cannot be read, they are read from one `save`, which is stopped after the last of them unless blobs
        are to be kept.
        """
        if self._pin is not None:
            return _image(self._pin)
        found = self._inspect()
        if found is None:
            return self._from_list()
        pin = EnginePin(self.engine.kind, self.name, found.id, found.diff_ids, self._choice, self._daemon)
        if found.target is None:
            check_platform(found.platform, self._choice, f"{self.engine.title}'s {self.name}")
            return _image(pin)
        stored = self._from_content_store(found.target, found.platform) or self._from_content_api(
            pin, found.platform
        )
        if stored is not None:
            return stored
        with self._save(found.id) as (_, stream):
            saved = scan_save_stream(stream, found.target, self._keeper)
        where = f"`{self.engine.command} save {self.name}`"
        return image_in_stream(
            saved,
            found.target,
            self._choice,
            own=found.platform,
            diff_ids=found.diff_ids,
            where=where,
            pin=pin,
        )

    def _from_content_store(self, target: str, own: Platform | None) -> SourceImage | None:  # noqa: ARG002
        """Return the image with all its platforms if it can be read from disk; ``own``: this machine's."""
        return None

    def _from_content_api(self, pin: EnginePin, own: Platform | None) -> SourceImage | None:
        """Return the image with all its platforms if Docker lets its content store be read."""
        if self.engine is not DOCKER:
            return None
        from pusher.sources.engine.content_api import DockerContent, image_in_content

        try:
            with DockerContent(self._daemon) as content:
                return image_in_content(content, pin, own=own)
        except StorageDoubtful:
            return None

    def _from_list(self) -> SourceImage:
        """Return the images of a manifest list of Podman. Raises ImageUnsupported if they cannot be read."""
        raise list_error(self.name, "which can only be read from its disk")

    @contextmanager
    def export(
        self,
        wanted: Collection[str],
        *,
        skip_sizes: Collection[int] = (),
        check_stop: Callable[[], None] | None = None,
    ) -> Iterator[Iterator[ExportPiece]]:
        """See ``Source.export``. Raises ImageChanged if the image was deleted after it was enqueued."""
        image = self.resolve()
        uncompressed = () if image.root else tuple(layer.key for layer in image.layers)
        missing = set(wanted)
        assert isinstance(image.pin, EnginePin)  # noqa: S101 - any other is reopened as another source
        with self._save(image.pin.id, check_stop) as (output, source):

            def export_pieces() -> Iterator[ExportPiece]:
                yield from pieces(source, missing, uncompressed, skip_sizes)
                if missing:
                    output.finish(complete=source.at_end_marker)

            yield export_pieces()

    def fall_back(self) -> Source | None:
        """Return None: there is no other way."""
        return None

    @contextmanager
    def _save(
        self, image_id: str, check_stop: Callable[[], None] | None = None
    ) -> Iterator[tuple[CommandOutput, reader.PipeInput]]:
        arguments = (*self.engine.save, *self._platform_option(), image_id)
        with CommandOutput(self.engine, *arguments, daemon=self._daemon, check_stop=check_stop) as output:
            try:
                name = f"the output of `{self.engine.command} save`"
                yield output, reader.PipeInput(output.read, name, output.read_into)
            except (ArchiveTruncated, ArchiveInvalid) as error:
                raise self._explain_failure(output.error(), image_id) from error
            except (EngineFailed, ImageNotFound) as error:
                raise self._explain_failure(error, image_id) from error

    def _platform_option(self) -> tuple[str, ...]:
        """Return the options that select platforms: nerdctl needs them, Docker saves all it has."""
        if self.engine is not NERDCTL:
            return ()
        if self._choice.every:
            return ("--all-platforms",)
        return tuple(f"--platform={platform}" for platform in self._choice.platforms)

    def _explain_failure(self, error: PusherError, image_id: str) -> PusherError:
        """Return ImageChanged if the image is gone: `save` has many messages for it, so inspect."""
        if isinstance(error, EngineFailed):
            try:
                run_command(self.engine, "image", "inspect", "--", image_id, daemon=self._daemon)
            except ImageNotFound as gone:
                error = gone
            except PusherError:
                pass
        if not isinstance(error, ImageNotFound):
            return error
        return ImageChanged(
            f"{self.name} was deleted from {self.engine.title} after it was enqueued",
            hint="build or pull it again and enqueue it, or `pusher cancel` the job",
        )

    def _inspect(self) -> _Inspection | None:
        """Inspect the image; return None for a manifest list of Podman."""
        try:
            answer = run_command(self.engine, "image", "inspect", "--", self.name, daemon=self._daemon)
        except ImageNotFound as error:
            if self.engine is PODMAN and is_manifest_list(self.name, None, self._daemon):
                return None
            raise ImageNotFound(error.message, hint=self._not_found_hint()) from None
        try:
            described = load_json(answer.encode())[0]
            if self.engine is PODMAN and is_manifest_list(self.name, described, self._daemon):
                return None
            return _parse_inspection(self.engine, described, in_containerd=self._is_in_containerd(described))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise EngineFailed(
                f"`{self.engine.command} image inspect` did not print a description of an image",
                hint=suggest("check it with: {} image inspect {}", self.engine.command, self.name),
            ) from error

    def _is_in_containerd(self, described: dict[str, Any]) -> bool:
        """Return whether Docker keeps its images in containerd, and ``Id`` is of a manifest or index.

        ``Descriptor`` shows it since API 1.48 (Docker 28); before that `info` does. With a graph driver that
        describes the image's layers there is no need to ask.
        """
        if self.engine is not DOCKER or described.get("Descriptor"):
            return self.engine is DOCKER
        if (described.get("GraphDriver") or {}).get("Data"):
            return False
        try:
            status = run_command(
                self.engine, "info", "--format", "{{json .DriverStatus}}", daemon=self._daemon
            )
        except EngineFailed:  # a proxy of the socket may refuse it
            return False
        return _SNAPSHOTTER in status

    def _not_found_hint(self) -> str:
        """Return the hint for a name that the engine does not have: another engine, or the nearest names."""
        if self.engine is DOCKER and is_installed(PODMAN):
            try:
                run_command(PODMAN, "image", "inspect", "--format", "{{.Id}}", "--", self.name)
            except PusherError:
                pass
            else:
                return f"Podman has it: podman:{self.name}"
        try:
            listed = run_command(
                self.engine, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", daemon=self._daemon
            )
        except PusherError:
            return f"list the images with: {self.engine.command} image ls"
        return did_you_mean(self.name, [name for name in listed.split() if "<none>" not in name])


def _parse_inspection(engine: Engine, described: dict[str, Any], *, in_containerd: bool) -> _Inspection:
    image_id = "sha256:" + described["Id"].removeprefix("sha256:")
    diff_ids = tuple((described.get("RootFS") or {}).get("Layers") or ())
    parts = {key.lower(): described.get(key) for key in ("Os", "Architecture", "Variant")}
    target = _target(described) if engine is NERDCTL else image_id if in_containerd else None
    if not all(is_sha256(digest) for digest in (image_id, *diff_ids, *([target] if target else ()))):
        raise ValueError("not digests")
    return _Inspection(target or image_id, diff_ids, Platform.of_json(parts), target)


def _target(described: dict[str, Any]) -> str:
    """Return the digest of the manifest or index: nerdctl's ``Id`` is the config's."""
    return str(described["RepoDigests"][0]).rpartition("@")[2]


def _image(pin: EnginePin) -> SourceImage:
    """Return the image as pinned, without asking: a job whose layers are spooled needs no engine."""
    layers = tuple(SourceLayer(diff_id) for diff_id in pin.diff_ids)
    return pinned_image(pin) or SourceImage(pin.id, layers, pin)

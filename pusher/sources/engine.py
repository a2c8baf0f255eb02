"""Images in Docker and Podman, read from the pipe of `docker save` and `podman save`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pusher.errors import (
    ArchiveInvalid,
    ArchiveTruncated,
    EngineFailed,
    ImageChanged,
    ImageNotFound,
    ImageUnsupported,
    PusherError,
)
from pusher.oci.digest import is_digest
from pusher.oci.manifest import Manifest, parse_manifest
from pusher.sources import tar
from pusher.sources.base import Exported, Pinned, SourceImage, SourceLayer
from pusher.sources.engine_cli import DOCKER, PODMAN, Daemon, Engine, Output, ask, is_installed
from pusher.sources.layout import load_json
from pusher.sources.names import did_you_mean, is_image_id
from pusher.sources.pieces import manifest_in, pieces


@dataclass(frozen=True)
class _Inspected:
    """What `image inspect` tells."""

    id: str
    """The config's digest; with Docker's containerd image store that of the manifest or index."""
    diff_ids: tuple[str, ...]
    is_manifest: bool


class EngineSource:
    """One image in an engine. Once pinned it is asked for by its ID, so a tag moved later changes nothing."""

    def __init__(
        self, engine: Engine, name: str, *, pinned: Mapping[str, str | int | None] | None = None
    ) -> None:
        self.engine = engine
        self.name = name
        self._pinned = pinned
        self._daemon = engine.daemon() if pinned is None else _pinned_daemon(engine, pinned)

    def own_name(self) -> str | None:
        """The name as typed; None for an image ID."""
        return None if is_image_id(self.name) else self.name

    def resolve(self) -> SourceImage:
        """Ask the engine for ID and diff IDs; a pinned image is known without asking.

        With Docker's containerd image store the manifest exists and inspect does not tell it: it is read from
        one `docker save`, which is stopped once the manifest and the config have passed.
        """
        if self._pinned is not None:
            return _described(self._pinned)
        found = self._inspect()
        pinned: Pinned = {
            "kind": self.engine.kind,
            "name": self.name,
            "id": found.id,
            "config": found.id,
            "layers": " ".join(found.diff_ids),
            **self._daemon,
        }
        if found.is_manifest:
            manifest, config = self._read_manifest(found)
            pinned["config"] = manifest.config.digest
            pinned["manifest"] = manifest.raw.decode()
            pinned["config_bytes"] = config.decode()
        return _described(pinned)

    @contextmanager
    def export(
        self,
        wanted: Collection[str],
        *,
        skip_sizes: Collection[int] = (),
        check_stop: Callable[[], None] | None = None,
    ) -> Iterator[Iterator[Exported]]:
        """See ``Source.export``. ImageChanged if the image was deleted since it was enqueued."""
        image = self.resolve()
        uncompressed = set() if image.manifest else {layer.diff_id for layer in image.layers}
        missing = set(wanted)
        with self._save(str(image.pinned["id"]), check_stop) as (output, source):

            def whole() -> Iterator[Exported]:
                yield from pieces(source, missing, uncompressed, skip_sizes)
                if missing:
                    output.finish(complete=source.at_end_marker)

            yield whole()

    @contextmanager
    def _save(
        self, image_id: str, check_stop: Callable[[], None] | None = None
    ) -> Iterator[tuple[Output, tar.PipeInput]]:
        arguments = (*self.engine.save, image_id)
        with Output(self.engine, *arguments, daemon=self._daemon, check_stop=check_stop) as output:
            try:
                yield output, tar.PipeInput(output.read, f"the output of `{self.engine.command} save`")
            except (ArchiveTruncated, ArchiveInvalid) as error:
                raise self._explained(output.failure(), image_id) from error
            except (EngineFailed, ImageNotFound) as error:
                raise self._explained(error, image_id) from error

    def _explained(self, error: PusherError, image_id: str) -> PusherError:
        """ImageChanged if the image is gone: saving words that in many ways, so the engine is asked."""
        if isinstance(error, EngineFailed):
            try:
                ask(self.engine, "image", "inspect", "--", image_id, daemon=self._daemon)
            except ImageNotFound as gone:
                error = gone
            except PusherError:
                pass
        if not isinstance(error, ImageNotFound):
            return error
        return ImageChanged(
            f"{self.name} was deleted from {self.engine.title} since it was enqueued",
            hint="build or pull it again and enqueue it, or `pusher cancel` the job",
        )

    def _inspect(self) -> _Inspected:
        try:
            answer = ask(self.engine, "image", "inspect", "--", self.name, daemon=self._daemon)
        except ImageNotFound as error:
            raise ImageNotFound(error.message, hint=self._elsewhere()) from None
        try:
            return _understood(load_json(answer.encode())[0])
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise EngineFailed(
                f"`{self.engine.command} image inspect` gave something that is no description of an image",
                hint=f"look at it: {self.engine.command} image inspect {self.name}",
            ) from error

    def _elsewhere(self) -> str:
        """The hint for a name that the engine does not have: another engine's, or the nearest names."""
        if self.engine is DOCKER and is_installed(PODMAN):
            try:
                ask(PODMAN, "image", "inspect", "--format", "{{.Id}}", "--", self.name)
            except PusherError:
                pass
            else:
                return f"Podman has it: podman:{self.name}"
        try:
            listed = ask(
                self.engine, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", daemon=self._daemon
            )
        except PusherError:
            return f"see what there is: {self.engine.command} image ls"
        return did_you_mean(self.name, [name for name in listed.split() if "<none>" not in name])

    def _read_manifest(self, image: _Inspected) -> tuple[Manifest, bytes]:
        with self._save(image.id) as (_, source):
            found = manifest_in(source, image.id, image.diff_ids)
        if found is None:
            raise ImageUnsupported(
                f"`docker save {self.name}` holds no manifest for this machine's platform",
                hint=f"pull the image again: docker pull {self.name}",
            )
        return found


def _pinned_daemon(engine: Engine, pinned: Mapping[str, str | int | None]) -> Daemon:
    values = {variable: pinned.get(variable) for variable in engine.host_variables}
    return {variable: None if value is None else str(value) for variable, value in values.items()}


def _understood(described: dict[str, Any]) -> _Inspected:
    image_id = "sha256:" + described["Id"].removeprefix("sha256:")
    diff_ids = tuple((described.get("RootFS") or {}).get("Layers") or ())
    if not all(is_digest(digest) for digest in (image_id, *diff_ids)):
        raise ValueError("not digests")
    return _Inspected(image_id, diff_ids, is_manifest=bool(described.get("Descriptor")))


def _described(pinned: Mapping[str, str | int | None]) -> SourceImage:
    """The image as pinned: nothing is asked, so that a job whose layers are spooled needs no engine."""
    diff_ids = str(pinned["layers"]).split()
    manifest, config = pinned.get("manifest"), pinned.get("config_bytes")
    if not isinstance(manifest, str) or not isinstance(config, str):
        layers = tuple(SourceLayer(diff_id) for diff_id in diff_ids)
        return SourceImage(str(pinned["config"]), layers, pinned=dict(pinned))
    parsed = parse_manifest(manifest.encode())
    layers = tuple(
        SourceLayer(diff_id, layer.media_type) for diff_id, layer in zip(diff_ids, parsed.layers, strict=True)
    )
    return SourceImage(str(pinned["config"]), layers, config.encode(), parsed, dict(pinned))

"""Write each received image as an OCI layout under PUSHER_HOME, and enqueue the job that pushes it.

A layout holds its blobs by hard links, so nothing else tracks what a job still needs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pusher.errors import JobStateConflict, JobUnknown
from pusher.oci.digest import ALGORITHMS, algorithm_of, hex_of
from pusher.oci.media_types import OCI_INDEX
from pusher.reference import Reference
from pusher.serve.forward.destinations import Destinations
from pusher.serve.forward.upstream import Upstream
from pusher.serve.local import LocalRegistry
from pusher.serve.manifests import PushedManifest, read_manifest
from pusher.sources.base import Choice
from pusher.sources.folders import LAYOUT
from pusher.sources.oci import LayoutSource
from pusher.store.records import FINAL_STATES, UNFINISHED_STATES, JobRecord, JobState
from pusher.store.store import Store
from pusher.system import sync_folder
from pusher.worker.cleanup import delete_sessions
from pusher.worker.enqueue import record
from pusher.worker.registries import Registries

_JOBS: Final = "jobs.json"
_KEPT: Final = 3600.0
"""Seconds for which blobs wait for a manifest that names them, after the last of their repository came."""


class Images:
    """The layouts in ``folder``, of images that ``registry`` received. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        registry: LocalRegistry,
        upstream: Upstream,
        destinations: Destinations,
        registries: Registries,
        machine: str | None = None,
    ) -> None:
        """``machine``: the ID of this one, which has what it received, where others share the job store."""
        self._folder = folder
        self._store = store
        self._registry = registry
        self._upstream = upstream
        self._destinations = destinations
        self._registries = registries
        self._machine = machine
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700, exist_ok=True)

    def enqueue(self, name: str, manifest: PushedManifest, tag: str | None) -> JobRecord:
        """Return the job that pushes a manifest and all it names: an existing or a new one.

        ``name`` is the client's. Raises SourceError, StoreError, OSError.
        """
        place = self._destinations.of(name)
        with self._lock:
            path = self._folder / f"{hex_of(manifest.digest)}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
            for job in self._store.jobs.list(states=UNFINISHED_STATES):
                if (job.registry, job.repository, job.tag) == (place.registry, place.path, tag) and (
                    job.source.get("path") == str(path) and job.machine in (None, self._machine)
                ):
                    digests = _digests_of(path)
                    self._store.received_jobs.forget_blobs(place.registry, place.path, digests, self._machine)
                    return job
            absent = self._write(path, name, manifest)
            choice = Choice(absent=tuple(sorted(absent)))
            found = LayoutSource(LAYOUT, path, f"@{manifest.digest}", choice).resolve()
            shown = f"{name}:{tag}" if tag else f"{name}@{manifest.digest}"
            destination = Reference(place.registry, place.path, tag)
            (job,) = record(
                self._store, found, [destination], image=shown, received=True, machine=self._machine
            )
            jobs = [*_read(path).get("jobs", []), job.id]
            _write_file(path / _JOBS, json.dumps({"name": name, "jobs": jobs}).encode())
            return job

    def send_early(self, name: str, digest: str) -> None:
        """Record a received blob, which is to be sent before its manifest comes."""
        place, size = self._destinations.of(name), self._registry.blob_size(name, digest)
        if size is not None:
            with self._lock:
                self._store.received_jobs.add_blob(
                    image=name,
                    folder=str(self._registry.blobs_folder),
                    registry=place.registry,
                    repository=place.path,
                    digest=digest,
                    size=size,
                    machine=self._machine,
                )

    def _write(self, path: Path, name: str, root: PushedManifest) -> set[str]:
        """Write the layout durably; return the digests that only the destination has."""
        for algorithm in ALGORITHMS:
            (path / "blobs" / algorithm).mkdir(mode=0o700, parents=True, exist_ok=True)
        absent: set[str] = set()
        manifests = {manifest.digest: manifest for manifest in self._tree(name, root)}
        for manifest in manifests.values():
            _write_file(_blob(path, manifest.digest), manifest.raw)
            for digest in (*manifest.blobs, *manifest.children):  # build caches list blobs
                if digest not in manifests and not self._link(name, digest, _blob(path, digest)):
                    absent.add(digest)
        listed = {"mediaType": root.media_type, "digest": root.digest, "size": len(root.raw)}
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]}
        _write_file(path / "index.json", json.dumps(index).encode())
        _write_file(path / "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        for folder in (*(path / "blobs").iterdir(), path / "blobs", path, self._folder):
            sync_folder(folder)
        return absent

    def _tree(self, name: str, root: PushedManifest) -> Iterator[PushedManifest]:
        """Yield the manifest and all below it, each once."""
        seen, waiting = {root.digest}, [root]
        while waiting:
            manifest = waiting.pop()
            yield manifest
            for digest in manifest.children:
                stored = self._registry.catalog.manifest(name, digest)
                if stored is not None and digest not in seen:
                    seen.add(digest)
                    waiting.append(read_manifest(stored.content, stored.media_type, digest))

    def _link(self, name: str, digest: str, target: Path) -> bool:
        """Add a blob; return whether it exists."""
        if target.exists():
            return True
        if self._registry.blob_size(name, digest) is None:
            return False
        source = self._registry.blob_path(digest)
        try:
            target.hardlink_to(source)
        except FileNotFoundError:
            return False
        except OSError:  # a file system without hard links
            shutil.copyfile(source, target)
        return True

    # --- afterwards ---------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Remove layouts that no job needs, their blobs and manifests, and repositories unused for long.

        A job that failed keeps its layout for ``pusher retry``. Jobs that have waited too long for the rest
        of their image end, and their sessions are deleted.
        """
        with self._lock:
            for path in list(self._folder.iterdir()):
                known = _read(path)
                states = [self._state(job_id) for job_id in known.get("jobs", [])]
                if not all(state in FINAL_STATES for state in states) or JobState.FAILED in states:
                    continue
                if self._has_unlisted_job(path):
                    continue
                if JobState.SUCCEEDED in states:
                    self._forget(path, str(known["name"]))
                shutil.rmtree(path, ignore_errors=True)
            has_expired = self._forget_the_old()
        if has_expired:
            delete_sessions(self._store, self._registries, ())

    def _has_unlisted_job(self, path: Path) -> bool:
        """Return whether a job needs the layout although its list lacks it: the list could not be written
        any more when the job was recorded."""
        left = self._store.jobs.list(states=[*UNFINISHED_STATES, JobState.FAILED])
        return any(job.source.get("path") == str(path) for job in left)

    def _state(self, job_id: int) -> JobState:
        try:
            return self._store.jobs.get(job_id).state
        except JobUnknown:  # pruned
            return JobState.CANCELLED

    def _forget(self, path: Path, name: str) -> None:
        """Remove what the destination now has."""
        for algorithm in ALGORITHMS:
            for file in (path / "blobs" / algorithm).iterdir():
                digest = f"{algorithm}:{file.name}"
                if self._registry.catalog.remove_manifest(name, digest):
                    continue
                self._upstream.note_pushed(name, digest, file.stat().st_size)
                self._registry.remove_blob(name, digest)

    def _forget_the_old(self) -> bool:
        """Empty repositories without a recent push or open upload, and end the jobs that wait for the rest of
        their images; return whether there were any."""
        has_expired, catalog = False, self._registry.catalog
        busy = {row.repository for row in catalog.uploads()}
        incomplete: dict[str, list[JobRecord]] = {}
        for job in self._store.received_jobs.list_incomplete(self._machine):
            incomplete.setdefault(job.image, []).append(job)
        for name in {*incomplete, *catalog.repositories("", 1000)} - busy:
            blobs = catalog.blobs(name)
            if self._was_pushed_lately(blobs):
                continue
            for job in incomplete.get(name, ()):
                with suppress(JobUnknown, JobStateConflict):
                    self._store.jobs.expire(job.id)
                    has_expired = True
            for digest in blobs:
                self._registry.remove_blob(name, digest)
            catalog.remove_manifests(name)
        return has_expired

    def _was_pushed_lately(self, blobs: Iterable[str]) -> bool:
        paths = filter(Path.exists, map(self._registry.blob_path, blobs))
        return any(time.time() - path.stat().st_mtime < _KEPT for path in paths)


def _read(path: Path) -> dict[str, Any]:
    """Return the name and the jobs of a layout, nothing of one that is not complete. Raises OSError."""
    with suppress(FileNotFoundError, NotADirectoryError, ValueError):
        known = json.loads((path / _JOBS).read_bytes())
        if isinstance(known, dict):
            return known
    return {}


def _digests_of(path: Path) -> set[str]:
    """Return the digests of the blobs in a layout."""
    return {f"{file.parent.name}:{file.name}" for file in (path / "blobs").glob("*/*")}


def _blob(path: Path, digest: str) -> Path:
    return path / "blobs" / algorithm_of(digest) / hex_of(digest)


def _write_file(path: Path, data: bytes) -> None:
    """Write a file whole, and flush it."""
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)

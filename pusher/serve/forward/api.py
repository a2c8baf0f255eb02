"""Serve the distribution API for other registries: enqueue pushes as jobs, forward other requests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from pusher.errors import ExitCode, LayerTooLarge, StoreError
from pusher.errors.catalogue import catalogue
from pusher.oci.digest import of_bytes
from pusher.oci.index import MAX_NESTED
from pusher.registry.http.answer import Answer
from pusher.serve.api import Api
from pusher.serve.bodies import asked_range
from pusher.serve.errors import ApiError
from pusher.serve.forward.destinations import Destinations
from pusher.serve.forward.images import Images
from pusher.serve.forward.upstream import Download, Upstream
from pusher.serve.local import LocalRegistry
from pusher.serve.manifests import PushedManifest, read_manifest
from pusher.store.records import FINAL_STATES, JobRecord, JobState
from pusher.store.store import Store
from pusher.worker.periodic import calling_every

_LOOK: Final = 0.25
"""Seconds between checks of a job that a client waits for."""
_TIDY: Final = 10.0
"""Seconds between removals of what is not needed any more."""
_PASSED_ON: Final = ("Content-Type", "Docker-Content-Digest", "ETag", "Content-Length", "OCI-Filters-Applied")


class ForwardingApi(Api):
    """The handlers. ``waits``: respond to a push once the destination has everything."""

    def __init__(
        self,
        registry: LocalRegistry,
        store: Store,
        destinations: Destinations,
        images: Images,
        upstream: Upstream,
        *,
        waits: bool,
    ) -> None:
        super().__init__(registry)
        self._store = store
        self._destinations = destinations
        self._images = images
        self._upstream = upstream
        self._waits = waits
        self._ending = threading.Event()

    def end(self) -> None:
        """Ask clients that wait for jobs to retry later."""
        self._ending.set()

    @contextlib.contextmanager
    def tidying(self) -> Iterator[None]:
        """Remove unused layouts and blobs in a thread."""
        self._images.tidy()
        with calling_every(_TIDY, lambda: self._images.tidy(), name="tidy"):
            try:
                yield
            finally:
                self.end()

    # --- pushes -------------------------------------------------------------------------------------------

    async def open_upload(self, request: Request) -> Response:
        """Open an upload, unless its name has no destination: refuse before the client sends gigabytes."""
        self._destinations.of(request.path_params["name"])
        return await super().open_upload(request)

    def handle_stored_blob(self, repository: str, digest: str) -> None:
        """Have the blob sent on. Where the job store is away, the manifest does it."""
        with contextlib.suppress(StoreError):
            self._images.send_early(repository, digest)

    def absent(self, repository: str, manifest: PushedManifest) -> list[str]:
        """Return the digests that neither the repository here nor the destination has."""
        return self._find_absent(repository, manifest, {}, 0)

    def _find_absent(
        self, repository: str, manifest: PushedManifest, adopted: dict[str, bool], depth: int
    ) -> list[str]:
        if depth > MAX_NESTED:
            raise ApiError(400, "MANIFEST_INVALID", f"indexes are nested more than {MAX_NESTED} deep")
        absent = []
        for digest in super().absent(repository, manifest):
            if digest in manifest.children and digest not in adopted:
                adopted[digest] = self._adopt(repository, digest, adopted, depth + 1)
            if not (adopted[digest] if digest in adopted else self._has_blob(repository, digest)):
                absent.append(digest)
        return absent

    def _adopt(self, repository: str, digest: str, adopted: dict[str, bool], depth: int) -> bool:
        """Fetch a manifest that an index lists and the client found at the destination; return whether the
        destination has it, and all below it. ``adopted`` has the results for others."""
        found = self._upstream.manifest(repository, digest)
        if found is None:  # build caches list blobs
            return self._has_blob(repository, digest)
        child = read_manifest(found[1], found[0], digest)
        if self._find_absent(repository, child, adopted, depth):
            return False
        self._catalog.add_manifest(repository, child, ())
        return True

    def _has_blob(self, repository: str, digest: str) -> bool:
        return self._upstream.blob_size(repository, digest) is not None

    async def store_manifest(
        self, request: Request, repository: str, manifest: PushedManifest, tags: list[str]
    ) -> None:
        """Enqueue the jobs, and wait for them. Only the destination stores the tag."""
        await super().store_manifest(request, repository, manifest, [])
        jobs = [
            await run_in_threadpool(self._images.enqueue, repository, manifest, tag)
            for tag in tags or (None,)
        ]
        if self._waits:
            for job in jobs:
                await self._wait(request, job.id)

    async def _wait(self, request: Request, job_id: int) -> None:
        """Return once the job has succeeded. Raises ApiError if it ends in another way."""
        while True:
            job = await run_in_threadpool(self._store.jobs.get, job_id)
            if job.state is JobState.SUCCEEDED:
                await run_in_threadpool(self._images.tidy)
                return
            if job.state in FINAL_STATES:
                raise _unsuccessful_error(job)
            if self._ending.is_set():
                raise ApiError(
                    503,
                    "UNKNOWN",
                    f"pusher serve ends; job {job_id} is kept, and continues with the next pusher serve or "
                    "pusher run: push again to wait for it",
                )
            if await request.is_disconnected():
                raise ClientDisconnect
            await asyncio.sleep(_LOOK)

    # --- everything else ----------------------------------------------------------------------------------

    def blob_elsewhere(self, request: Request, repository: str, digest: str) -> Response:
        """Return a blob of the destination."""
        size = self._upstream.blob_size(repository, digest)
        if size is None:
            return super().blob_elsewhere(request, repository, digest)
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
            "ETag": f'"{digest}"',
        }
        start, end, status = asked_range(request, size, headers)
        if request.method == "HEAD" or status == 304:
            return Response(status_code=status, headers=headers)
        download = self._upstream.blob(repository, digest, start)
        answer = download.head()
        if not answer.ok:
            download.leave()
            return super().blob_elsewhere(request, repository, digest)
        skipped = 0 if answer.status == 206 else start
        return StreamingResponse(_stream(download, skipped, end - start), status, headers)

    def manifest_elsewhere(self, request: Request, repository: str, reference: str) -> Response:
        """Return a manifest of the destination."""
        accept = ", ".join(request.headers.getlist("accept")) or "*/*"
        answer = self._upstream.ask(request.method, repository, f"manifests/{reference}", accept)
        if not answer.ok:
            return super().manifest_elsewhere(request, repository, reference)
        headers = _headers_to_pass_on(answer)
        if request.method == "GET":
            headers.setdefault("Docker-Content-Digest", of_bytes(answer.body))
        return Response(answer.body, 200, headers)

    def list_tags(self, request: Request) -> Response:
        """Return the destination's list."""
        return self._pass_on(request, "tags/list")

    def list_referrers(self, request: Request) -> Response:
        """Return the destination's list."""
        return self._pass_on(request, f"referrers/{request.path_params['digest']}")

    def _pass_on(self, request: Request, path: str) -> Response:
        name = request.path_params["name"]
        query = f"?{request.url.query}" if request.url.query else ""
        answer = self._upstream.ask(request.method, name, path + query, "*/*")
        headers = _headers_to_pass_on(answer)
        if link := answer.headers.get("Link"):
            address, _, rest = link.partition(">")
            query = address.partition("?")[2].partition("#")[0]
            headers["Link"] = f"<{request.url.path}?{query}>{rest}"
        return Response(answer.body, answer.status, headers)

    def list_repositories(self, request: Request) -> Response:  # noqa: ARG002
        """Refuse: there is one list for each destination."""
        raise _not_here_error("repositories are listed")

    def delete_blob(self, request: Request) -> Response:  # noqa: ARG002
        """Refuse."""
        raise _not_here_error("blobs are deleted")

    def delete_manifest(self, request: Request) -> Response:  # noqa: ARG002
        """Refuse."""
        raise _not_here_error("manifests and tags are deleted")


def _not_here_error(what: str) -> ApiError:
    return ApiError(405, "UNSUPPORTED", f"{what} at the destination itself, not through pusher serve")


def _headers_to_pass_on(answer: Answer) -> dict[str, str]:
    names = (
        _PASSED_ON if answer.method == "HEAD" else [name for name in _PASSED_ON if name != "Content-Length"]
    )
    return {name: answer.headers[name] for name in names if name in answer.headers}


async def _stream(download: Download, skipped: int, length: int) -> AsyncIterator[bytes]:
    """Yield ``length`` bytes after the first ``skipped``."""
    try:
        async for block in download.blocks():  # if they end early, Content-Length shows it
            wanted, skipped = block[skipped:], max(0, skipped - len(block))
            yield wanted[:length]
            length -= len(wanted)
            if length <= 0:
                return
    finally:
        download.leave()


def _unsuccessful_error(job: JobRecord) -> ApiError:
    """Return the error for a client whose job did not succeed."""
    error = job.error
    if job.state is not JobState.FAILED or error is None:
        newer = f": job {job.superseded_by} pushes to the same tag" if job.superseded_by else ""
        return ApiError(409, "DENIED", f"job {job.id} was {job.state}{newer}")
    entry = catalogue().get(error.code)
    message = f"job {job.id}: {error.message}" + (f"; {error.hint}" if error.hint else "")
    if error.code == LayerTooLarge.code:
        return ApiError(413, "SIZE_INVALID", message)
    if entry is not None and entry.exit_code in (ExitCode.AUTH, ExitCode.REFUSED):
        return ApiError(403, "DENIED", message)
    if entry is not None and entry.exit_code == ExitCode.SOURCE:
        return ApiError(400, "MANIFEST_INVALID", message)
    return ApiError(502, "UNKNOWN", message)

"""Serve the distribution API from a local registry: a handler for each request of distribution-spec
1.1, "Endpoints", and Docker's ``_catalog``.

Handlers that read a body run in the event loop and use the disk in threads; others run in a thread.
"""

from __future__ import annotations

import json
import threading
from itertools import accumulate
from typing import Final
from urllib.parse import quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from pusher.oci.digest import ALGORITHMS, algorithm_of
from pusher.oci.media_types import OCI_INDEX
from pusher.serve.bodies import is_known, matches, receive, receive_small, send_file
from pusher.serve.errors import ApiError, errors_response, name_unknown_error
from pusher.serve.local import LocalRegistry
from pusher.serve.manifests import LARGEST, PushedManifest, read_manifest
from pusher.serve.names import checked_digest, checked_repository, checked_tag, is_reference_by_digest
from pusher.serve.uploads import Upload

_MAX_LISTED: Final = 10_000
"""Tags or repositories in one answer; a Link leads to the next."""
_MAX_REFERRERS: Final = 200
"""The same for referrers, whose annotations may be as large as a manifest."""
_LARGEST_LIST: Final = LARGEST - 65_536
"""Bytes of descriptors in one answer: clients read it as a manifest."""
_MAX_TAGS: Final = 100
"""Tags that one request sets."""


class Api:
    """The handlers. ``registry`` must stay open while requests arrive."""

    def __init__(self, registry: LocalRegistry) -> None:
        self._registry = registry
        self._catalog = registry.catalog
        self._tagging = threading.Lock()

    def routes(self) -> list[BaseRoute]:
        """Return the routes, the longest paths first: names of repositories contain slashes."""
        name = "/v2/{name:path}"
        return [
            Route("/v2/", self.ping, methods=["GET"]),
            Route("/v2", self.ping, methods=["GET"]),
            Route("/v2/_catalog", self.list_repositories, methods=["GET"]),
            Route(f"{name}/blobs/uploads/", self.open_upload, methods=["POST"]),
            Route(f"{name}/blobs/uploads", self.open_upload, methods=["POST"]),
            Route(f"{name}/blobs/uploads/{{upload}}", self.show_upload, methods=["GET"]),
            Route(f"{name}/blobs/uploads/{{upload}}", self.write_upload, methods=["PATCH"]),
            Route(f"{name}/blobs/uploads/{{upload}}", self.close_upload, methods=["PUT"]),
            Route(f"{name}/blobs/uploads/{{upload}}", self.cancel_upload, methods=["DELETE"]),
            Route(f"{name}/blobs/{{digest}}", self.get_blob, methods=["GET"]),
            Route(f"{name}/blobs/{{digest}}", self.delete_blob, methods=["DELETE"]),
            Route(f"{name}/manifests/{{reference}}", self.get_manifest, methods=["GET"]),
            Route(f"{name}/manifests/{{reference}}", self.put_manifest, methods=["PUT"]),
            Route(f"{name}/manifests/{{reference}}", self.delete_manifest, methods=["DELETE"]),
            Route(f"{name}/tags/list", self.list_tags, methods=["GET"]),
            Route(f"{name}/referrers/{{digest}}", self.list_referrers, methods=["GET"]),
        ]

    def ping(self, _request: Request) -> Response:
        """Confirm the API version."""
        return _json({})

    # --- blobs --------------------------------------------------------------------------------------------

    def get_blob(self, request: Request) -> Response:
        """Return a blob, or a range of it."""
        repository, digest = _repository(request), checked_digest(request.path_params["digest"])
        size = self._registry.blob_size(repository, digest)
        if size is not None:
            headers = {
                "Content-Type": "application/octet-stream",
                "Docker-Content-Digest": digest,
                "ETag": f'"{digest}"',
            }
            try:
                return send_file(request, self._registry.blob_path(digest), size, headers)
            except FileNotFoundError:
                pass  # deleted meanwhile
        return self.blob_elsewhere(request, repository, digest)

    def blob_elsewhere(self, request: Request, repository: str, digest: str) -> Response:  # noqa: ARG002
        """Return a blob that is not stored here. Raises ApiError BLOB_UNKNOWN."""
        raise ApiError(404, "BLOB_UNKNOWN", f"{repository} has no blob {digest}", detail={"digest": digest})

    def delete_blob(self, request: Request) -> Response:
        """Remove a blob from a repository."""
        repository, digest = _repository(request), checked_digest(request.path_params["digest"])
        if not self._registry.remove_blob(repository, digest):
            raise ApiError(404, "BLOB_UNKNOWN", f"{repository} has no blob {digest}")
        return Response(status_code=202)

    async def open_upload(self, request: Request) -> Response:
        """Open an upload, mount a blob, or store the blob in the request's body."""
        repository, query = _repository(request), request.query_params
        if "mount" in query:
            mounted, source = checked_digest(query["mount"]), query.get("from") or None
            if await run_in_threadpool(self._registry.mount, repository, mounted, source):
                await run_in_threadpool(self.handle_stored_blob, repository, mounted)
                return _blob_created(repository, mounted)
        digest = checked_digest(query["digest"]) if "digest" in query and "mount" not in query else None
        algorithm = query.get("digest-algorithm", ALGORITHMS[0]) if digest is None else algorithm_of(digest)
        if algorithm not in ALGORITHMS:
            raise ApiError(400, "DIGEST_INVALID", f"digests are of {' or '.join(ALGORITHMS)}")
        upload = await run_in_threadpool(self._registry.uploads.open, repository, algorithm)
        if digest is None:
            return _upload_status(202, upload)
        try:
            return await self._finish(request, upload, digest)
        finally:  # its location was not returned, so no client can continue it
            await run_in_threadpool(self._registry.uploads.remove, upload)

    def show_upload(self, request: Request) -> Response:
        """Return the offset of an upload."""
        return _upload_status(204, self.upload(request))

    async def write_upload(self, request: Request) -> Response:
        """Append a chunk, or a stream of any length."""
        upload = await run_in_threadpool(self.upload, request)
        await self.receive_chunk(request, upload)
        return _upload_status(202, upload)

    async def receive_chunk(self, request: Request, upload: Upload) -> None:
        """Append the body of a PATCH to the upload."""
        await receive(request, upload)

    async def close_upload(self, request: Request) -> Response:
        """Append the request's body, then store the upload as a blob."""
        upload = await run_in_threadpool(self.upload, request)
        return await self._finish(request, upload, checked_digest(request.query_params.get("digest")))

    def cancel_upload(self, request: Request) -> Response:
        """End an upload."""
        self._registry.uploads.remove(self.upload(request))
        return Response(status_code=204)

    async def _finish(self, request: Request, upload: Upload, digest: str) -> Response:
        turn = await receive(request, upload, algorithm=algorithm_of(digest))
        await run_in_threadpool(self._finish_on_disk, upload, turn, digest)
        return _blob_created(upload.repository, digest)

    def _finish_on_disk(self, upload: Upload, turn: int, digest: str) -> None:
        try:
            upload.finish(turn, digest)
        except ApiError as error:
            if error.code == "DIGEST_INVALID":  # the received bytes are useless
                self._registry.uploads.remove(upload)
            raise
        self._registry.take_blob(upload, digest)
        self.handle_stored_blob(upload.repository, digest)

    def handle_stored_blob(self, repository: str, digest: str) -> None:
        """Do what a new blob of a repository is for, before its client is answered: nothing here."""

    def upload(self, request: Request) -> Upload:
        """Return a request's upload. Raises ApiError BLOB_UPLOAD_UNKNOWN."""
        return self._registry.uploads.get(_repository(request), request.path_params["upload"])

    # --- manifests and tags -------------------------------------------------------------------------------

    def get_manifest(self, request: Request) -> Response:
        """Return a manifest, byte for byte as it was pushed."""
        repository, reference = _repository(request), request.path_params["reference"]
        digest = self._digest_of(repository, reference)
        manifest = self._catalog.manifest(repository, digest) if digest else None
        if manifest is None:
            return self.manifest_elsewhere(request, repository, reference)
        etag = f'"{manifest.digest}"'
        headers = {"Docker-Content-Digest": manifest.digest, "ETag": etag}
        if is_known(request, etag):
            return Response(status_code=304, headers=headers)
        return Response(manifest.content, 200, {"Content-Type": manifest.media_type, **headers})

    def manifest_elsewhere(self, request: Request, repository: str, reference: str) -> Response:  # noqa: ARG002
        """Return a manifest that is not stored here. Raises ApiError MANIFEST_UNKNOWN."""
        raise _manifest_unknown_error(repository, reference)

    async def put_manifest(self, request: Request) -> Response:
        """Store a manifest whose blobs and children exist, and set tags."""
        repository, reference = _repository(request), request.path_params["reference"]
        if is_reference_by_digest(reference):
            digest, tags = checked_digest(reference), request.query_params.getlist("tag")
        else:
            digest, tags = None, [reference]
        if len(tags) > _MAX_TAGS:
            raise ApiError(414, "MANIFEST_INVALID", f"a request sets at most {_MAX_TAGS} tags")
        tags = list(map(checked_tag, tags))
        raw = await receive_small(request, LARGEST)
        content_type = request.headers.get("content-type")
        manifest = await run_in_threadpool(read_manifest, raw, content_type, digest)
        if absent := await run_in_threadpool(self.absent, repository, manifest):
            code, what = "MANIFEST_BLOB_UNKNOWN", "the manifest names what its repository lacks"
            return errors_response(404, [(code, f"{what}: {one}", {"digest": one}) for one in absent[:20]])
        await self.store_manifest(request, repository, manifest, tags)
        return _manifest_created(repository, digest or tags[0], manifest, tags if digest else [])

    def absent(self, repository: str, manifest: PushedManifest) -> list[str]:
        """Return the digests that the manifest names and the repository lacks."""
        self._registry.mark_used((*manifest.blobs, *manifest.children))
        return self._catalog.absent(repository, manifest)

    async def store_manifest(
        self, request: Request, repository: str, manifest: PushedManifest, tags: list[str]
    ) -> None:
        """Store a manifest, and point the tags to it."""
        await run_in_threadpool(self._store_manifest, request, repository, manifest, tags)

    def _store_manifest(
        self, request: Request, repository: str, manifest: PushedManifest, tags: list[str]
    ) -> None:
        with self._tagging:
            self._check_conditions(request, repository, tags[0] if tags else manifest.digest)
            self._catalog.add_manifest(repository, manifest, tags)

    def _check_conditions(self, request: Request, repository: str, reference: str) -> None:
        """Raise ApiError 412 if If-Match or If-None-Match forbids replacing the manifest."""
        wanted, unwanted = request.headers.get("if-match"), request.headers.get("if-none-match")
        if wanted is None and unwanted is None:
            return
        there = self._digest_of(repository, reference)
        if there is not None and not self._catalog.has_manifest(repository, there):
            there = None
        etag = f'"{there}"'
        if (wanted is not None and not (there and matches(wanted, etag))) or (
            unwanted is not None and there and matches(unwanted, etag)
        ):
            raise ApiError(412, "DENIED", f"{reference} is another manifest by now, or is there already")

    def delete_manifest(self, request: Request) -> Response:
        """Remove only a tag, or a manifest with every tag that points to it."""
        repository, reference = _repository(request), request.path_params["reference"]
        if is_reference_by_digest(reference):
            is_gone = self._catalog.remove_manifest(repository, checked_digest(reference))
        else:
            is_gone = self._catalog.remove_tag(repository, checked_tag(reference))
        if not is_gone:
            raise _manifest_unknown_error(repository, reference)
        return Response(status_code=202)

    def list_tags(self, request: Request) -> Response:
        """List the tags of a repository."""
        repository, (last, limit) = _repository(request), _page(request)
        if not self._catalog.has_repository(repository):
            raise name_unknown_error(repository)
        tags = self._catalog.tags(repository, last, limit + 1)
        headers = _next(request, tags, limit)
        return _json({"name": repository, "tags": tags[:limit]}, headers)

    def list_repositories(self, request: Request) -> Response:
        """List the repositories."""
        last, limit = _page(request)
        names = self._catalog.repositories(last, limit + 1)
        return _json({"repositories": names[:limit]}, _next(request, names, limit))

    def list_referrers(self, request: Request) -> Response:
        """List the manifests whose subject is this one, as an index."""
        repository, subject = _repository(request), checked_digest(request.path_params["digest"])
        wanted, last = request.query_params.get("artifactType"), request.query_params.get("last", "")
        listed = self._catalog.referrers(repository, subject, last, _MAX_REFERRERS + 1)
        sizes = list(accumulate(map(len, listed)))
        fitting = max(1, sum(size <= _LARGEST_LIST for size in sizes[:_MAX_REFERRERS]))
        page = [json.loads(descriptor) for descriptor in listed[:fitting]]
        headers = {"OCI-Filters-Applied": "artifactType"} if wanted is not None else {}
        if len(listed) > fitting:
            kept = {} if wanted is None else {"artifactType": wanted}
            headers |= _link(request, {**kept, "last": page[-1]["digest"]})
        found = [one for one in page if wanted is None or one.get("artifactType") == wanted]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
        return _json(index, headers, OCI_INDEX)

    def _digest_of(self, repository: str, reference: str) -> str | None:
        if is_reference_by_digest(reference):
            return checked_digest(reference)
        return self._catalog.find_tag(repository, checked_tag(reference))


def _repository(request: Request) -> str:
    return checked_repository(request.path_params["name"])


def _manifest_unknown_error(repository: str, reference: str) -> ApiError:
    return ApiError(404, "MANIFEST_UNKNOWN", f"{repository} has no manifest {reference}")


def _blob_created(repository: str, digest: str) -> Response:
    headers = {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest}
    return Response(status_code=201, headers=headers)


def _upload_status(status: int, upload: Upload) -> Response:
    headers = {"Location": upload.location, "Range": upload.range, "Docker-Upload-UUID": upload.id}
    return Response(status_code=status, headers=headers)


def _manifest_created(repository: str, reference: str, manifest: PushedManifest, tags: list[str]) -> Response:
    headers = {
        "Location": f"/v2/{repository}/manifests/{reference}",
        "Docker-Content-Digest": manifest.digest,
    }
    if manifest.subject is not None:
        headers["OCI-Subject"] = manifest.subject
    if tags:
        headers["OCI-Tag"] = ", ".join(tags)
    return Response(status_code=201, headers=headers)


def _page(request: Request) -> tuple[str, int]:
    """Return the requested ``last`` and ``n`` of a list."""
    n = request.query_params.get("n", str(_MAX_LISTED))
    if not (n.isascii() and n.isdigit() and len(n) < 19):
        raise ApiError(400, "UNSUPPORTED", "n is not a number")
    return request.query_params.get("last", ""), min(int(n), _MAX_LISTED)


def _next(request: Request, found: list[str], limit: int) -> dict[str, str]:
    """Return the Link to the next page, if there is one."""
    if not 0 < limit < len(found):
        return {}
    return _link(request, {"n": str(limit), "last": found[limit - 1]})


def _link(request: Request, query: dict[str, str]) -> dict[str, str]:
    return {"Link": f'<{quote(request.url.path)}?{urlencode(query)}>; rel="next"'}


def _json(
    value: object, headers: dict[str, str] | None = None, media_type: str = "application/json"
) -> Response:
    return Response(json.dumps(value).encode(), 200, headers or {}, media_type=media_type)

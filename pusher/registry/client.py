"""Send the requests of the distribution API that a push needs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from pusher.dataclass import dataclass
from pusher.errors import (
    CredentialsRejected,
    PermissionDenied,
)
from pusher.oci import media_types
from pusher.oci.digest import contradicts, of_bytes
from pusher.oci.document import Document
from pusher.registry.answers import is_page, is_temporary, read_message, refusal
from pusher.registry.auth.tokens import Scopes
from pusher.registry.endpoint import RegistryEndpoint
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import Body
from pusher.registry.http.transport import Receiver
from pusher.registry.intermediaries import CLOSING, OPENING, STATUS, is_stored
from pusher.registry.locations import Origin

_LOOKING: Final = "looking for a blob"
_OCTETS: Final = {"Content-Type": "application/octet-stream"}


class BlobsUnknown(Exception):
    """The registry lacks blobs that a manifest lists; ``digests`` are those it named, if any."""

    def __init__(self, answer: Answer) -> None:
        self.refusal = refusal(answer, doing="storing the manifest")
        self.digests = read_message(answer).digests
        super().__init__(self.refusal.message)


@dataclass(frozen=True)
class OpenedUpload:
    """The answer to opening an upload: its location, or None if the blob was mounted."""

    location: str | None
    headers: Mapping[str, str]


class RegistryClient(RegistryEndpoint):
    """A client of one registry (``host[:port]``). Thread-safe.

    Every method may raise the transport's errors, those of ``AuthenticatedRequest`` (CredentialsMissing,
    CredentialsRejected, PermissionDenied, AuthenticationUnsupported) and of ``Origin`` (LocationRefused,
    PlainHttpRefused); a method that does not return every answer also the errors of ``answers.refusal``.
    """

    def log_in(self, repository: str) -> None:
        """Find the registry and, if it issues tokens, request the one that a push to a repository needs.

        The token server checks the credential, as ``ping`` does, and no other token is needed later.
        """
        self._base_url()
        if self._auth.uses_tokens and self._auth.credential() is not None:
            self._auth.begin_request(self._transport, "HEAD", _push_scopes(repository)).headers()

    # --- blobs --------------------------------------------------------------------------------------------

    def blob_exists(self, repository: str, digest: str, size: int | None = None) -> bool:
        """Return whether the registry has a blob: by HEAD (end-2), or the headers of a GET if HEAD's name
        neither the digest nor ``size``.

        An intermediary may answer HEAD, and registries get both headers wrong for mounted blobs
        (https://github.com/cloudflare/serverless-registry/issues/121).
        """
        url = self._url(f"{repository}/blobs/{digest}")
        answer = self._request("HEAD", url, _push_scopes(repository), doing=_LOOKING)
        if answer.ok:
            return _matches_blob(answer, digest, size) or self._get_confirms(url, repository, digest, size)
        if answer.url != url and 400 <= answer.status < 500:
            return answer.status != 404  # a storage URL signed for GET refuses HEAD of a blob that exists
        if answer.status in (404, 405):
            return False
        raise refusal(answer, doing=f"looking for the blob {digest}")

    def _get_confirms(self, url: str, repository: str, digest: str, size: int | None) -> bool:
        """Return whether the headers of a GET are the blob's; its body is not read."""
        head = _HeadReceiver()
        with contextlib.suppress(_HeadReceived):
            self._request("GET", url, _push_scopes(repository), doing=_LOOKING, receiver=head)
        return head.answer is not None and _matches_blob(head.answer, digest, size)

    def open_upload(
        self, repository: str, *, mount: str | None = None, source: str | None = None
    ) -> OpenedUpload:
        """POST: open an upload (end-4a), or mount the blob ``mount`` of ``source`` if that is possible."""
        if mount and source and (opened := self.mount_blob(repository, mount, source)) is not None:
            return opened
        url = self._url(f"{repository}/blobs/uploads/")
        return self._opened(self._request("POST", url, _push_scopes(repository), doing=OPENING))

    def mount_blob(self, repository: str, digest: str, source: str) -> OpenedUpload | None:
        """POST: mount a blob of the repository ``source`` (end-11); return None if that is refused.

        A registry that cannot mount it may open an upload instead.
        """
        query = urlencode({"mount": digest, "from": source}, safe=":/")
        url = self._url(f"{repository}/blobs/uploads/?{query}")
        scopes = (*_push_scopes(repository), f"repository:{source}:pull")
        try:
            answer = self._request("POST", url, scopes, doing=OPENING)
        except (CredentialsRejected, PermissionDenied):
            return None  # the login may push here, but not pull there
        if is_stored(answer, digest):
            return OpenedUpload(None, answer.headers)
        if 400 <= answer.status < 500 and not is_temporary(answer):
            return None  # an upload may be allowed
        return self._opened(answer)

    def _opened(self, answer: Answer) -> OpenedUpload:
        if answer.status == 202 and (location := self.location_of(answer)):
            return OpenedUpload(location, answer.headers)
        raise refusal(answer, doing=OPENING)

    def send_chunk(self, repository: str, location: str, body: Body, start: int) -> Answer:
        """PATCH (end-5): send ``body``, which begins at byte ``start`` of the blob. Return any answer."""
        headers = {**_OCTETS, **_content_range(start, body)}
        if self.closes_connections:
            headers["Connection"] = "close"
        return self._request(
            "PATCH", location, _push_scopes(repository), doing="sending a chunk", body=body, headers=headers
        )

    def get_upload_status(self, repository: str, location: str) -> Answer:
        """GET (end-13): ask for the state of an upload. Return any answer."""
        return self._request("GET", location, _push_scopes(repository), doing=STATUS)

    def close_upload(
        self, repository: str, location: str, digest: str, body: Body | None = None, start: int = 0
    ) -> Answer:
        """PUT (end-6): close an upload with the whole blob or, after chunks, without body or with the last
        chunk, which begins at byte ``start``. Return any answer.

        It may take minutes: registries copy the blob before they answer.
        """
        address, mark, cookies = location.partition("#")
        query = f"{'&' if urlsplit(address).query else '?'}digest={quote(digest, safe=':')}"
        url = address + query + mark + cookies
        headers = {**_OCTETS, **_content_range(start, body)} if body and start else _OCTETS
        return self._request(
            "PUT",
            url,
            _push_scopes(repository),
            doing=CLOSING,
            body=body,
            headers=headers,
            answer_timeout=self._commit_timeout,
        )

    def delete_upload(self, repository: str, location: str) -> Answer:
        """DELETE (end-14): cancel an upload. Return any answer, 403 for a login that may push but not delete:
        callers should ignore failures."""
        try:
            return self._request("DELETE", location, _push_scopes(repository), doing="deleting an upload")
        except (CredentialsRejected, PermissionDenied):
            return Answer("DELETE", location, 403)

    def get_blob(self, repository: str, digest: str, receiver: Receiver, start: int = 0) -> Answer:
        """GET (end-2) a blob from byte ``start`` on into ``receiver``. Return any answer, with its body if
        ``receiver`` did not accept it. Registries without ranges send the whole blob."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        url = self._url(f"{repository}/blobs/{digest}")
        return self._request(
            "GET",
            url,
            _pull_scopes(repository),
            doing="downloading a blob",
            headers=headers,
            receiver=receiver,
        )

    def get_small(self, path: str, repository: str, *, accept: str = "*/*", limit: int) -> Answer:
        """GET ``manifests/...`` or ``blobs/...`` of a repository, with the scope to pull. Return any answer,
        with at most ``limit`` bytes of its body."""
        url = self._url(f"{repository}/{path}")
        return self._request(
            "GET", url, _pull_scopes(repository), doing="reading", headers={"Accept": accept}, limit=limit
        )

    def head(self, path: str, repository: str, *, accept: str = "*/*") -> Answer:
        """HEAD ``manifests/...`` or ``blobs/...`` of a repository, with the scope to pull."""
        url = self._url(f"{repository}/{path}")
        return self._request(
            "HEAD", url, _pull_scopes(repository), doing="looking", headers={"Accept": accept}
        )

    def is_from_registry(self, answer: Answer) -> bool:
        """Return whether the registry's own host answered, and not storage to which it redirected."""
        return Origin(self.registry, self._base_url()).is_same_host(answer.url)

    # --- manifests ----------------------------------------------------------------------------------------

    def get_manifest(self, repository: str, reference: str) -> bytes | None:
        """GET (end-3) the manifest of a single image; return None if this login cannot read one."""
        accept = ", ".join(sorted(media_types.MANIFESTS))
        url = self._url(f"{repository}/manifests/{reference}")
        answer = self._request(
            "GET", url, _push_scopes(repository), doing="reading", headers={"Accept": accept}
        )
        return answer.body if answer.ok else None

    def get_index(self, repository: str, tag: str) -> bytes | None:
        """GET (end-3) an index; return None if the tag does not exist."""
        accept = ", ".join(sorted(media_types.INDEXES))
        url = self._url(f"{repository}/manifests/{tag}")
        answer = self._request(
            "GET", url, _push_scopes(repository), doing="reading", headers={"Accept": accept}
        )
        if answer.status == 404:
            return None
        if answer.ok:
            return answer.body
        raise refusal(answer, doing=f"reading {repository}:{tag}")

    def put_manifest(self, repository: str, reference: str, manifest: Document) -> str | None:
        """PUT (end-7) the exact bytes of a manifest under a tag or digest.

        Return the digest of its subject if the registry maintains the list of referrers (OCI-Subject).
        Raises BlobsUnknown if the registry lacks blobs or manifests that the manifest lists.
        """
        answer = self._request(
            "PUT",
            self._url(f"{repository}/manifests/{reference}"),
            _push_scopes(repository),
            doing="storing the manifest",
            body=manifest.raw,
            headers={"Content-Type": manifest.media_type},
            answer_timeout=self._commit_timeout,
        )
        if is_stored(answer, manifest.digest):
            return answer.headers.get("OCI-Subject")
        if answer.ok and self.has_manifest(repository, manifest):
            return answer.headers.get("OCI-Subject")
        if answer.ok:
            raise self.unconfirmed_error(answer, "storing the manifest")
        if read_message(answer).codes & {"BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN"}:
            raise BlobsUnknown(answer)
        raise refusal(answer, doing=f"storing the manifest {repository}:{reference}")

    def has_manifest(self, repository: str, manifest: Document) -> bool:
        """Return whether the registry has a manifest: by HEAD of its digest (end-3), then by GET.

        True as well if the registry itself refuses because the login may push but not pull.
        """
        url = self._url(f"{repository}/manifests/{manifest.digest}")
        for method in ("HEAD", "GET"):
            try:
                answer = self._request(
                    method,
                    url,
                    _push_scopes(repository),
                    doing="looking for the manifest",
                    headers={"Accept": manifest.media_type},
                )
            except (CredentialsRejected, PermissionDenied):
                return True
            if answer.ok and method == "GET":
                return of_bytes(answer.body, manifest.digest) == manifest.digest
            stored = answer.headers.get("Docker-Content-Digest")
            if answer.ok and stored and not contradicts(stored, manifest.digest):
                return True
        if answer.status == 404:
            return False
        if answer.status in (401, 403) and self.is_from_registry(answer):
            return True
        raise refusal(answer, doing=f"looking for the manifest {manifest.digest}")


class _HeadReceived(Exception):
    """The headers of an answer have arrived; its body is not wanted."""


class _HeadReceiver:
    """A receiver that ends the request before the body."""

    def __init__(self) -> None:
        self.answer: Answer | None = None

    def begin(self, answer: Answer) -> bool:
        self.answer = answer if answer.ok else None
        return answer.ok

    def write(self, data: memoryview) -> None:  # noqa: ARG002
        raise _HeadReceived


def _matches_blob(answer: Answer, digest: str, size: int | None) -> bool:
    """Return whether headers are those of the blob: by its digest, else by its size."""
    named = answer.headers.get("Docker-Content-Digest")
    if is_page(answer) or (named and contradicts(named, digest)):
        return named == digest
    if named == digest:
        return True
    return size is None or answer.headers.get("Content-Length") == str(size)


def _content_range(start: int, body: Body) -> dict[str, str]:
    """Return the header without "bytes ", unlike HTTP: https://github.com/cloudflare/serverless-registry/issues/119."""
    return {"Content-Range": f"{start}-{start + len(body) - 1}"}


def _push_scopes(repository: str) -> Scopes:
    """Return the scopes of a push to a repository (distribution, docs/content/spec/auth/scope.md)."""
    return (f"repository:{repository}:pull,push",)


def _pull_scopes(repository: str) -> Scopes:
    return (f"repository:{repository}:pull",)

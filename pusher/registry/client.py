"""The requests of the distribution API that a push needs, on one registry."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from pusher.errors import (
    CredentialsRejected,
    PermissionDenied,
)
from pusher.oci import media_types
from pusher.oci.digest import contradicts, of_bytes
from pusher.oci.document import Document
from pusher.registry.answers import is_page, is_temporary, read_message, refusal
from pusher.registry.auth.tokens import Scopes
from pusher.registry.endpoint import Conversation
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import Body
from pusher.registry.http.transport import Receiver
from pusher.registry.intermediaries import CLOSING, OPENING, STATUS, stores
from pusher.registry.locations import Origin

_LOOKING: Final = "looking for a blob"
_OCTETS: Final = {"Content-Type": "application/octet-stream"}


class BlobsUnknown(Exception):
    """The registry does not know blobs that a manifest names; ``digests`` are those it named, if any."""

    def __init__(self, answer: Answer) -> None:
        self.refusal = refusal(answer, doing="storing the manifest")
        self.digests = read_message(answer).digests
        super().__init__(self.refusal.message)


@dataclass(frozen=True)
class Opened:
    """The answer to opening an upload: where its bytes go, or ``location`` None if the blob was mounted."""

    location: str | None
    headers: Mapping[str, str]


class RegistryClient(Conversation):
    """Talks to one registry (``host[:port]``). Thread-safe.

    Every method may raise the transport's errors, those of ``Attempt`` (CredentialsMissing,
    CredentialsRejected, PermissionDenied, AuthenticationUnsupported) and of ``Origin`` (LocationRefused,
    PlainHttpRefused); where it does not return any answer, also the errors of ``answers.refusal``.
    ``on_warning`` is told once of each different warning that the registry sends.
    """

    # --- blobs --------------------------------------------------------------------------------------------

    def blob_exists(self, repository: str, digest: str, size: int | None = None) -> bool:
        """HEAD (end-2), and where that names neither the digest nor ``size``, the head of a GET: what answers
        may be no registry, and registries get both wrong for mounted blobs
        (https://github.com/cloudflare/serverless-registry/issues/121)."""
        url = self._url(f"{repository}/blobs/{digest}")
        answer = self._request("HEAD", url, _scopes(repository), doing=_LOOKING)
        if answer.ok:
            return _describes(answer, digest, size) or self._gives(url, repository, digest, size)
        if answer.url != url and 400 <= answer.status < 500:
            return answer.status != 404  # a storage URL signed for GET refuses HEAD; the blob is behind it
        if answer.status in (404, 405):
            return False
        raise refusal(answer, doing=f"looking for the blob {digest}")

    def _gives(self, url: str, repository: str, digest: str, size: int | None) -> bool:
        """Whether a GET begins to give the blob; no byte of it is read."""
        head = _Head()
        with contextlib.suppress(_Enough):
            self._request("GET", url, _scopes(repository), doing=_LOOKING, receiver=head)
        return head.answer is not None and _describes(head.answer, digest, size)

    def open_upload(self, repository: str, *, mount: str | None = None, source: str | None = None) -> Opened:
        """POST (end-4a), or with ``mount`` a digest that ``source``, another repository, has (end-11)."""
        url = self._url(f"{repository}/blobs/uploads/")
        query, scopes = "", _scopes(repository)
        if mount and source:
            query = "?" + urlencode({"mount": mount, "from": source}, safe=":/")
            scopes += (f"repository:{source}:pull",)
        try:
            answer = self._request("POST", url + query, scopes, doing=OPENING)
        except (CredentialsRejected, PermissionDenied):
            if query:  # a login that may push here and not read there
                return self.open_upload(repository)
            raise
        if query and mount and stores(answer, mount):
            return Opened(None, answer.headers)
        if query and 400 <= answer.status < 500 and not is_temporary(answer):
            return self.open_upload(repository)  # mounting is refused; an upload may still be allowed
        if answer.status == 202 and (location := self.location_of(answer)):
            return Opened(location, answer.headers)
        raise refusal(answer, doing=OPENING)

    def send_chunk(self, repository: str, location: str, body: Body, start: int) -> Answer:
        """PATCH (end-5) with the bytes from ``start`` on; any answer is returned."""
        headers = {**_OCTETS, **_content_range(start, body)}
        if self.one_request_a_connection:
            headers["Connection"] = "close"
        return self._request(
            "PATCH", location, _scopes(repository), doing="sending a chunk", body=body, headers=headers
        )

    def upload_status(self, repository: str, location: str) -> Answer:
        """GET (end-13); any answer is returned."""
        return self._request("GET", location, _scopes(repository), doing=STATUS)

    def close_upload(
        self, repository: str, location: str, digest: str, body: Body | None = None, start: int = 0
    ) -> Answer:
        """PUT (end-6): with the whole blob or, after chunks, empty or with the last one, which begins at byte
        ``start``; any answer is returned.

        It may take minutes: registries copy the blob before they answer.
        """
        address, mark, cookies = location.partition("#")
        query = f"{'&' if urlsplit(address).query else '?'}digest={quote(digest, safe=':')}"
        url = address + query + mark + cookies
        headers = {**_OCTETS, **_content_range(start, body)} if body and start else _OCTETS
        return self._request(
            "PUT",
            url,
            _scopes(repository),
            doing=CLOSING,
            body=body,
            headers=headers,
            answer_timeout=self._commit_timeout,
        )

    def delete_upload(self, repository: str, location: str) -> Answer:
        """DELETE (end-14); any answer is returned, clients should ignore failures: 403 for a login that may
        push and not delete, as distribution tells the two apart."""
        try:
            return self._request("DELETE", location, _scopes(repository), doing="deleting an upload")
        except (CredentialsRejected, PermissionDenied):
            return Answer("DELETE", location, 403)

    def get_blob(self, repository: str, digest: str, receiver: Receiver, start: int = 0) -> Answer:
        """GET (end-2) from byte ``start`` on into ``receiver``; any answer is returned, the body of one that
        it did not take is in it. Registries that know no ranges give the whole blob."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        url = self._url(f"{repository}/blobs/{digest}")
        return self._request(
            "GET", url, _pull(repository), doing="giving a blob", headers=headers, receiver=receiver
        )

    def get_small(self, path: str, repository: str, *, accept: str = "*/*", limit: int) -> Answer:
        """GET of ``manifests/...`` or ``blobs/...`` of a repository, with the right to pull alone; any answer
        is returned, with at most ``limit`` bytes of its body."""
        url = self._url(f"{repository}/{path}")
        return self._request(
            "GET", url, _pull(repository), doing="reading", headers={"Accept": accept}, limit=limit
        )

    def is_ours(self, answer: Answer) -> bool:
        """Whether the registry itself gave an answer, and no storage that it sent us to."""
        return Origin(self.registry, self._reach()).holds(answer.url)

    # --- manifests ----------------------------------------------------------------------------------------

    def manifest_at(self, repository: str, reference: str) -> bytes | None:
        """GET (end-3) of a single image's manifest; None if there is none that we may see."""
        accept = ", ".join(sorted(media_types.MANIFESTS))
        url = self._url(f"{repository}/manifests/{reference}")
        answer = self._request("GET", url, _scopes(repository), doing="reading", headers={"Accept": accept})
        return answer.body if answer.ok else None

    def index_at(self, repository: str, tag: str) -> bytes | None:
        """GET (end-3) of an index; None if there is nothing at the tag."""
        accept = ", ".join(sorted(media_types.INDEXES))
        url = self._url(f"{repository}/manifests/{tag}")
        answer = self._request("GET", url, _scopes(repository), doing="reading", headers={"Accept": accept})
        if answer.status == 404:
            return None
        if answer.ok:
            return answer.body
        raise refusal(answer, doing=f"reading {repository}:{tag}")

    def small_blob(self, repository: str, digest: str) -> bytes | None:
        """GET (end-2) of a blob of at most ``ANSWER_LIMIT`` bytes, verified; None if it cannot be had."""
        url = self._url(f"{repository}/blobs/{digest}")
        answer = self._request("GET", url, _scopes(repository), doing="reading")
        return answer.body if answer.ok and of_bytes(answer.body, digest) == digest else None

    def put_manifest(self, repository: str, reference: str, manifest: Document) -> str | None:
        """PUT (end-7) of the manifest's exact bytes under a tag or digest.

        Returns the digest of its subject if the registry keeps track of what refers to that (OCI-Subject).
        Raises BlobsUnknown if the registry misses blobs or manifests that it names.
        """
        answer = self._request(
            "PUT",
            self._url(f"{repository}/manifests/{reference}"),
            _scopes(repository),
            doing="storing the manifest",
            body=manifest.raw,
            headers={"Content-Type": manifest.media_type},
            answer_timeout=self._commit_timeout,
        )
        if stores(answer, manifest.digest):
            return answer.headers.get("OCI-Subject")
        if answer.ok and self.manifest_is_there(repository, manifest):
            return answer.headers.get("OCI-Subject")
        if answer.ok:
            raise self.doubt(answer, "storing the manifest")
        if read_message(answer).codes & {"BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN"}:
            raise BlobsUnknown(answer)
        raise refusal(answer, doing=f"storing the manifest {repository}:{reference}")

    def manifest_is_there(self, repository: str, manifest: Document) -> bool:
        """HEAD (end-3) by digest, and GET where that does not tell: whether the registry gives this manifest.

        True as well for a login that may push and not pull: the registry itself says so.
        """
        url = self._url(f"{repository}/manifests/{manifest.digest}")
        for method in ("HEAD", "GET"):
            try:
                answer = self._request(
                    method,
                    url,
                    _scopes(repository),
                    doing="looking for the manifest",
                    headers={"Accept": manifest.media_type},
                )
            except (CredentialsRejected, PermissionDenied):
                return True
            if answer.ok and method == "GET":
                return of_bytes(answer.body, manifest.digest) == manifest.digest
            told = answer.headers.get("Docker-Content-Digest")
            if answer.ok and told and not contradicts(told, manifest.digest):
                return True
        if answer.status == 404:
            return False
        if answer.status in (401, 403) and self.is_ours(answer):
            return True
        raise refusal(answer, doing=f"looking for the manifest {manifest.digest}")


class _Enough(Exception):
    """The head of an answer is all that was wanted."""


class _Head:
    """A receiver that takes no byte."""

    def __init__(self) -> None:
        self.answer: Answer | None = None

    def begin(self, answer: Answer) -> bool:
        self.answer = answer if answer.ok else None
        return answer.ok

    def write(self, data: bytes) -> None:  # noqa: ARG002
        raise _Enough


def _describes(answer: Answer, digest: str, size: int | None) -> bool:
    """Whether headers are those of the blob: of its digest, else of its size."""
    told = answer.headers.get("Docker-Content-Digest")
    if is_page(answer) or (told and contradicts(told, digest)):
        return told == digest
    if told == digest:
        return True
    return size is None or answer.headers.get("Content-Length") == str(size)


def _content_range(start: int, body: Body) -> dict[str, str]:
    """Without "bytes ", unlike HTTP: https://github.com/cloudflare/serverless-registry/issues/119."""
    return {"Content-Range": f"{start}-{start + len(body) - 1}"}


def _scopes(repository: str) -> Scopes:
    """What a push may do to a repository (distribution, docs/content/spec/auth/scope.md)."""
    return (f"repository:{repository}:pull,push",)


def _pull(repository: str) -> Scopes:
    return (f"repository:{repository}:pull",)

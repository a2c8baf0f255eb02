"""The requests of the distribution API that a push needs, on one registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from pusher.errors import (
    CredentialsRejected,
    PermissionDenied,
)
from pusher.oci import media_types
from pusher.oci.digest import of_bytes
from pusher.oci.document import Document
from pusher.registry.answers import read_message, refusal
from pusher.registry.body import Body
from pusher.registry.conversation import Conversation
from pusher.registry.locations import Origin
from pusher.registry.tokens import Scopes
from pusher.registry.transport import Answer, Receiver

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

    def blob_exists(self, repository: str, digest: str) -> bool:
        """HEAD (end-2). A size or digest header is not compared: registries get them wrong for mounted blobs
        (https://github.com/cloudflare/serverless-registry/issues/121)."""
        url = self._url(f"{repository}/blobs/{digest}")
        answer = self._request("HEAD", url, _scopes(repository))
        if answer.ok:
            return True
        if answer.url != url and 400 <= answer.status < 500:
            return answer.status != 404  # a storage URL signed for GET refuses HEAD; the blob is behind it
        if answer.status in (404, 405):
            return False
        raise refusal(answer, doing=f"looking for the blob {digest}")

    def open_upload(self, repository: str, *, mount: str | None = None, source: str | None = None) -> Opened:
        """POST (end-4a), or with ``mount`` a digest that ``source``, another repository, has (end-11)."""
        url = self._url(f"{repository}/blobs/uploads/")
        query, scopes = "", _scopes(repository)
        if mount and source:
            query = "?" + urlencode({"mount": mount, "from": source}, safe=":/")
            scopes += (f"repository:{source}:pull",)
        try:
            answer = self._request("POST", url + query, scopes)
        except (CredentialsRejected, PermissionDenied):
            if query:  # a login that may push here and not read there
                return self.open_upload(repository)
            raise
        if answer.status == 201 and query:
            return Opened(None, answer.headers)
        if query and 400 <= answer.status < 500 and answer.status not in (408, 429):
            return self.open_upload(repository)  # mounting is refused; an upload may still be allowed
        if answer.ok and (location := self.location_of(answer)):
            return Opened(location, answer.headers)
        raise refusal(answer, doing="opening an upload")

    def send_chunk(self, repository: str, location: str, body: Body, start: int) -> Answer:
        """PATCH (end-5) with the bytes from ``start`` on; any answer is returned."""
        headers = {**_OCTETS, **_content_range(start, body)}
        if self.one_request_a_connection:
            headers["Connection"] = "close"
        return self._request("PATCH", location, _scopes(repository), body=body, headers=headers)

    def upload_status(self, repository: str, location: str) -> Answer:
        """GET (end-13); any answer is returned."""
        return self._request("GET", location, _scopes(repository))

    def close_upload(
        self, repository: str, location: str, digest: str, body: Body | None = None, start: int = 0
    ) -> Answer:
        """PUT (end-6): with the whole blob or, after chunks, empty or with the last one, which begins at byte
        ``start``; any answer is returned.

        It may take minutes: registries copy the blob before they answer.
        """
        url = f"{location}{'&' if urlsplit(location).query else '?'}digest={quote(digest, safe=':')}"
        headers = {**_OCTETS, **_content_range(start, body)} if body and start else _OCTETS
        return self._request(
            "PUT",
            url,
            _scopes(repository),
            body=body,
            headers=headers,
            answer_timeout=self._commit_timeout,
        )

    def delete_upload(self, repository: str, location: str) -> Answer:
        """DELETE (end-14); any answer is returned, clients should ignore failures: 403 for a login that may
        push and not delete, as distribution tells the two apart."""
        try:
            return self._request("DELETE", location, _scopes(repository))
        except (CredentialsRejected, PermissionDenied):
            return Answer("DELETE", location, 403)

    def get_blob(self, repository: str, digest: str, receiver: Receiver, start: int = 0) -> Answer:
        """GET (end-2) from byte ``start`` on into ``receiver``; any answer is returned, the body of one that
        it did not take is in it. Registries that know no ranges give the whole blob."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        url = self._url(f"{repository}/blobs/{digest}")
        return self._request("GET", url, _pull(repository), headers=headers, receiver=receiver)

    def get_small(self, path: str, repository: str, *, accept: str = "*/*", limit: int) -> Answer:
        """GET of ``manifests/...`` or ``blobs/...`` of a repository, with the right to pull alone; any answer
        is returned, with at most ``limit`` bytes of its body."""
        url = self._url(f"{repository}/{path}")
        return self._request("GET", url, _pull(repository), headers={"Accept": accept}, limit=limit)

    def is_ours(self, answer: Answer) -> bool:
        """Whether the registry itself gave an answer, and no storage that it sent us to."""
        return Origin(self.registry, self._reach()).holds(answer.url)

    # --- manifests ----------------------------------------------------------------------------------------

    def manifest_at(self, repository: str, reference: str) -> bytes | None:
        """GET (end-3) of a single image's manifest; None if there is none that we may see."""
        accept = ", ".join(sorted(media_types.MANIFESTS))
        url = self._url(f"{repository}/manifests/{reference}")
        answer = self._request("GET", url, _scopes(repository), headers={"Accept": accept})
        return answer.body if answer.ok else None

    def index_at(self, repository: str, tag: str) -> bytes | None:
        """GET (end-3) of an index; None if there is nothing at the tag."""
        accept = ", ".join(sorted(media_types.INDEXES))
        url = self._url(f"{repository}/manifests/{tag}")
        answer = self._request("GET", url, _scopes(repository), headers={"Accept": accept})
        if answer.status == 404:
            return None
        if answer.ok:
            return answer.body
        raise refusal(answer, doing=f"reading {repository}:{tag}")

    def small_blob(self, repository: str, digest: str) -> bytes | None:
        """GET (end-2) of a blob of at most ``ANSWER_LIMIT`` bytes, verified; None if it cannot be had."""
        answer = self._request("GET", self._url(f"{repository}/blobs/{digest}"), _scopes(repository))
        return answer.body if answer.ok and of_bytes(answer.body) == digest else None

    def put_manifest(self, repository: str, reference: str, manifest: Document) -> str | None:
        """PUT (end-7) of the manifest's exact bytes under a tag or digest.

        Returns the digest of its subject if the registry keeps track of what refers to that (OCI-Subject).
        Raises BlobsUnknown if the registry misses blobs or manifests that it names.
        """
        answer = self._request(
            "PUT",
            self._url(f"{repository}/manifests/{reference}"),
            _scopes(repository),
            body=manifest.raw,
            headers={"Content-Type": manifest.media_type},
            answer_timeout=self._commit_timeout,
        )
        if answer.ok:
            return answer.headers.get("OCI-Subject")
        if read_message(answer).codes & {"BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN"}:
            raise BlobsUnknown(answer)
        raise refusal(answer, doing=f"storing the manifest {repository}:{reference}")


def _content_range(start: int, body: Body) -> dict[str, str]:
    """Without "bytes ", unlike HTTP: https://github.com/cloudflare/serverless-registry/issues/119."""
    return {"Content-Range": f"{start}-{start + len(body) - 1}"}


def _scopes(repository: str) -> Scopes:
    """What a push may do to a repository (distribution, docs/content/spec/auth/scope.md)."""
    return (f"repository:{repository}:pull,push",)


def _pull(repository: str) -> Scopes:
    return (f"repository:{repository}:pull",)

"""The requests of the distribution API that a push needs, on one registry."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, quote, urlencode, urljoin, urlsplit

from pusher.errors import (
    ConnectionBroken,
    CredentialsRejected,
    NotARegistry,
    PlainHttpRefused,
    RegistryRefused,
)
from pusher.oci import media_types
from pusher.oci.digest import of_bytes
from pusher.oci.manifest import Manifest
from pusher.reference import api_host, is_loopback
from pusher.registry.answers import read_message, refusal
from pusher.registry.auth import Authenticator
from pusher.registry.body import Body
from pusher.registry.transport import Answer, Transport

_OCTETS: Final = {"Content-Type": "application/octet-stream"}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5


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


class RegistryClient:
    """Talks to one registry (``host[:port]``). Thread-safe.

    Every method may raise the transport's errors, CredentialsMissing and CredentialsRejected; where it does
    not return any answer, also the errors of ``answers.refusal``.
    """

    def __init__(
        self,
        registry: str,
        transport: Transport,
        authenticator: Authenticator,
        *,
        plain_http: bool = False,
        commit_timeout: float = 900.0,
    ) -> None:
        self.registry = registry
        self._transport = transport
        self._auth = authenticator
        self._plain_http = plain_http
        self._commit_timeout = commit_timeout
        self._lock = threading.Lock()
        self._base: str | None = None
        self.one_request_a_connection = False
        """Set when the link cuts connections in the middle of bodies: where a front or a link does so after a
        number of bytes, a fresh connection for each chunk gets through."""

    # --- blobs --------------------------------------------------------------------------------------------

    def blob_exists(self, repository: str, digest: str) -> bool:
        """HEAD (end-2). A size or digest header is not compared: registries get them wrong for mounted blobs
        (https://github.com/cloudflare/serverless-registry/issues/121)."""
        url = self._url(f"{repository}/blobs/{digest}")
        answer = self._request("HEAD", url)
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
        query = "?" + urlencode({"mount": mount, "from": source}, safe=":/") if mount and source else ""
        try:
            answer = self._request("POST", url + query)
        except CredentialsRejected:
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
        # without "bytes ", unlike HTTP: https://github.com/cloudflare/serverless-registry/issues/119
        headers = {**_OCTETS, "Content-Range": f"{start}-{start + len(body) - 1}"}
        if self.one_request_a_connection:
            headers["Connection"] = "close"
        return self._request("PATCH", location, body=body, headers=headers)

    def upload_status(self, repository: str, location: str) -> Answer:
        """GET (end-13); any answer is returned."""
        return self._request("GET", location)

    def close_upload(self, repository: str, location: str, digest: str, body: Body | None = None) -> Answer:
        """PUT (end-6), with the whole blob or, after chunks, empty; any answer is returned.

        It may take minutes: registries copy the blob before they answer.
        """
        url = f"{location}{'&' if urlsplit(location).query else '?'}digest={quote(digest, safe=':')}"
        return self._request("PUT", url, body=body, headers=_OCTETS, answer_timeout=self._commit_timeout)

    def delete_upload(self, repository: str, location: str) -> Answer:
        """DELETE (end-14); any answer is returned, clients should ignore failures."""
        return self._request("DELETE", location)

    # --- manifests ----------------------------------------------------------------------------------------

    def manifest_at(self, repository: str, reference: str) -> bytes | None:
        """GET (end-3) of a single image's manifest; None if there is none that we may see."""
        accept = ", ".join(sorted(media_types.MANIFESTS))
        url = self._url(f"{repository}/manifests/{reference}")
        answer = self._request("GET", url, headers={"Accept": accept})
        return answer.body if answer.ok else None

    def small_blob(self, repository: str, digest: str) -> bytes | None:
        """GET (end-2) of a blob of at most ``ANSWER_LIMIT`` bytes, verified; None if it cannot be had."""
        answer = self._request("GET", self._url(f"{repository}/blobs/{digest}"))
        return answer.body if answer.ok and of_bytes(answer.body) == digest else None

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        """PUT (end-7) of the manifest's exact bytes under a tag or digest.

        Raises BlobsUnknown if the registry misses blobs that the manifest names.
        """
        answer = self._request(
            "PUT",
            self._url(f"{repository}/manifests/{reference}"),
            body=manifest.raw,
            headers={"Content-Type": manifest.media_type},
            answer_timeout=self._commit_timeout,
        )
        if answer.ok:
            return
        if read_message(answer).codes & {"BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN"}:
            raise BlobsUnknown(answer)
        raise refusal(answer, doing=f"storing the manifest {repository}:{reference}")

    # --- the way there ------------------------------------------------------------------------------------

    def ping(self) -> str:
        """Make sure that a registry answers and takes our credential (GET /v2/, end-1); asked once.

        Returns the base of its URLs. Raises NotARegistry, CredentialsRejected and the transport's errors.
        """
        with self._lock:
            if self._base is None:
                self._base = self._find()
            return self._base

    def location_of(self, answer: Answer) -> str | None:
        """The absolute URL that an answer's Location means, its query as given (RFC 3986 5)."""
        location = answer.headers.get("Location")
        if not location:
            return None
        url = self._join(answer.url, location)
        base, target = urlsplit(self._base or answer.url), urlsplit(url)
        if base.scheme == "https" and target.scheme == "http":
            if base.hostname != target.hostname:
                raise PlainHttpRefused(
                    f"{self.registry} wants the upload to go to {target.hostname} over plain http",
                    hint="check the registry's configuration",
                )
            # a registry behind a TLS proxy that does not tell it so
            url = target._replace(scheme="https", netloc=base.netloc).geturl()
        return url

    def _join(self, base: str, location: str) -> str:
        """The absolute http address that ``location`` means in an answer from ``base``."""
        try:
            url = urljoin(base, location)
            if _origin(url)[0] in ("http", "https"):
                return url
        except ValueError:  # brackets or a port that make no sense
            pass
        raise RegistryRefused(
            f"{self.registry} gave a location that is no http address",
            hint="check the configuration of the registry and of the proxy in front of it",
        )

    def _find(self) -> str:
        host = api_host(self.registry)
        loopback = is_loopback(self.registry)
        schemes = ["http"] if self._plain_http else ["http", "https"] if loopback else ["https"]
        broken: ConnectionBroken | None = None
        for scheme in schemes:
            base = f"{scheme}://{host}/v2/"
            try:
                answer = self._request("GET", base, origin=base)
            except ConnectionBroken as error:
                if scheme == schemes[-1]:
                    raise
                broken = error  # by a link, or because TLS is spoken here
                continue
            except NotARegistry as error:
                raise broken or error from None
            if answer.status == 400 and scheme != schemes[-1]:
                continue  # "client sent an HTTP request to an HTTPS server"
            page = answer.headers.get("Content-Type", "").startswith("text/html")
            if answer.ok and not page:
                return base
            if answer.ok or answer.status in _REDIRECTS or answer.status in (400, 404, 405):
                break
            raise refusal(answer, doing="greeting it (GET /v2/)")
        raise NotARegistry(
            f"{self.registry} is no container registry: GET /v2/ answers {answer.status}",
            hint="check the registry's name: the part of the image name before the first slash",
        )

    def _url(self, path: str) -> str:
        return self.ping() + path

    def _request(
        self,
        method: str,
        url: str,
        *,
        body: Body | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        answer_timeout: float | None = None,
        origin: str | None = None,
    ) -> Answer:
        """Send, prove who we are when asked, follow redirects; the login goes to our origin only."""
        if origin is None:
            origin = self.ping()
        challenged = False
        for _ in range(_MOST_REDIRECTS):
            ours = _origin(url) == _origin(origin)
            answer = self._transport.send(
                method,
                url,
                headers={**(headers or {}), **(self._auth.headers() if ours else {})},
                body=body,
                answer_timeout=answer_timeout,
            )
            if answer.status == 401 and ours:
                if challenged:
                    raise self._auth.rejected(answer)
                challenged = True
                self._auth.answer_challenge(answer)
            elif answer.status in _REDIRECTS and (target := answer.headers.get("Location")):
                if method not in ("GET", "HEAD") and answer.status not in (307, 308):
                    return answer
                url = self._join(url, target)
                if urlsplit(origin).scheme == "https" and urlsplit(url).scheme != "https":
                    raise PlainHttpRefused(
                        f"{self.registry} redirects from https to plain http",
                        hint="check the registry's name and its front's configuration",
                    )
            else:
                return answer
            if isinstance(body, Body):
                body.rewind()
        return answer


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts: SplitResult = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)

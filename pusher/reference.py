"""Parse image references: ``[registry/]repository[:tag][@digest]``, read by Docker's rules.

Grammar: https://github.com/distribution/reference (``reference.go``), names that Docker completes:
``normalize.go`` there. Stricter in two points: only sha256 digests, and an upper-case first part without a
dot is taken for a repository written wrongly, not for a host.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import ReferenceMalformed
from pusher.oci.digest import is_sha256

STANDARD_INPUT: Final = "standard input"
"""What jobs call an image that came through it, and which cannot be named again."""
DOCKER_HUB: Final = "docker.io"
DOCKER_HUB_API: Final = "registry-1.docker.io"
_DOCKER_HUB_ALIASES: Final = frozenset({"index.docker.io", DOCKER_HUB_API})
_EXAMPLE: Final = "registry.example.com/team/app:1.2"
_LONGEST_REPOSITORY: Final = 255
_LONGEST_TAG: Final = 128

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST: Final = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
)
_COMPONENT: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOST_ALONE: Final = r"(?:\[[^\]/]*\]|localhost|(?=[^.]*\.)[A-Za-z0-9.-]+)(?::[0-9]+)?"
"""A host without a slash. ``app:1.2`` is a reference: a host has a dot, or is this machine."""
_IMAGE_ID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """An image's name: ``registry`` is ``host[:port]`` in lower case, ``docker.io`` for Docker Hub."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read ``text``, completed as ``docker push`` does: Docker Hub, ``library/``, ``:latest``.

        Raises ReferenceMalformed, which names the part that is wrong and what would be right.
        """
        return _Parser(text).parse()

    @property
    def name(self) -> str:
        """Return ``registry/repository``, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def api_host(self) -> str:
        """Return ``host[:port]`` of the distribution API."""
        return api_host(self.registry)

    def with_tag(self, tag: str) -> Reference:
        """Return the same repository with another tag. Raises ReferenceMalformed."""
        check_tag(tag)
        return replace(self, tag=tag, digest=None)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


@dataclass(frozen=True)
class RegistryPath:
    """A registry, or a namespace in it, in which images keep their own names."""

    registry: str
    namespace: str = ""

    @classmethod
    def parse(cls, text: str) -> RegistryPath:
        """Read ``host[:port][/namespace]``, with or without a slash at the end.

        Raises ReferenceMalformed.
        """
        return _Parser(text, "a registry").parse_path()

    def join(self, name: str) -> Reference:
        """Return the reference of the image ``name`` here, without the registry in its name."""
        return Reference.parse(f"{self}/{name.partition('/')[2] if names_registry(name) else name}")

    def __str__(self) -> str:
        return f"{self.registry}/{self.namespace}" if self.namespace else self.registry


def destination(name: str | None, *, to: str | None = None, default: str | None = None) -> Reference | None:
    """Return where the image that is called ``name`` is pushed.

    ``to`` and ``default`` are as in ``parse_to``. None: there is no name, neither in ``to``.
    Raises ReferenceMalformed.
    """
    path = parse_to(to, default)
    if isinstance(path, RegistryPath):
        return None if name is None else path.join(name)
    return path if path is not None or name is None else _complete(name, default)


def parse_to(to: str | None, default: str | None) -> Reference | RegistryPath | None:
    """Read ``--to``: a reference, or a registry path in which the image keeps its name.

    A registry path is ``host``, ``host:5000`` or ``host/namespace/`` with its slash at the end. ``default``
    is the one for names without a registry; Podman's ``localhost/`` is such a name. Raises
    ReferenceMalformed.
    """
    if to is None:
        return None
    if to.endswith("/") or re.fullmatch(_HOST_ALONE, to):
        return RegistryPath.parse(to)
    return _complete(to, default)


def _complete(name: str, default: str | None) -> Reference:
    if default is not None and (not names_registry(name) or name.startswith("localhost/")):
        return RegistryPath.parse(default).join(name)
    return Reference.parse(name)


def names_registry(name: str) -> bool:
    """Return whether the name has a registry; without one it is Docker Hub's."""
    first, slash, _ = name.partition("/")
    return bool(slash) and _is_host(first)


def has_tag(text: str) -> bool:
    """Return whether a reference, as typed, has a tag."""
    return ":" in text.partition("@")[0].rpartition("/")[2]


def check_tag(tag: str) -> None:
    """Raise ReferenceMalformed unless ``tag`` can be a tag."""
    _Parser(tag, "a tag").check_tag("app", tag)


def api_host(registry: str) -> str:
    """Return ``host[:port]`` of the registry's API; only Docker Hub's differs from its name."""
    return DOCKER_HUB_API if registry == DOCKER_HUB else registry


def api_schemes(registry: str, *, plain_http: bool) -> tuple[str, ...]:
    """Return the URL schemes to try for the registry's API, in order: on this machine first without TLS."""
    if plain_http:
        return ("http",)
    return ("http", "https") if is_loopback(registry) else ("https",)


def canonical_registry(host: str) -> str:
    """Return ``host[:port]`` in lower case, with every name of Docker Hub as ``docker.io``."""
    host = host.lower()
    return DOCKER_HUB if host in _DOCKER_HUB_ALIASES else host


def is_loopback(registry: str) -> bool:
    """Return whether ``host[:port]`` is this machine: ``localhost`` and below it, 127.0.0.0/8, ::1."""
    host = registry[1:].partition("]")[0] if registry.startswith("[") else registry.partition(":")[0]
    host = host.lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Parser:
    """Parses one reference; keeps the whole text for errors."""

    def __init__(self, text: str, what: str = "an image reference") -> None:
        self.text = text
        self.what = what

    def parse_path(self) -> RegistryPath:
        self._check_shape()
        host, _, namespace = self.text.removesuffix("/").partition("/")
        if not _is_host(host):
            raise self._malformed_error(
                f"its first part {_cut(host)!r} is not a host: it has neither a dot nor a port",
                "write it like registry.example.com, localhost:5000 or registry.example.com/team",
            )
        self._check_host(host)
        if namespace:
            self._check_repository(namespace)
        return RegistryPath(canonical_registry(host), namespace)

    def parse(self) -> Reference:
        self._check_shape()
        rest, at, digest = self.text.partition("@")
        name, colon, tag = self._split_tag(rest)
        registry, repository = self._split_registry(name)
        self._check_repository(repository)
        if colon:
            self.check_tag(name, tag)
        if at:
            self._check_digest(rest, digest)
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        if len(repository) > _LONGEST_REPOSITORY:
            raise self._malformed_error(
                f"its repository has {len(repository)} characters",
                f"a repository has at most {_LONGEST_REPOSITORY}, the registry's host not counted",
            )
        if not colon and not at:
            tag = "latest"
        return Reference(registry, repository, tag or None, digest or None)

    def _malformed_error(self, why: str, hint: str) -> ReferenceMalformed:
        shown = self.text if len(self.text) <= 100 else self.text[:97] + "..."
        return ReferenceMalformed(f"{shown!r} is not {self.what}: {why}", hint=hint)

    def _check_shape(self) -> None:
        text = self.text
        if not text.strip():
            raise ReferenceMalformed("the image reference is empty", hint=f"write it like {_EXAMPLE}")
        if text != text.strip():
            raise self._malformed_error("there is a space before or after it", f"write {text.strip()}")
        if space := re.search(r"[\s\x00-\x1f\x7f]", text):
            raise self._malformed_error(
                f"there is {_name_of(space.group())} at position {space.start() + 1}",
                f"a reference has none; write it like {_EXAMPLE}",
            )
        if scheme := _SCHEME.match(text):
            also = (
                ", and add --plain-http where the registry speaks http" if scheme.group(1) == "http" else ""
            )
            raise self._malformed_error(
                f"it begins with {scheme.group()}",
                f"write it without: {text[scheme.end() :].rstrip('/') or _EXAMPLE}{also}",
            )
        if text.startswith("/"):
            raise self._malformed_error("it begins with a slash", f"write {text.lstrip('/') or _EXAMPLE}")
        if text.startswith((":", "@")) and not (text.startswith("::") and "/" in text):
            raise self._malformed_error(f"there is no name before {text[0]!r}", f"write it like {_EXAMPLE}")

    def _split_tag(self, rest: str) -> tuple[str, str, str]:
        """Return name, ``:`` or nothing, tag. A colon before the last slash belongs to the port."""
        head, slash, last = rest.rpartition("/")
        repository, colon, tag = last.partition(":")
        name = f"{head}{slash}{repository}"
        if not repository and slash:
            right = f"write it like {head}/app:1.2" if _is_host(head) else f"write {head}"
            raise self._malformed_error(f"there is no repository after {head + slash!r}", right)
        if ":" in tag:
            raise self._malformed_error(
                f"there is more than one colon after {repository!r}",
                f"one tag is allowed: {name}:{tag.rpartition(':')[2] or '1.2'}",
            )
        return name, colon, tag

    def _split_registry(self, name: str) -> tuple[str, str]:
        first, slash, rest = name.partition("/")
        if not slash or not _is_host(first):
            return DOCKER_HUB, name
        self._check_host(first)
        return canonical_registry(first), rest

    def _check_host(self, registry: str) -> None:
        if registry.startswith("["):
            inner, closed, after = registry[1:].partition("]")
            if not closed or not _is_ipv6(inner):
                raise self._malformed_error(
                    f"its registry {registry!r} is not an IPv6 address in brackets",
                    "write it like [::1]:5000/app:1.2",
                )
            host, colon, port = f"[{inner}]", after[:1], after[1:]
            if colon not in ("", ":"):
                raise self._malformed_error(
                    f"there is {after!r} after the address {host}",
                    f"a port follows with a colon, {host}:5000",
                )
        elif registry.count(":") > 1:
            raise self._malformed_error(
                f"its registry {registry!r} has several colons",
                "write host:port, and an IPv6 address in brackets: [::1]:5000/app:1.2",
            )
        else:
            host, colon, port = registry.partition(":")
            if not _HOST.fullmatch(host):
                raise self._malformed_error(
                    f"its registry {host!r} is not a host name",
                    "a host name has letters, digits and dots, and hyphens between letters or digits",
                )
        if colon and not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
            what = (
                f"the port {port!r} of its registry is not a number from 1 to 65535"
                if port
                else (f"the port after '{host}:' is missing")
            )
            raise self._malformed_error(what, f"write it like {host}:5000/app:1.2")

    def _check_repository(self, repository: str) -> None:
        if _IMAGE_ID.fullmatch(repository):
            raise self._malformed_error(
                "it is an image ID, which says nothing of where to push",
                f"name the destination: --to {_EXAMPLE}",
            )
        for component in repository.split("/"):
            if _COMPONENT.fullmatch(component):
                continue
            if not component:
                raise self._malformed_error(
                    "there are two slashes in a row", f"write {re.sub('/{2,}', '/', self.text)}"
                )
            if component != component.lower():
                fixed = self.text.replace(repository, repository.lower(), 1)
                raise self._malformed_error(
                    f"its repository has upper-case letters in {component!r}",
                    f"write it in lower case: {fixed}",
                )
            if bad := re.search(r"[^a-z0-9._-]", component):
                raise self._malformed_error(
                    f"its repository has {_name_of(bad.group())} in {component!r}",
                    "a repository has lower-case letters, digits, and between them '.', '_', '__' or hyphens",
                )
            if not (component[0].isalnum() and component[-1].isalnum()):
                raise self._malformed_error(
                    f"{component!r} in its repository begins or ends with a separator",
                    f"a letter or digit is at both ends: {component.strip('._-') or 'app'}",
                )
            raise self._malformed_error(
                f"{component!r} in its repository has separators in a row",
                "between letters or digits is one '.', one '_', two '_' or any number of hyphens",
            )

    def check_tag(self, name: str, tag: str) -> None:
        """Raise ReferenceMalformed unless ``tag`` can be the tag of ``name``."""
        if not tag:
            raise self._malformed_error("the tag is empty", f"write {name}:latest, or {name} alone")
        if tag[0] in ".-":
            raise self._malformed_error(
                f"its tag {tag!r} begins with {tag[0]!r}", f"write {name}:{tag.lstrip('.-') or 'latest'}"
            )
        if not _TAG.fullmatch(tag):
            bad = re.search(r"[^A-Za-z0-9_.-]", tag)
            raise self._malformed_error(
                f"its tag {tag!r} has {_name_of(bad.group() if bad else tag)}",
                "a tag has letters, digits, '_', '.' and '-'",
            )
        if len(tag) > _LONGEST_TAG:
            raise self._malformed_error(
                f"its tag has {len(tag)} characters", f"a tag has at most {_LONGEST_TAG}"
            )

    def _check_digest(self, rest: str, digest: str) -> None:
        if is_sha256(digest):
            return
        algorithm, _, value = digest.partition(":")
        if not digest:
            why = "the digest after '@' is empty"
        elif algorithm != "sha256":
            why = f"its digest {_cut(digest)!r} is not a sha256 digest"
        elif len(value) != 64:
            why = f"its digest has {len(value)} digits"
        else:
            why = "its digest has characters other than 0-9 and a-f"
        raise self._malformed_error(
            why, f"a digest is sha256: and 64 of 0-9 and a-f; write {rest}@sha256:..."
        )


def _is_host(part: str) -> bool:
    """Return whether the part before the first slash is a registry, by Docker's rule."""
    return "/" not in part and (part.lower() == "localhost" or bool(set(".:[") & set(part)))


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _cut(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _name_of(character: str) -> str:
    return {" ": "a space", "\t": "a tab", "\n": "a line break"}.get(character, repr(character))

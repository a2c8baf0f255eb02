"""Detect a registry's profile: from its responses, then from its name, refined by what was learned."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import InvalidOption
from pusher.registry.upload.profiles.profile import Profile
from pusher.registry.upload.profiles.table import (
    ACR,
    ALIYUN,
    ARTIFACTORY,
    CHUNKED,
    DEFAULT,
    DISTRIBUTION,
    DISTRIBUTION_2,
    DISTRIBUTION_3,
    DOCKER_HUB,
    ECR,
    GHCR,
    GITEA,
    GITLAB,
    GOOGLE,
    HARBOR,
    MONOLITHIC,
    NEXUS,
    PROFILES,
    QUAY,
    SERVERLESS,
    ZOT,
)


@dataclass(frozen=True)
class _Sign:
    """Regular expressions to search for in the response to opening an upload; all of them must match."""

    profile: Profile
    location: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def fits(self, location: str, headers: Mapping[str, str]) -> bool:
        shown = {name.lower(): value for name, value in headers.items()}
        return re.search(self.location, location.partition("#")[0]) is not None and all(
            re.search(pattern, shown.get(name, "")) for name, pattern in self.headers.items()
        )


_SIGNS: Final = (
    _Sign(SERVERLESS, location=r"[?&]_stateHash=", headers={"oci-chunk-max-length": r"\d"}),
    _Sign(ACR, location=r"[?&]_nouploadcache="),
    _Sign(GHCR, location=r"/blobs/upload/[^/]+$"),
    _Sign(GOOGLE, location=r"/artifacts-uploads/namespaces/"),
    _Sign(QUAY, headers={"range": r"^bytes=0--1$"}),
    _Sign(ZOT, headers={"blob-upload-uuid": r"."}),
    _Sign(ARTIFACTORY, headers={"x-jfrog-version": r"."}),
    _Sign(ARTIFACTORY, headers={"x-artifactory-id": r"."}),
    _Sign(NEXUS, headers={"server": r"^Nexus/"}),
    _Sign(GITEA, location=r"/blobs/uploads/[a-z0-9]{25}$"),
)
_HOSTS: Final = {
    "ghcr.io": GHCR,
    "docker.io": DOCKER_HUB,
    "index.docker.io": DOCKER_HUB,
    "registry-1.docker.io": DOCKER_HUB,
    "registry.gitlab.com": GITLAB,
    "*.dkr.ecr.*.amazonaws.com": ECR,
    "*.dkr.ecr.*.amazonaws.com.cn": ECR,
    "*.dkr.ecr-fips.*.amazonaws.com": ECR,
    "public.ecr.aws": ECR,
    "*.pkg.dev": GOOGLE,
    "gcr.io": GOOGLE,
    "*.gcr.io": GOOGLE,
    "*.azurecr.io": ACR,
    "*.azurecr.cn": ACR,
    "*.azurecr.us": ACR,
    "quay.io": QUAY,
    "*.goharbor.io": HARBOR,
    "gitea.com": GITEA,
    "codeberg.org": GITEA,
    "*.jfrog.io": ARTIFACTORY,
    "*.aliyuncs.com": ALIYUN,
}


def by_name(name: str) -> Profile:
    """Return the profile of this name. Raises InvalidOption that lists them all."""
    if name in PROFILES:
        return PROFILES[name]
    raise InvalidOption(
        f"there is no registry profile called {name!r}", hint=f"use one of: {', '.join(sorted(PROFILES))}"
    )


def stored_profile(name: str | None) -> Profile:
    """Return the profile of a name in the job store, which another version may have written."""
    return PROFILES.get(name or "", DEFAULT)


def detect(
    location: str,
    headers: Mapping[str, str],
    *,
    registry: str = "",
    learned: str | None = None,
    forced: str | None = None,
) -> Profile:
    """Return the profile of the registry that opened an upload with this Location and these headers.

    ``registry`` is its ``host[:port]``. ``learned`` is the name of the profile that earlier sessions ended up
    with: it refines what is seen now. ``forced`` overrules all; InvalidOption if there is no such profile.
    """
    if forced is not None:
        return by_name(forced)
    if learned == MONOLITHIC.name:
        return MONOLITHIC
    seen = next((sign.profile for sign in _SIGNS if sign.fits(location, headers)), None)
    found = seen or _by_host(registry)
    if found is None:
        found = DISTRIBUTION if re.search(r"[?&]_state=", location) else DEFAULT
    if found is DISTRIBUTION and learned in (DISTRIBUTION_2.name, DISTRIBUTION_3.name):
        return PROFILES[learned]
    if found is DEFAULT and learned == CHUNKED.name:
        return CHUNKED
    return PROFILES[found.name]


def _by_host(registry: str) -> Profile | None:
    host = registry.lower().partition(":")[0]
    return next((profile for pattern, profile in _HOSTS.items() if fnmatch.fnmatchcase(host, pattern)), None)


def profile_after_break(profile: Profile, *, found: bool, grown: bool) -> Profile:
    """Return the profile that the status after a broken chunk shows: ``found``, the session is known;
    ``grown``, it holds part of that chunk. 2.x never reports a session that has grown, 3.x always does."""
    if profile is not DISTRIBUTION:
        return profile
    if not found:
        return DISTRIBUTION_2
    return DISTRIBUTION_3 if grown else profile

"""How registries differ in chunked uploads: one small value each, with where it is known from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB


@dataclass(frozen=True)
class Profile:
    """What a registry's uploads are like. Sizes in bytes."""

    name: str
    title: str
    """What people call it."""
    min_chunk: int = 0
    """Chunks but the last have at least this size."""
    max_chunk: int | None = None
    max_blob: int | None = None
    max_parts: int | None = None
    """Chunks that one upload may have."""
    may_grow: bool = False
    """Chunks of one upload may have different sizes."""
    whole_chunks: bool = False
    """Every chunk but the last has the same size, so an upload goes on at a chunk's boundary only."""
    breaks_with_chunk: bool = False
    """A connection that breaks inside a chunk makes the session unusable: chunks should be small."""


SERVERLESS: Final = Profile(
    # src/chunk.ts and src/registry/r2.ts at cloudflare/serverless-registry@5f97b0e; a layer is finally copied
    # with one R2 put, which takes 5 GiB (https://github.com/cloudflare/serverless-registry/issues/69)
    name="serverless-registry",
    title="Cloudflare's serverless-registry",
    min_chunk=5 * MIB,
    max_chunk=100_000_000,
    max_blob=5 * GIB,
    max_parts=10_000,
    whole_chunks=True,
)
DISTRIBUTION: Final = Profile(
    # 2.x and 3.x look alike until a chunk's fate is in doubt
    name="distribution",
    title="the Docker distribution registry",
    may_grow=True,
)
DISTRIBUTION_2: Final = Profile(
    # registry/handlers/blobupload.go L78-84 at distribution/distribution@v2.8.3: after half a chunk the
    # signed offset never fits again
    name="distribution-2",
    title="the Docker distribution registry 2.x",
    breaks_with_chunk=True,
)
DISTRIBUTION_3: Final = Profile(
    # GetUploadStatus in registry/handlers/blobupload.go L107-132 at distribution/distribution@v3.0.0
    name="distribution-3",
    title="the Docker distribution registry 3.x",
    may_grow=True,
)
DEFAULT: Final = Profile(name="default", title="a registry of unknown make")

PROFILES: Final = {
    profile.name: profile for profile in (SERVERLESS, DISTRIBUTION, DISTRIBUTION_2, DISTRIBUTION_3, DEFAULT)
}


def detect(location: str, headers: Mapping[str, str], learned: str | None = None) -> Profile:
    """The profile of the registry that opened an upload with this Location and these headers.

    ``learned`` is a profile's name that an earlier session ended up with; it only refines what is seen now.
    """
    if "_stateHash=" in location and "OCI-Chunk-Max-Length" in headers:
        return SERVERLESS
    if "_state=" in location:
        return PROFILES[learned] if learned in (DISTRIBUTION_2.name, DISTRIBUTION_3.name) else DISTRIBUTION
    return DEFAULT


def after_doubt(profile: Profile, *, found: bool, grown: bool) -> Profile:
    """What the status answer after a broken chunk tells: ``found`` the session is known, ``grown`` it holds
    part of that chunk. 2.x never answers for a session that has grown, 3.x always answers."""
    if profile is not DISTRIBUTION:
        return profile
    if not found:
        return DISTRIBUTION_2
    return DISTRIBUTION_3 if grown else profile

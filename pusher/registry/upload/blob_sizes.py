"""Check before an upload whether the registry can store a blob of this size."""

from __future__ import annotations

from contextlib import suppress

from pusher.errors import LayerTooLarge, PusherError
from pusher.registry.client import RegistryClient
from pusher.registry.upload import profiles
from pusher.registry.upload.profiles import GIB, Profile
from pusher.registry.upload.uplink import LinkEstimate


def may_be_too_large(size: int) -> bool:
    """Return whether some known registry cannot store a blob of ``size`` bytes. Sends no request."""
    limits = [profile.max_blob for profile in profiles.PROFILES.values() if profile.max_blob is not None]
    return any(size > limit for limit in limits)


def check_size(digest: str, size: int, profile: Profile, registry: str) -> None:
    """Raise LayerTooLarge if ``registry``, which has this profile, cannot store ``size`` bytes."""
    limit = profile.max_blob
    if limit is None or size <= limit:
        return
    most = f"{limit // GIB}GiB" if limit >= GIB else f"{limit}"
    raise LayerTooLarge(
        f"the blob {digest} has {size} bytes, and {profile.title} at {registry} "
        f"stores at most {limit} bytes a blob",
        hint=f"split it: pusher push IMAGE --split-layers {most} (the image gets "
        "another digest), or build the image so that its files are spread over several layers",
    )


def find_profile(client: RegistryClient, repository: str, link: LinkEstimate, forced: str | None) -> Profile:
    """Return the profile that an upload would have: ``forced``, or the one that a session shows, which is
    deleted at once.

    Raises the errors of opening an upload, and InvalidOption.
    """
    if forced is not None:
        return profiles.by_name(forced)
    opened = client.open_upload(repository)
    location = opened.location or ""
    with suppress(PusherError):
        client.delete_upload(repository, location)
    return profiles.detect(location, opened.headers, registry=client.registry, learned=link.profile)

"""Making an artifact findable through its subject at registries that do not do it themselves."""

from __future__ import annotations

from typing import Final

from pusher.errors import RegistryBusy, RegistryRefused
from pusher.oci.document import Document
from pusher.oci.referrers import fallback_tag, with_referrer
from pusher.registry.client import BlobsUnknown, RegistryClient

_TRIES: Final = 5


def list_referrer(client: RegistryClient, repository: str, document: Document, subject: str) -> int:
    """Add ``document`` to the list of what refers to ``subject`` (distribution-spec, "Pushing Manifests with
    Subject"); returns the bytes sent for that.

    The list is looked at again once it is written: another client may have written it at the same moment.
    Raises RegistryRefused if something else lies at the tag, RegistryBusy if others are always faster.
    """
    tag, sent = fallback_tag(subject), 0
    gone: tuple[str, ...] = ()
    for _ in range(_TRIES):
        try:
            listed = with_referrer(client.get_index(repository, tag), document, gone)
        except ValueError as error:
            raise RegistryRefused(
                f"{client.registry}/{repository}:{tag} should list what refers to {subject}, and does not: "
                f"{error}",
                hint="delete that tag, then push again",
            ) from error
        if listed is None:
            return sent
        try:
            client.put_manifest(repository, tag, listed)
        except BlobsUnknown as unknown:
            stale = {child.digest for child in listed.children} & set(unknown.digests) - {document.digest}
            if not stale:
                raise unknown.refusal from unknown
            gone = (*gone, *stale)  # entries of manifests that were deleted since
            continue
        gone = ()
        sent += len(listed.raw)
    raise RegistryBusy(
        f"the list of what refers to {subject} at {client.registry}/{repository} is written by others",
        hint="pusher waits and goes on",
    )

"""Update the referrers tag at registries without the referrers API (distribution-spec, "Referrers Tag
Schema")."""

from __future__ import annotations

from typing import Final

from pusher.errors import RegistryBusy, RegistryRefused
from pusher.oci.document import Document
from pusher.oci.referrers import fallback_tag, index_with_referrer
from pusher.registry.client import BlobsUnknown, RegistryClient

_TRIES: Final = 5


def add_referrer(client: RegistryClient, repository: str, document: Document, subject: str) -> int:
    """Add ``document`` to the referrers of ``subject`` (distribution-spec, "Pushing Manifests with Subject").

    Return the bytes sent. The list is read again after it is written: another client may have written it at
    the same time. Raises RegistryRefused if the tag is something else, RegistryBusy if other clients keep
    overwriting it.
    """
    tag, sent = fallback_tag(subject), 0
    gone: tuple[str, ...] = ()
    for _ in range(_TRIES):
        try:
            listed = index_with_referrer(client.get_index(repository, tag), document, gone)
        except ValueError as error:
            raise RegistryRefused(
                f"{client.registry}/{repository}:{tag} is not the list of referrers of {subject}: {error}",
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
            gone = (*gone, *stale)  # manifests that have been deleted
            continue
        gone = ()
        sent += len(listed.raw)
    raise RegistryBusy(
        f"other clients keep changing the referrers of {subject} at {client.registry}/{repository}",
        hint="pusher waits and continues",
    )

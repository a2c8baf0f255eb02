"""The manifests and indexes of a job: which, in what order, and what a refusal of one means."""

from __future__ import annotations

from collections.abc import Collection

from pusher.errors import PusherError, RegistryRefused, SourceError
from pusher.oci.document import Document, parse_document
from pusher.oci.manifest import Manifest
from pusher.oci.referrers import push_order, subject_of
from pusher.registry.client import BlobsUnknown, RegistryClient
from pusher.store.records import JobRecord
from pusher.store.store import Store
from pusher.worker.referrers import list_referrer


def stored_documents(store: Store, job: JobRecord) -> list[Document]:
    """The source's own manifests and indexes, bytes unchanged, each after what it needs at the registry, the
    root last; none where the manifest is made from the layers' blobs. Raises SourceError."""
    found: list[Document] = []
    for digest in str(job.options.get("documents") or "").split():
        raw = store.memos.get_config(digest)
        if raw is None:
            raise SourceError(
                f"the manifest {digest} of {job.image} is no longer in the job store",
                hint=f"enqueue the image again, and `pusher cancel {job.id}`",
            )
        found.append(parse_document(raw))
    return push_order(found) if found else []


def put_document(client: RegistryClient, job: JobRecord, document: Document, reference: str) -> int:
    """PUT a document, list it with its subject; the bytes sent. Raises like ``put_manifest``."""
    noted = client.put_manifest(job.repository, reference, document)
    subject = subject_of(document)
    if subject is None or noted == subject:
        return len(document.raw)
    return len(document.raw) + list_referrer(client, job.repository, document, subject)


def explained(
    unknown: BlobsUnknown, document: Document, job: JobRecord, sent: Collection[str]
) -> PusherError | None:
    """The error for what sending again cannot mend; None if that may help. ``sent``: digests of the job's
    blobs and documents."""
    subject = subject_of(document)
    if subject is not None and subject in unknown.digests and subject not in sent:
        return RegistryRefused(
            f"{job.registry} takes nothing that refers to an image it does not have: {job.repository} has no "
            f"{subject}",
            hint=f"push that image to {job.registry}/{job.repository} first, then: pusher retry {job.id}",
        )
    layers = document.layers if isinstance(document, Manifest) else ()
    left_out = [blob.digest for blob in layers if blob.digest not in sent]
    if left_out and (not unknown.digests or set(left_out) & set(unknown.digests)):
        return RegistryRefused(
            f"{job.registry} wants the layer {left_out[0]}, which is not to be distributed and was left out",
            hint="enqueue the image again with --allow-nondistributable if its licence lets you, or have the "
            "registry take layers that lie elsewhere (distribution: validation.manifests.urls.allow)",
        )
    return None


def hopeless(unknown: BlobsUnknown, job: JobRecord) -> PusherError:
    """The error for a registry that misses even what was just sent to it again: it would say so for ever."""
    return RegistryRefused(
        unknown.refusal.message,
        hint=f"what it misses was sent again, in vain: its log may tell why; then: pusher retry {job.id}",
    )

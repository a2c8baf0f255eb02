"""The manifests and indexes of a job: which, in what order, and what a refusal of one means."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from pusher.errors import PusherError, RegistryBusy, RegistryFault, RegistryRefused, SourceError
from pusher.oci.document import Document, parse_document
from pusher.oci.draft import Draft, finished
from pusher.oci.manifest import Descriptor, Manifest
from pusher.oci.referrers import push_order, subject_of
from pusher.registry.client import BlobsUnknown, RegistryClient
from pusher.sources.base import SourceImage
from pusher.store.records import JobDocument, JobRecord
from pusher.store.store import Store
from pusher.worker.referrers import list_referrer


def stored_documents(store: Store, job: JobRecord) -> list[Document]:
    """The source's own manifests and indexes, bytes unchanged, each after what it needs at the registry, the
    root last; none where the manifest is made from the layers' blobs. Raises SourceError."""
    found = [_stored(store, job, each.digest) for each in job.documents if each.diff_ids is None]
    return push_order(found) if found else []


def final_digests(job: JobRecord) -> frozenset[str]:
    """Return the digests of the documents that are pushed as they are."""
    return frozenset(each.digest for each in job.documents if each.diff_ids is None)


def documents_of(image: SourceImage) -> tuple[JobDocument, ...]:
    """Return the manifests and indexes of an image as its job records them."""
    drafts = tuple(JobDocument(draft.document.digest, draft.diff_ids) for draft in image.drafts)
    return drafts or tuple(JobDocument(document.digest) for document in image.documents)


def finished_documents(store: Store, job: JobRecord, blobs: Mapping[str, Descriptor]) -> list[Document]:
    """The drafts of the job with the blobs that were made of its layers, by diff ID, in the order of
    ``stored_documents``; none if the job has no drafts. Raises SourceError."""
    drafts = [
        Draft(_stored(store, job, each.digest), each.diff_ids)
        for each in job.documents
        if each.diff_ids is not None
    ]
    return push_order(finished(drafts, blobs)) if drafts else []


def _stored(store: Store, job: JobRecord, digest: str) -> Document:
    raw = store.documents.get(digest)
    if raw is None:
        raise SourceError(
            f"the manifest {digest} of {job.image} is no longer in the job store",
            hint=f"enqueue the image again, and `pusher cancel {job.id}`",
        )
    return parse_document(raw, digest)


def put_document(client: RegistryClient, job: JobRecord, document: Document, reference: str) -> int:
    """PUT a document, list it with its subject; the bytes sent. Raises like ``put_manifest``."""
    noted = client.put_manifest(job.repository, reference, document)
    subject = subject_of(document)
    if subject is None or noted == subject:
        return len(document.raw)
    return len(document.raw) + list_referrer(client, job.repository, document, subject)


class Delivery:
    """One document on its way to a registry: put, then asked for until the registry gives it back."""

    def __init__(
        self,
        client: RegistryClient,
        job: JobRecord,
        document: Document,
        reference: str,
        count_sent: Callable[[int, int], None],
        *,
        documents: Collection[str],
        sent: Callable[[], Collection[str]],
        looks: Sequence[float],
    ) -> None:
        """``count_sent`` gets the job and the bytes of every PUT that was accepted; ``looks`` are the seconds
        before each look for what the registry accepted and does not show yet."""
        self._pauses = looks
        self._client = client
        self._job = job
        self._document = document
        self._reference = reference
        self._count_sent = count_sent
        self._documents = documents
        self._sent = sent
        self._put = False
        self._looks = iter(looks)
        self._blob_looks = iter(looks)

    def step(self) -> None:
        """Put it, unless that is done, and look: the registry has it when this returns.

        Raises like ``put_manifest``; RegistryBusy while it is not to be seen, RegistryFault if it never was.
        """
        if not self._put:
            try:
                sent = put_document(self._client, self._job, self._document, self._reference)
            except BlobsUnknown as unknown:
                raise self._judge(unknown) from unknown
            self._count_sent(self._job.id, sent)
            self._put = True
        if self._client.has_manifest(self._job.repository, self._document):
            return
        where = f"{self._job.registry} took the manifest {self._document.digest} of {self._job.repository}"
        if (pause := next(self._looks, None)) is not None:
            raise RegistryBusy(f"{where}, which is not to be seen there yet", retry_after=pause)
        self._put, self._looks = False, iter(self._pauses)
        raise RegistryFault(
            f"{where} and does not give it back", hint="the fault is on the registry's side; see its log"
        )

    def _judge(self, unknown: BlobsUnknown) -> Exception:
        """Return what to raise: why sending again cannot help, RegistryBusy while the blobs that the registry
        accepted may still become visible (storages show what they hold seconds late), else ``unknown``.

        The job's other documents are small: they are sent again at once.
        """
        refused = _explain(unknown, self._document, self._job, self._sent())
        if refused is not None:
            return refused
        if unknown.digests and set(self._documents).issuperset(unknown.digests):
            return unknown
        if (pause := next(self._blob_looks, None)) is None:
            return unknown
        return RegistryBusy(unknown.refusal.message, retry_after=pause)


def _explain(
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

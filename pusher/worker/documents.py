"""Load, complete and push the manifests and indexes of a job."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from pusher.errors import PusherError, RegistryBusy, RegistryFault, RegistryRefused, SourceError
from pusher.oci.document import Document, parse_document
from pusher.oci.draft import Draft, fill_drafts
from pusher.oci.manifest import Descriptor, Manifest
from pusher.oci.referrers import push_order, subject_of
from pusher.registry.client import BlobsUnknown, RegistryClient
from pusher.sources.base import SourceImage
from pusher.store.records import JobBlob, JobDocument, JobRecord
from pusher.store.store import Store
from pusher.worker.referrers import add_referrer


def load_documents(store: Store, job: JobRecord) -> list[Document]:
    """Return the source's manifests and indexes, bytes unchanged, each after those that it refers to, the
    root last; empty if the manifest is made from the layers' blobs. Raises SourceError."""
    found = [_load(store, job, each.digest) for each in job.documents if each.diff_ids is None]
    return push_order(found) if found else []


def final_digests(job: JobRecord) -> frozenset[str]:
    """Return the digests of the documents that are pushed unchanged."""
    return frozenset(each.digest for each in job.documents if each.diff_ids is None)


def documents_of(image: SourceImage) -> tuple[JobDocument, ...]:
    """Return the manifests and indexes of an image as its job records them."""
    drafts = tuple(JobDocument(draft.document.digest, draft.diff_ids) for draft in image.drafts)
    return drafts or tuple(JobDocument(document.digest) for document in image.documents)


def finish_drafts(store: Store, job: JobRecord, blobs: Mapping[str, Descriptor]) -> list[Document]:
    """Complete the drafts of the job with the blobs of its layers, by diff ID.

    Return them in the order of ``load_documents``; empty if the job has no drafts. Raises SourceError.
    """
    drafts = [
        Draft(_load(store, job, each.digest), each.diff_ids)
        for each in job.documents
        if each.diff_ids is not None
    ]
    return push_order(fill_drafts(drafts, blobs)) if drafts else []


def _load(store: Store, job: JobRecord, digest: str) -> Document:
    raw = store.documents.get(digest)
    if raw is None:
        raise SourceError(
            f"the manifest {digest} of {job.image} is no longer in the job store",
            hint=f"enqueue the image again, and `pusher cancel {job.id}`",
        )
    return parse_document(raw, digest)


def put_document(client: RegistryClient, job: JobRecord, document: Document, reference: str) -> int:
    """PUT a document and add it to the referrers of its subject; return the bytes sent. Raises the errors of
    ``put_manifest``."""
    listed = client.put_manifest(job.repository, reference, document)
    subject = subject_of(document)
    if subject is None or listed == subject:
        return len(document.raw)
    return len(document.raw) + add_referrer(client, job.repository, document, subject)


class DocumentPush:
    """Pushes one document: PUT, then read until the registry has it."""

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
        """``count_sent`` is called with the job and the bytes of every accepted PUT. ``documents`` are the
        digests of the job's other documents, ``sent`` returns those of all its blobs and documents. ``looks``
        are the seconds before each check whether the registry shows what it has accepted."""
        self._pauses = looks
        self._client = client
        self._job = job
        self._document = document
        self._reference = reference
        self._count_sent = count_sent
        self._documents = documents
        self._sent = sent
        self._is_put = False
        self._looks = iter(looks)
        self._blob_looks = iter(looks)

    def put_and_confirm(self) -> None:
        """PUT the document unless that is done, and check that the registry has it.

        Raises the errors of ``put_manifest``; RegistryBusy while the registry does not return it,
        RegistryFault if it never does.
        """
        if not self._is_put:
            try:
                sent = put_document(self._client, self._job, self._document, self._reference)
            except BlobsUnknown as unknown:
                raise self._explain_missing_blobs(unknown) from unknown
            self._count_sent(self._job.id, sent)
            self._is_put = True
        if self._client.has_manifest(self._job.repository, self._document):
            return
        where = (
            f"{self._job.registry} accepted the manifest {self._document.digest} of {self._job.repository}"
        )
        if (pause := next(self._looks, None)) is not None:
            raise RegistryBusy(f"{where}, and does not show it yet", retry_after=pause)
        self._is_put, self._looks = False, iter(self._pauses)
        raise RegistryFault(f"{where}, and does not have it", hint="the registry failed; check its log")

    def _explain_missing_blobs(self, unknown: BlobsUnknown) -> Exception:
        """Return the error to raise: why a retry cannot help, RegistryBusy while accepted blobs may still
        become visible (some storages are eventually consistent), else ``unknown``.

        The job's other documents are small: they are sent again at once.
        """
        refused = _final_refusal(unknown, self._document, self._job, self._sent())
        if refused is not None:
            return refused
        if unknown.digests and set(self._documents).issuperset(unknown.digests):
            return unknown
        if (pause := next(self._blob_looks, None)) is None:
            return unknown
        return RegistryBusy(unknown.refusal.message, retry_after=pause)


def _final_refusal(
    unknown: BlobsUnknown, document: Document, job: JobRecord, sent: Collection[str]
) -> PusherError | None:
    """Return the error if a retry cannot help, else None. ``sent``: digests of the job's blobs and
    documents."""
    subject = subject_of(document)
    if subject is not None and subject in unknown.digests and subject not in sent:
        return RegistryRefused(
            f"{job.registry} does not accept referrers of an image that it does not have: "
            f"{job.repository} has no {subject}",
            hint=f"push that image to {job.registry}/{job.repository} first",
        )
    layers = document.layers if isinstance(document, Manifest) else ()
    left_out = [blob.digest for blob in layers if blob.digest not in sent]
    if left_out and (not unknown.digests or set(left_out) & set(unknown.digests)):
        return RegistryRefused(
            f"{job.registry} requires the layer {left_out[0]}, which is not distributable and was left out",
            hint="enqueue the image again with --allow-nondistributable if its licence lets you, or have the "
            "registry accept layers stored elsewhere (distribution: validation.manifests.urls.allow)",
        )
    return None


def blobs_missing_error(unknown: BlobsUnknown) -> PusherError:
    """Return the error for a registry that lacks blobs even after they were sent again."""
    return RegistryRefused(
        unknown.refusal.message,
        hint="the blobs were sent again without effect; check the registry's log",
    )


def descriptor_of(blob: JobBlob) -> Descriptor:
    """Return the descriptor of a job's blob; SourceError while its digest is not known."""
    if blob.digest is None or blob.size is None:
        raise SourceError(f"the blob of layer {blob.key} is not known")
    return Descriptor(blob.media_type or "", blob.digest, blob.size)

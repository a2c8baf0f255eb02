"""Move jobs to this machine, where their image is, too."""

from __future__ import annotations

from collections.abc import Iterator

from pusher.config import Settings
from pusher.errors import ImageChanged, JobStateConflict, SourceError
from pusher.oci.digest import short
from pusher.sources import find, reopen
from pusher.sources.base import EVERYTHING, Choice, Source, SourceImage
from pusher.sources.pins import ContentStorePin, EnginePin, ListPin, StoragePin, pin_from_json
from pusher.store.records import FINAL_STATES, JobRecord
from pusher.store.store import Store
from pusher.text import suggest
from pusher.worker.documents import documents_of
from pusher.worker.liveness import WorkerIdentity
from pusher.worker.machine import this_machine

_NAMED: tuple[type, ...] = (EnginePin, StoragePin, ListPin, ContentStorePin)
"""Pins of images that have a name on any machine, where others have a path."""


def move_here(store: Store, settings: Settings, job_id: int, image: str | None = None) -> JobRecord:
    """Make a job one of this machine, if the same image is here: where the job names it, or as ``image``.

    A job that any machine may work on is returned as it is. Uploads continue where they stand.
    Raises JobUnknown, JobStateConflict, ImageChanged if it is another image, the errors of a source,
    HomeUnusable.
    """
    job = store.jobs.get(job_id)
    if job.machine is None and job.state not in FINAL_STATES:
        return job
    if not job.has_manifest:
        raise JobStateConflict(
            f"the image of job {job_id} is still sent to pusher serve on its machine",
            hint=f"if that machine is gone, push the image again, then: pusher cancel {job_id}",
        )
    machine = this_machine(settings)
    dead = WorkerIdentity(settings.workers, settings.lease).find_dead_owners(store)
    store.jobs.check_movable(job_id, dead)  # before the image is read
    found = _find(store, job, settings, image)
    store.workers.record_machine(machine)
    return store.jobs.move(job_id, machine, found.pin.to_json(), dead)


def _find(store: Store, job: JobRecord, settings: Settings, image: str | None) -> SourceImage:
    first: SourceError | None = None
    for source in _sources(job, settings, image):
        try:
            found = source.resolve()
        except SourceError as error:
            if first is None and image is None:
                error.hint += f"\nif it is here in another place: pusher move {job.id} --here --image IMAGE"
            first = first or error
            continue
        keys = {blob.key for blob in store.blobs.of_job(job.id) if not blob.is_config}
        is_same = found.config_digest == job.config_digest and documents_of(found) == job.documents
        if is_same and {layer.key for layer in found.layers} == keys:
            return found
        first = ImageChanged(
            f"{image or job.image} is another image here ({short(found.config_digest)}) than job {job.id} "
            f"pushes ({short(job.config_digest)})",
            hint="name the same image if it is here: "
            + suggest("pusher move {} --here --image IMAGE", str(job.id)),
        )
    assert first is not None  # noqa: S101 - there is a source
    raise first


def _sources(job: JobRecord, settings: Settings, image: str | None) -> Iterator[Source]:
    """Yield the places where the image may be."""
    pin = pin_from_json(job.source)
    choice: Choice = getattr(pin, "choice", EVERYTHING)
    if image is None:
        source: Source | None = reopen(pin)
        while source is not None:
            yield source
            source = source.fall_back()
    if image is not None or isinstance(pin, _NAMED):
        yield find(image or job.image, choice, docker_root=settings.docker_root)[0]

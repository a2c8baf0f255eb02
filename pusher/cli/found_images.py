"""Find the images of a command line, and record their jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pusher.cli.image_list import ImageRequest
from pusher.cli.output import print_error, print_notice
from pusher.errors import ExitCode, PusherError

if TYPE_CHECKING:
    from pusher.config import Settings
    from pusher.store.records import JobRecord
    from pusher.store.store import Store
    from pusher.worker.enqueue import PreparedImage, Queueing


@contextmanager
def receive_images(
    requests: Sequence[ImageRequest], store: Store, settings: Settings
) -> Iterator[list[ImageRequest]]:
    """Yield the requests, with a file in place of each pipe; remove those files if no job was recorded."""
    with ExitStack() as stack:
        yield [
            replace(request, image=stack.enter_context(_receive(request.image, store, settings)))
            for request in requests
        ]


@contextmanager
def _receive(image: str, store: Store, settings: Settings) -> Iterator[str]:
    """Yield IMAGE, or the file with the content of a pipe; remove that file if no job was recorded."""
    from pusher.sources.archive import stream

    if not stream.is_stream(image):
        yield image
        return
    from pusher.worker import piped_archives

    folder = settings.spool / piped_archives.FOLDER
    kept = stream.receive(image, folder, _print_note)
    try:
        yield kept
    except PusherError as error:
        raise stream.as_typed(error, image, folder) from error
    finally:
        piped_archives.remove_if_unneeded(store, folder, kept)


@dataclass(frozen=True)
class FoundImages:
    """The images of a command, and why others were not found."""

    images: list[tuple[ImageRequest, PreparedImage]]
    errors: list[PusherError]

    @property
    def exit_code(self) -> ExitCode:
        """Return that of the errors, FAILED if they differ."""
        codes = {error.exit_code for error in self.errors} or {ExitCode.DONE}
        return codes.pop() if len(codes) == 1 else ExitCode.FAILED

    def record(self, store: Store, queueing: Queueing) -> list[JobRecord]:
        """Record the jobs of the images, and report the jobs that they supersede."""
        jobs = []
        for request, image in self.images:
            for job in image.record(store, queueing):
                _report_recorded(store, job, request)
                jobs.append(job)
        return jobs


def find_images(
    store: Store | None,
    settings: Settings,
    requests: Sequence[ImageRequest],
    image_arguments: dict[str, Any],
    command: str,
    *,
    keep_going: bool,
) -> FoundImages:
    """Find all images. With ``keep_going`` the error of an image is printed, else it is raised.

    ``image_arguments`` come from ``read_image_options``; ``command`` is the command that was typed; without
    ``store``, nothing is kept for the push.
    """
    from pusher.worker.enqueue import prepare

    found = FoundImages([], [])
    for request in requests:
        try:
            image = prepare(
                store,
                request.image,
                settings=settings,
                to=request.to,
                tags=request.tags,
                default_registry=settings.default_registry,
                command=command,
                note=_print_note,
                **image_arguments,
            )
        except PusherError as error:
            if not keep_going:
                raise request.locate(error) from error
            found.errors.append(request.locate(error))
            print_error(found.errors[-1].message, found.errors[-1].hint, found.errors[-1].code)
        else:
            found.images.append((request, image))
    return found


def _report_recorded(store: Store, job: JobRecord, request: ImageRequest) -> None:
    """Report the jobs that ``job`` supersedes, and a destination that is probably not meant."""
    from pusher.reference import DOCKER_HUB

    for older in store.jobs.superseded_by(job):
        print_notice(f"Job {job.id} supersedes job {older.id} ({older.image} -> {older.destination}).")
    typed = request.to or (request.image,)
    if job.destination.startswith(f"{DOCKER_HUB}/library/") and not any("library/" in w for w in typed):
        print_notice(
            f"{' '.join(typed)} has no registry, so it goes to Docker Hub: {job.destination}. "
            "For another registry use --to registry.example.com, or set PUSHER_REGISTRY."
        )


def _print_note(text: str) -> None:
    print_notice(f"note: {text}")

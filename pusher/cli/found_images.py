"""Find the images of a command line, and record their jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pusher.cli.image_list import ImageRequest, expand_tags, join_errors
from pusher.cli.output import print_error, print_notice
from pusher.dataclass import dataclass
from pusher.errors import (
    EngineMissing,
    EngineNotPermitted,
    EngineNotRunning,
    ExitCode,
    InvalidOption,
    PusherError,
    ReferenceMalformed,
    SourceError,
)
from pusher.text import suggest

_MAX_REPORTED: Final = 20
_ENGINE_AWAY: Final = (EngineMissing, EngineNotPermitted, EngineNotRunning)

if TYPE_CHECKING:
    from pusher.config import Settings
    from pusher.reference import Reference
    from pusher.store.records import JobRecord, Queueing
    from pusher.store.store import Store
    from pusher.worker.enqueue import PreparedImage
    from pusher.worker.registries import Registries


@contextmanager
def receive_images(
    requests: Sequence[ImageRequest], store: Store, settings: Settings
) -> Iterator[list[ImageRequest]]:
    """Yield the requests, with a file in place of each pipe; remove those files if no job was recorded."""
    with ExitStack() as stack:
        yield [stack.enter_context(_receive(request, store, settings)) for request in requests]


@contextmanager
def _receive(request: ImageRequest, store: Store, settings: Settings) -> Iterator[ImageRequest]:
    """Yield the request, with the file that has the content of a pipe; remove that file if no job was
    recorded."""
    from pusher.sources.archive import stream

    image = request.image
    if not stream.is_stream(image):
        yield request
        return
    from pusher.reference import STANDARD_INPUT
    from pusher.worker import piped_archives

    folder = settings.spool / piped_archives.FOLDER
    with ExitStack() as stack:
        begin = partial(stack.enter_context, piped_archives.receiving(folder))
        kept = stream.receive(image, folder, _print_note, begin)
        name = STANDARD_INPUT if stream.is_standard_input(image) else image
        try:
            yield replace(request, image=kept, name=name)
        except PusherError as error:
            raise stream.as_typed(error, image, folder) from error
        finally:
            piped_archives.remove_if_unneeded(store, folder, kept)


@dataclass(frozen=True)
class FoundImages:
    """The images of a command, and why others were not found."""

    images: list[tuple[ImageRequest, PreparedImage]]
    errors: list[tuple[ImageRequest, PusherError]]
    engine_errors: list[tuple[ImageRequest, PusherError]] = field(default_factory=list)
    """Those of ``errors`` that are printed once for all images."""

    @property
    def exit_code(self) -> ExitCode:
        """Return that of the errors, FAILED if they differ."""
        codes = {error.exit_code for _, error in self.errors} or {ExitCode.DONE}
        return codes.pop() if len(codes) == 1 else ExitCode.FAILED

    @contextmanager
    def collect_error(self, request: ImageRequest, *, keep_going: bool) -> Iterator[None]:
        """Print and keep an error of ``request`` with ``keep_going``, else raise it with its line.

        ``report_engine_errors`` prints those that all images of an engine have.
        """
        try:
            yield
        except PusherError as error:
            is_away = isinstance(error, _ENGINE_AWAY)
            located = request.locate(error)
            if not keep_going:
                raise request.locate(_name_images(error, [request])) if is_away else located from error
            self.errors.append((request, located))
            if is_away:
                self.engine_errors.append((request, error))
            else:
                print_error(located.message, located.hint, located.code)

    def report_engine_errors(self) -> None:
        """Print once, with the names of all images, that an engine cannot be asked for them."""
        alike: dict[tuple[str, str], list[tuple[ImageRequest, PusherError]]] = {}
        for request, error in self.engine_errors:
            alike.setdefault((error.message, error.hint), []).append((request, error))
        for found in alike.values():
            named = _name_images(found[0][1], [request for request, _ in found])
            print_error(named.message, named.hint, named.code)

    def report_errors(self, what: str, *, again: bool) -> None:
        """Print at the end which images were not found, and ``again`` why, if much was printed since.
        ``what``: what was not done with them, such as ``pushed``."""
        if not self.errors or not self.images:
            return
        count = len(self.errors)
        summary = f"Not {what}: {count} image{'s' if count > 1 else ''} of {count + len(self.images)}"
        if not again:
            more = f" and {count - _MAX_REPORTED} more" if count > _MAX_REPORTED else ""
            names = ", ".join(request.image for request, _ in self.errors[:_MAX_REPORTED])
            print_notice(f"{summary}: {names}{more}.")
            return
        print_notice(f"{summary}.")
        for request, error in self.errors[:_MAX_REPORTED]:
            print_notice(f"  {request.image}: {error.message}")
        if count > _MAX_REPORTED:
            print_notice(f"  ... and {count - _MAX_REPORTED} more; their errors are above")

    def errors_as_json(self) -> list[dict[str, object]]:
        """Return the images that were not found, each with its error."""
        from pusher.errors.catalogue import error_as_json

        return [
            {"image": request.image, "error": error_as_json(error.code, error.message, error.hint)}
            for request, error in self.errors
        ]

    def record(self, store: Store, queueing: Queueing) -> list[JobRecord]:
        """Record the jobs of the images, and report the jobs that they supersede.

        If the job store fails, report the jobs that were recorded before.
        """
        jobs: list[JobRecord] = []
        try:
            for request, image in self.images:
                for job in image.record(store, queueing):
                    jobs.append(job)
                    _report_recorded(store, job, request)
        except PusherError:
            if jobs:
                from pusher.cli.job_output import list_jobs

                print_notice(f"Queued before this failed, and still queued: {list_jobs(jobs)}.")
            raise
        return jobs


def find_images(
    store: Store | None,
    settings: Settings,
    requests: Sequence[ImageRequest],
    image_arguments: dict[str, Any],
    command: str,
    *,
    all_tags: bool,
    keep_going: bool,
    registries: Registries | None = None,
) -> FoundImages:
    """Find all images, with ``all_tags`` each tag of each. With ``keep_going`` the error of an image is
    printed, else it is raised.

    ``image_arguments`` come from ``read_image_options``; ``command`` is the command that was typed; without
    ``store``, nothing is kept for the push. ``registries``: those of the push, with the same settings. Raises
    InvalidOption for two images with one destination.
    """
    from pusher.worker.enqueue import prepare

    found = FoundImages([], [])
    expanded: list[ImageRequest] = []
    for request in requests:
        with found.collect_error(request, keep_going=keep_going):
            expanded += expand_tags(request, settings) if all_tags else [request]
    for number, request in enumerate(expanded):
        with (
            _adding_errors_of(expanded[number + 1 :], settings),
            found.collect_error(request, keep_going=keep_going),
        ):
            image = prepare(
                store,
                request.image,
                settings=settings,
                to=request.to,
                tags=request.tags,
                default_registry=settings.default_registry,
                command=command,
                note=_print_note,
                registries=registries,
                **image_arguments,
            )
            found.images.append((request, replace(image, image=request.name or image.image)))
    found.report_engine_errors()
    return replace(found, images=_with_distinct_destinations(found.images))


def _name_images(error: PusherError, requests: Sequence[ImageRequest]) -> PusherError:
    """Return the error of an engine that cannot be asked, with the images that it was to be asked for."""
    names = list(dict.fromkeys(request.image for request in requests))
    more = f" and {len(names) - _MAX_REPORTED} more" if len(names) > _MAX_REPORTED else ""
    shown = ", ".join(names[:_MAX_REPORTED])
    return type(error)(f"{error.message}: it is needed for {shown}{more}", hint=error.hint)


@contextmanager
def _adding_errors_of(others: Sequence[ImageRequest], settings: Settings) -> Iterator[None]:
    """Add to an error of a line of a list those of the lines after it that show without asking an engine or a
    registry: they are corrected in one go."""
    try:
        yield
    except (SourceError, InvalidOption, ReferenceMalformed) as error:
        errors: list[PusherError] = [error]
        for request in others:
            try:
                if request.where:
                    _check_quickly(request, settings)
            except (SourceError, InvalidOption, ReferenceMalformed) as another:
                errors.append(request.locate(another))
        raise (join_errors(errors) if len(errors) > 1 else error) from error.__cause__


def _check_quickly(request: ImageRequest, settings: Settings) -> None:
    """Check what can be checked of an image without its engine or registry. Raises as ``prepare``."""
    from pusher.sources.select import own_name
    from pusher.worker.destination import resolve

    for place in request.to or (None,):
        for tag in request.tags or (None,):
            resolve(request.image, place, settings.default_registry, tag=tag)
    own_name(request.image)


def _with_distinct_destinations(
    images: Sequence[tuple[ImageRequest, PreparedImage]],
) -> list[tuple[ImageRequest, PreparedImage]]:
    """Return the images without destinations that the same image has already.

    Raises InvalidOption for two images with one destination: the tag would name the second, and the first
    would be lost.
    """
    taken: dict[Reference, str] = {}
    distinct = []
    for request, image in images:
        for place in image.destinations:
            if taken.get(place, image.image) != image.image and place.tag is not None:
                raise request.locate(_both_go_to(place, taken[place], request))
        own = [place for place in image.destinations if place not in taken]
        taken |= dict.fromkeys(own, image.image)
        if own:
            distinct.append((request, replace(image, destinations=own)))
    return distinct


def _both_go_to(place: Reference, earlier: str, request: ImageRequest) -> InvalidOption:
    hint = "give each a repository or a tag of its own"
    if {place.name, str(place)} & set(request.to):
        slash = suggest("with a slash at the end, images keep their names: --to {}", f"{place.name}/")
        hint = slash or hint
    return InvalidOption(f"{earlier} and {request.name or request.image} both go to {place}", hint=hint)


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

"""Read which images are to be pushed, and where: from arguments, a list, or a compose file."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pusher.cli import completers
from pusher.cli.output import print_notice
from pusher.dataclass import dataclass
from pusher.errors import CommandLineInvalid, InvalidOption, PusherError, ReferenceMalformed
from pusher.reference import Reference, names_registry
from pusher.text import quoted, suggest

if TYPE_CHECKING:
    from pusher.config import Settings

F = TypeVar("F", bound=Callable[..., Any])

_DOCKER: Final = "docker://"
_MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_ERRORS: Final = 10
"""Lines of a list that one error names."""
_NEWLINE: Final = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class ImageRequest:
    """One IMAGE, and where it goes: to each place in ``to``, or to its own name; with each of ``tags``."""

    image: str
    to: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    where: str = ""
    """The line of the list that names it, for errors."""
    name: str = ""
    """What jobs call it, where ``image`` is the file in which a pipe's content is kept."""

    def locate(self, error: PusherError) -> PusherError:
        """Return ``error`` with the line of the list that caused it."""
        if not self.where:
            return error
        return type(error)(f"{self.where}: {error.message}", hint=error.hint)


to_option = click.option(
    "--to",
    metavar="WHERE",
    multiple=True,
    help="Destination: a reference, or a registry (registry.example.com, or registry.example.com/team/ "
    "with a slash at the end) where IMAGE keeps its name. May be repeated.",
)
_OPTIONS: Final = (
    click.argument("images", nargs=-1, metavar="IMAGE...", shell_complete=completers.images),
    to_option,
    click.option(
        "--tag",
        "tags",
        metavar="TAG",
        multiple=True,
        help="Tag at the destination, in place of IMAGE's own. May be repeated.",
    ),
    click.option("--all-tags", is_flag=True, help="Push every tag of IMAGE, a name without a tag."),
    click.option(
        "--from-file",
        metavar="FILE",
        shell_complete=completers.files,
        help="Read images from FILE, or - for standard input: lines of IMAGE [WHERE...], and # comments.",
    ),
    click.option(
        "--compose",
        metavar="FILE",
        multiple=True,
        shell_complete=completers.files,
        help="Push the images that a compose file builds; FILE may be its folder, or - for standard input. "
        "Repeated, the files are merged, as by docker compose -f.",
    ),
    click.option(
        "--keep-going",
        is_flag=True,
        help="Push the other images if one is not found; without it, nothing is queued then.",
    ),
    click.option(
        "--dry-run",
        is_flag=True,
        help="Print what would be compressed, sent, mounted and skipped, and change nothing.",
    ),
)


def image_list_options(function: F) -> F:
    """Add the arguments and options of ``read_image_list``, ``--keep-going`` and ``--dry-run``."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def read_image_list(flags: Mapping[str, Any], settings: Settings, command: str) -> list[ImageRequest]:
    """Return the images of the command line, then those of the list, then those of the compose file.

    A line without a destination goes where ``--to`` says. Raises CommandLineInvalid, InvalidOption.
    """
    images, to, tags = flags["images"], flags["to"], flags["tags"]
    from_file, compose = flags["from_file"], flags["compose"]
    if not images and from_file is None and not compose:
        raise CommandLineInvalid(
            "missing argument 'IMAGE'",
            hint=f"usage: pusher {command} [OPTIONS] IMAGE...; see also: pusher {command} --help",
        )
    if not to and not tags and settings.default_registry is None:
        _refuse_destination_as_image(images, command)
    requests = [ImageRequest(image, to, tags) for image in images]
    if from_file is not None:
        listed = [
            request if request.to else replace(request, to=to) for request in _read_list(from_file, tags)
        ]
        if not listed:
            print_notice(f"note: {_shown(from_file)} lists no image")
        requests += listed
    if compose:
        from pusher.cli.compose import read_compose

        built = read_compose([Path(file) for file in compose], lambda text: print_notice(f"note: {text}"))
        requests += [ImageRequest(image, to, tags) for image in built]
    for request in requests:
        if "\0" in request.image:  # no file has it in its path
            raise request.locate(
                InvalidOption(f"{quoted(request.image)} is not an image", hint="check the list")
            )
    return list(dict.fromkeys(requests))


def check_standard_input(flags: Mapping[str, Any], *, password_stdin: bool = False) -> None:
    """Raise InvalidOption if standard input is to be read for two things."""
    from pusher.sources.archive.stream import is_standard_input

    uses = ["the archive" for image in flags["images"] if is_standard_input(image)]
    if flags["from_file"] == "-":
        uses.append("the list of images")
    uses += ["the compose file" for file in flags["compose"] if file == "-"]
    if password_stdin:
        uses.append("the password")
    if len(uses) < 2:
        return
    hint = "log in first: pusher login REGISTRY" if password_stdin else "write one of them to a file first"
    if uses[0] == uses[1]:
        what = uses[0].removeprefix("the ")
        raise InvalidOption(f"standard input is one {what}, and cannot be read twice", hint=hint)
    raise InvalidOption(f"standard input cannot be both {uses[0]} and {uses[1]}", hint=hint)


def expand_tags(request: ImageRequest, settings: Settings) -> list[ImageRequest]:
    """Return a request for each tag of the image. Raises InvalidOption, SourceError, errors of a client."""
    from pusher.worker.sources import list_tagged

    if request.tags:
        raise InvalidOption(
            "--all-tags keeps each tag, and --tag is another", hint="leave out one of the two"
        )
    tagged = list_tagged(request.image, settings=settings)
    print_notice(f"{request.image}: {len(tagged)} tag{'' if len(tagged) == 1 else 's'}")
    # a destination with a repository gets the image's tag; another keeps the image's whole name
    return [replace(request, image=one.image, tags=(one.tag,) if request.to else ()) for one in tagged]


def source_registries(requests: Sequence[ImageRequest], *, keep_going: bool) -> set[str]:
    """Return the registries that images are read from.

    Raises ReferenceMalformed, unless ``keep_going``: then it is reported once the image is looked for.
    """
    from_registries = [request for request in requests if request.image.startswith(_DOCKER)]
    return _collect_registries(
        from_registries,
        lambda request: {Reference.parse(request.image.removeprefix(_DOCKER)).registry},
        keep_going=keep_going,
    )


def destination_registries(
    requests: Sequence[ImageRequest], settings: Settings, *, keep_going: bool = False
) -> set[str]:
    """Return the registries that images are pushed to; may open a file for an image's own name.

    Raises the errors of ``Destination.registry``, unless ``keep_going``: then they are reported once the
    image is looked for.
    """
    from pusher.worker.destination import resolve

    return _collect_registries(
        requests,
        lambda request: {
            resolve(request.image, place, settings.default_registry, tag=tag).registry()
            for place in request.to or (None,)
            for tag in request.tags[:1] or (None,)
        },
        keep_going=keep_going,
    )


def _collect_registries(
    requests: Sequence[ImageRequest], read: Callable[[ImageRequest], set[str]], *, keep_going: bool
) -> set[str]:
    """Return what ``read`` returns for all requests; raise its errors together, or none if ``keep_going``."""
    registries: set[str] = set()
    errors: list[PusherError] = []
    for request in requests:
        try:
            registries |= read(request)
        except PusherError as error:
            errors.append(request.locate(error))
    if errors and not keep_going:
        raise join_errors(errors) if len(errors) > 1 else errors[0]
    return registries


def _refuse_destination_as_image(images: Sequence[str], command: str) -> None:
    """Refuse ``push app:1.2 registry.example.com/team/app:1.2``, as skopeo and crane write it: the first
    image would go to Docker Hub."""
    if len(images) != 2:
        return
    image, where = images[0], images[1].removeprefix(_DOCKER)
    has_own = names_registry(image) and not image.startswith(("/", ".", "~", _DOCKER)) and _is_name(image)
    if names_registry(where) and not where.startswith((".", "/")) and not has_own:
        hint = suggest(f"give the destination with --to: pusher {command} {{}} --to {{}}", image, where)
        raise CommandLineInvalid(
            f"is {quoted(images[1])} a second image, or where {quoted(image)} goes?",
            hint=hint or f"pusher {command} --help",
        )


def _is_name(image: str) -> bool:
    try:
        Reference.parse(image)
    except ReferenceMalformed:  # such as docker-archive:/tmp/app.tar
        return False
    return True


def join_errors(errors: Sequence[PusherError]) -> PusherError:
    """Return the first error with the sentences of the others, as far as they are not too many."""
    first, more = errors[0], len(errors) - _MAX_ERRORS
    sentences = "; ".join(error.message for error in errors[:_MAX_ERRORS])
    tail = f"; and {more} more" if more > 0 else ""
    return type(first)(f"{sentences}{tail}", hint=first.hint)


def _read_list(name: str, tags: tuple[str, ...]) -> list[ImageRequest]:
    """Return the images of a list. Raises InvalidOption, which names each line that cannot be read."""
    requests: list[ImageRequest] = []
    errors: list[InvalidOption] = []
    for number, line in enumerate(_NEWLINE.split(_read_text(name)), 1):
        where = f"{_shown(name)}, line {number}"
        try:
            if words := _read_line(line):
                requests.append(ImageRequest(words[0], tuple(words[1:]), tags, where))
        except ValueError as error:
            errors.append(InvalidOption(f"{where}: {error}", hint="write IMAGE [WHERE...] in each line"))
    if errors:
        raise join_errors(errors)
    return requests


def _read_line(line: str) -> list[str]:
    """Return the words of ``IMAGE [WHERE...]``, quoted as in a shell, without a ``#`` comment. Raises
    ValueError, which says what is wrong."""
    words = shlex.shlex(line, posix=True, punctuation_chars=False)
    words.whitespace_split, words.commenters = True, ""
    found: list[str] = []
    try:
        while (word := words.get_token()) is not None and not word.startswith("#"):
            found.append(word)
    except ValueError:
        raise ValueError("a quote is not closed") from None
    if option := next((each for each in found if each.startswith("--")), None):
        raise ValueError(f"{quoted(option)} is an option, and options are for the whole list")
    return found


def _shown(name: str) -> str:
    return "standard input" if name == "-" else name or "''"


def _read_text(name: str) -> str:
    if name == "-" and sys.stdin is not None and sys.stdin.isatty():
        print_notice("Reading the list of images from the terminal; end it with Ctrl-D.")
    try:
        if name == "-":
            data = sys.stdin.buffer.read(_MAX_BYTES + 1) if sys.stdin is not None else b""
        else:
            with Path(name).open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InvalidOption(
            f"the list {_shown(name)} cannot be read: {error.strerror}",
            hint="check the path after --from-file",
        ) from None
    if len(data) > _MAX_BYTES:
        raise InvalidOption(
            f"the list {_shown(name)} has more than {_MAX_BYTES // 1024**2} MiB",
            hint="--from-file takes a text file with an IMAGE in each line",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidOption(
            f"the list {_shown(name)} is not UTF-8 text",
            hint="--from-file takes a text file with an IMAGE in each line",
        ) from None

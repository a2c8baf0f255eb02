"""List the images of a source that holds several, for ``--all-tags``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pusher.dataclass import dataclass
from pusher.errors import ImageNotFound, InvalidOption
from pusher.sources.image_names import tag_of
from pusher.text import suggest


@dataclass(frozen=True)
class TaggedImage:
    """One of several images of a source: how it is written as IMAGE, and its tag."""

    image: str
    tag: str


def tagged_images(kind: str, path: Path, chosen: str | None, names: Iterable[str]) -> list[TaggedImage]:
    """Return the images in a file or folder by their names.

    Raises InvalidOption if one is ``chosen`` already, ImageNotFound if none has a name.
    """
    if chosen is not None:
        raise InvalidOption(
            f"--all-tags pushes every named image, and {kind}:{path}:{chosen} is one",
            hint=suggest("leave out its name: {}", f"{kind}:{path}"),
        )
    found = [TaggedImage(f"{kind}:{path}:{name}", tag_of(name)) for name in dict.fromkeys(names)]
    if not found:
        raise ImageNotFound(
            f"{path} has no named image", hint=suggest("push one by its number: {}", f"{kind}:{path}:@0")
        )
    return found

"""Render ``page.html``. Whatever is inserted is made printable and escaped."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import pusher
from pusher.dataclass import dataclass
from pusher.oci.digest import short
from pusher.progress.format import local_time, rfc3339
from pusher.text import printable
from pusher.units import human_bytes, human_share

FOLDER: Final = Path(__file__).parent
TEMPLATE: Final = "page.html"


@dataclass(frozen=True)
class PageContent:
    """The content of a view at one time. ``parts``: elements by their ids; ``whole``: the layout with all."""

    title: str
    parts: dict[str, Markup]
    whole: Markup


class Template:
    """The template with its macros, and values that all of them know. Thread-safe."""

    def __init__(self, **known: object) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER),
            autoescape=True,
            finalize=_finalize,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            bytes=human_bytes, share=human_share, breakable=_breakable, short=short, time=_time
        )
        self._environment.globals.update(known, version=pusher.__version__)
        self._template = self._environment.get_template(TEMPLATE)
        self._macros = self._template.module

    def part(self, macro: str, *values: object, **named: object) -> Markup:
        """Return what a macro makes of the values."""
        rendered: str = getattr(self._macros, macro)(*values, **named)
        return Markup(rendered.strip())  # noqa: S704 - the macro escaped it

    def page(self, title: str, content: Markup, **named: object) -> str:
        """Return the whole document."""
        return self._template.render(title=title, content=content, **named).lstrip()


def _finalize(value: Any) -> Any:
    if value is None:
        return ""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _breakable(name: str) -> Markup:
    """Return a name that a line may break after each slash."""
    pieces = re.split("(?<=/)", printable(name))
    return Markup("<wbr>").join(pieces)


def _time(at: datetime) -> Markup:
    """Return a time in the zone of this machine."""
    return Markup('<time datetime="{}">{}</time>').format(rfc3339(at), local_time(at))

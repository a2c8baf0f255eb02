"""Write blocks of Markdown as roff, for man(7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pusher.help.markdown import Block, Code, Heading, Items, Paragraph, Style, Table, spans

_FONTS: Final[dict[Style, str]] = {"code": "B", "bold": "B", "italic": "I"}


def page(name: str, section: int, summary: str, version: str, body: Sequence[str]) -> str:
    """Return a whole man page: ``body`` is lines of roff."""
    title = f'.TH "{escape(name.upper())}" "{section}" "" "pusher {version}" "pusher"'
    return "\n".join([title, ".SH NAME", f"{escape(name)} \\- {inline(summary)}", *body]) + "\n"


def body(blocks: Sequence[Block]) -> Iterator[str]:
    """Yield the lines of ``blocks``; a heading of level 2 begins a section."""
    for block in blocks:
        match block:
            case Heading():
                yield f'.SH "{inline(block.text).upper()}"'
            case Paragraph():
                yield ".PP"
                yield inline(block.text)
            case Items():
                for item in block.items:
                    yield ".IP \\(bu 2"
                    yield inline(item)
            case Code():
                yield from verbatim(block.lines)
            case Table():
                yield from _table(block)


def verbatim(lines: Sequence[str]) -> Iterator[str]:
    """Yield lines that are shown as they are, indented."""
    yield from (".PP", ".RS 4", ".nf", *map(escape, lines), ".fi", ".RE")


def inline(text: str) -> str:
    """Return a line of Markdown as a line of roff."""
    parts = []
    for span in spans(text):
        font = _FONTS.get(span.style)
        parts.append(f"\\f{font}{_escape(span.text)}\\fR" if font else _escape(span.text))
    return _guard("".join(parts))


def escape(text: str) -> str:
    """Return text as roff that shows it as it is."""
    return _guard(_escape(text))


def _escape(text: str) -> str:
    """Escape a hyphen as the ASCII minus, so that commands can be copied from the page."""
    return text.replace("\\", "\\e").replace("-", "\\-")


def _guard(line: str) -> str:
    """Escape a line so that it is not a request."""
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _table(table: Table) -> Iterator[str]:
    """The first column is the term, the others describe it."""
    for first, *rest in table.rows:
        yield ".TP"
        yield inline(first) or "\\&"
        cells = [(label, cell) for label, cell in zip(table.head[1:], rest, strict=True) if cell]
        for number, (label, cell) in enumerate(cells):
            if number:
                yield ".br"
            mark = "" if label.endswith("?") else ":"
            yield inline(f"*{label}{mark}* {cell}" if label and len(rest) > 1 else cell)

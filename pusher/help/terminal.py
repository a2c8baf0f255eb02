"""Render a topic for a terminal or a pipe of any width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from pusher.help.markdown import Block, Code, Heading, Items, Paragraph, Style, Table, spans

_INDENT: Final = "  "
_GAP: Final = "  "
_NARROWEST: Final = 22
"""Columns of a table below which sentences are hard to read."""
_SGR: Final[dict[Style, str]] = {"code": "1", "bold": "1", "italic": "4"}

_Text = list[tuple[str, Style]]
"""Characters with their styles."""


def render(blocks: Sequence[Block], width: int, *, styled: bool) -> list[str]:
    """Return the lines of ``blocks``, at most ``width`` columns wide.

    Only a line of code may be wider: the terminal wraps it, and it can still be copied. ``styled``: bold and
    underlined by escape sequences; else code is in backquotes, as in Markdown.
    """
    printer = _Printer(max(20, width), styled)
    lines: list[str] = []
    for block in blocks:
        if lines:
            lines.append("")
        lines += printer.lines(block)
    return lines


class _Printer:
    def __init__(self, width: int, styled: bool) -> None:
        self._width = width
        self._styled = styled

    def lines(self, block: Block) -> Iterator[str]:
        match block:
            case Heading():
                yield from self._flow(_in_bold(self._text(block.text)), "")
            case Paragraph():
                yield from self._flow(self._text(block.text), _INDENT)
            case Items():
                for item in block.items:
                    first, *rest = self._flow(self._text(item), _INDENT * 2)
                    yield f"{_INDENT}- {first.removeprefix(_INDENT * 2)}"
                    yield from rest
            case Code():
                yield from self._code(block)
            case Table():
                yield from self._table(block)

    def _code(self, code: Code) -> Iterator[str]:
        """Yield code; if too wide, put comments above their commands, and omit drawings."""
        indent = _INDENT * 2
        columns = len(indent) + max(map(len, code.lines), default=0)
        is_drawing = code.language == "text" and not code.file
        if is_drawing and columns > self._width:
            yield from self._flow(_plain(f"(A drawing that needs {columns} columns.)"), indent)
            return
        for line in code.lines:
            command, mark, comment = line.partition("  # ")
            if mark and len(indent + line) > self._width:
                yield from self._flow(_plain(comment), indent + "# ")
                line = command
            yield (indent + line).rstrip()

    def _table(self, table: Table) -> Iterator[str]:
        head = [_in_bold(self._text(cell)) for cell in table.head]
        rows = [[self._text(cell) for cell in row] for row in table.rows]
        widths = _column_widths(head, rows, self._width - len(_INDENT))
        if widths is None:
            yield from self._records(table.head, rows)
            return
        if any(head):
            yield from self._row(head, widths)
        for row in rows:
            yield from self._row(row, widths)

    def _row(self, cells: list[_Text], widths: list[int]) -> Iterator[str]:
        columns = [_fold(cell, width) for cell, width in zip(cells, widths, strict=True)]
        for number in range(max(map(len, columns))):
            parts = [column[number] if number < len(column) else [] for column in columns]
            padded = [
                self._to_text(part) + " " * (width - len(part))
                for part, width in zip(parts, widths, strict=True)
            ]
            yield (_INDENT + _GAP.join(padded)).rstrip()

    def _records(self, head: list[str], rows: list[list[_Text]]) -> Iterator[str]:
        """Yield the cells one below the other, for tables that are too wide."""
        for number, (first, *rest) in enumerate(rows):
            if number:
                yield ""
            yield from self._flow(_in_bold(first), _INDENT)
            for label, cell in zip(head[1:], rest, strict=True):
                mark = "" if label.endswith("?") else ":"
                named = _plain(f"{label}{mark} ") + cell if label and len(rest) > 1 else cell
                yield from self._flow(named, _INDENT * 2) if cell else ()

    def _flow(self, text: _Text, indent: str) -> Iterator[str]:
        for line in _fold(text, self._width - len(indent)):
            yield indent + self._to_text(line)

    def _text(self, source: str) -> _Text:
        marks = "" if self._styled else "`"
        return [
            (char, span.style)
            for span in spans(source)
            for char in (f"{marks}{span.text}{marks}" if span.style == "code" else span.text)
        ]

    def _to_text(self, line: _Text) -> str:
        if not self._styled:
            return "".join(char for char, _ in line)
        parts = []
        for style, run in groupby(line, key=lambda pair: _SGR.get(pair[1])):
            text = "".join(char for char, _ in run)
            parts.append(f"\x1b[{style}m{text}\x1b[0m" if style else text)
        return "".join(parts)


def _plain(text: str) -> _Text:
    return [(char, "plain") for char in text]


def _in_bold(text: _Text) -> _Text:
    return [(char, "bold") for char, _ in text]


def _words(text: _Text) -> list[_Text]:
    return [list(run) for blank, run in groupby(text, key=lambda pair: pair[0] == " ") if not blank]


def _fold(text: _Text, width: int) -> list[_Text]:
    """Break into lines at blanks; a word that is longer than a line is cut."""
    lines: list[_Text] = [[]]
    for word in _words(text):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append([])
        if lines[-1]:
            style = word[0][1] if lines[-1][-1][1] == word[0][1] else "plain"
            lines[-1].append((" ", style))
        while len(word) > width:
            lines[-1] += word[:width]
            word = word[width:]
            lines.append([])
        lines[-1] += word
    return lines


def _column_widths(head: list[_Text], rows: list[list[_Text]], width: int) -> list[int] | None:
    """Return the width of each column; None where the table does not fit. A heading may be broken first."""
    columns = list(zip(head, *rows, strict=True))
    room = width - len(_GAP) * (len(columns) - 1)
    if sum(wanted := [max(map(len, column)) for column in columns]) <= room:
        return wanted
    longest = [max((len(word) for cell in column for word in _words(cell)), default=0) for column in columns]
    wanted = [max(word, *map(len, column[1:])) for word, column in zip(longest, columns, strict=True)]
    least = [min(want, max(word, _NARROWEST)) for want, word in zip(wanted, longest, strict=True)]
    spare = room - sum(least)
    if spare < 0:
        return None
    missing = sum(wanted) - sum(least)
    if missing <= spare:
        return wanted
    return [low + (want - low) * spare // missing for low, want in zip(least, wanted, strict=True)]

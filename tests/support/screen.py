"""What a terminal shows: the escape sequences that pusher, rich and a shell send, played on a grid."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Final

from rich.text import Text

_SEQUENCE: Final = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])")

Cell = tuple[str, str]
"""A character, and the SGR sequences in force for it."""


class Screen:
    """A terminal of ``width`` columns that keeps every row that scrolled out."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._rows: list[list[Cell]] = [[]]
        self._row = 0
        self._column = 0
        self._style = ""
        self._left = ""
        """The beginning of a sequence whose end has not come yet."""

    @property
    def lines(self) -> list[str]:
        """The rows as text, without what is blank at the end."""
        return ["".join(char for char, _ in row).rstrip() for row in self._rows]

    def styled(self) -> list[Text]:
        """The rows with their colours."""
        runs = [groupby(row, key=lambda cell: cell[1]) for row in self._rows]
        return [
            Text.from_ansi("".join(f"\x1b[0m{style}{''.join(c for c, _ in cells)}" for style, cells in row))
            for row in runs
        ]

    def feed(self, text: str) -> None:
        """Play what a program wrote."""
        text, self._left = self._left + text, ""
        position = 0
        while position < len(text):
            char = text[position]
            if char != "\x1b":
                self._put(char)
                position += 1
            elif match := _SEQUENCE.match(text, position):
                self._obey(match[1], match[2])
                position = match.end()
            elif len(text) - position < 16:
                self._left = text[position:]
                return
            else:
                raise ValueError(f"unknown escape sequence {text[position : position + 16]!r}")

    def _put(self, char: str) -> None:
        if char == "\n":
            self._down(1)
        elif char == "\r":
            self._column = 0
        elif char == "\b":
            self._column = max(0, self._column - 1)
        elif char.isprintable():
            if self._column == self.width:
                self._column = 0
                self._down(1)
            row = self._rows[self._row]
            row += [(" ", "")] * (self._column + 1 - len(row))
            row[self._column] = (char, self._style)
            self._column += 1

    def _down(self, count: int) -> None:
        self._row += count
        while len(self._rows) <= self._row:
            self._rows.append([])

    def _obey(self, parameters: str, command: str) -> None:
        first = int(parameters.split(";")[0]) if parameters[:1].isdigit() else 0
        row = self._rows[self._row]
        match command:
            case "A":
                self._row = max(0, self._row - (first or 1))
            case "B":
                self._down(first or 1)
            case "C":
                self._column = min(self.width - 1, self._column + (first or 1))
            case "D":
                self._column = max(0, self._column - (first or 1))
            case "G":
                self._column = max(0, first - 1)
            case "K":
                self._rows[self._row] = {0: row[: self._column], 2: []}.get(first, row)
            case "J":
                self._rows[self._row] = row[: self._column]
                del self._rows[self._row + 1 :]
            case "m":
                self._style = "" if first == 0 else self._style + f"\x1b[{parameters}m"

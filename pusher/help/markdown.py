"""Parse the Markdown of the topics.

It is the part of GitHub's Markdown that the topics use: headings, paragraphs, lists of one level, tables,
fenced code, comments; in a line code, emphasis and links. A test checks that no topic uses more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

from pusher.dataclass import dataclass

_TABLE_CELL: Final = re.compile(r"(?<!\\)\|")
_INLINE: Final = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\*\*(?P<bold>[^*]+)\*\*"
    r"|\*(?P<italic>[^*\s][^*]*)\*"
    r"|\[[\w-]+\]\((?P<topic>[\w-]+)\.md\)"
    r"|\[(?P<text>[^\]]+)\]\((?P<url>https?://[^)]+)\)"
)


@dataclass(frozen=True)
class Heading:
    """``level`` is 1 for the title."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Items:
    """A list."""

    items: list[str]


@dataclass(frozen=True)
class Table:
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Code:
    """Fenced code. ``language`` and the name of a ``file`` as behind the fence, or ""."""

    language: str
    lines: list[str]
    file: str = ""


Block = Heading | Paragraph | Items | Table | Code
Style = Literal["plain", "code", "bold", "italic"]


@dataclass(frozen=True)
class Span:
    """A part of a line in one style."""

    text: str
    style: Style = "plain"


def parse(text: str) -> list[Block]:
    """Return the blocks of a document."""
    return list(_blocks(re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL).split("\n")))


def spans(text: str) -> list[Span]:
    """Return the parts of a line.

    A link to the web becomes its text and its address, one to another topic the command that shows it.
    """
    found: list[Span] = []
    position = 0
    for match in _INLINE.finditer(text):
        if before := text[position : match.start()]:
            found.append(Span(before))
        position = match.end()
        if topic := match["topic"]:
            found.append(Span(f"pusher help {topic}", "code"))
        elif match["text"]:
            found += [*spans(match["text"]), Span(f" <{match['url']}>")]
        else:
            styles: tuple[Style, ...] = ("code", "bold", "italic")
            style = next(style for style in styles if match[style])
            found.append(Span(match[style], style))
    if rest := text[position:]:
        found.append(Span(rest))
    return found


def _blocks(lines: list[str]) -> Iterator[Block]:
    position = 0
    while position < len(lines):
        line = lines[position]
        if not line.strip():
            position += 1
        elif line.startswith("```"):
            end = next(n for n in range(position + 1, len(lines)) if lines[n].startswith("```"))
            language, _, file = line[3:].strip().partition(" ")
            yield Code(language, lines[position + 1 : end], file)
            position = end + 1
        elif match := re.match(r"(#+) (.+)", line):
            yield Heading(len(match[1]), match[2])
            position += 1
        else:
            end = next((n for n in range(position, len(lines)) if _ends(lines[n])), len(lines))
            yield _flowing(lines[position:end])
            position = end


def _ends(line: str) -> bool:
    """Return whether a line does not belong to the paragraph, list or table before it."""
    return not line.strip() or line.startswith(("```", "# ", "## ", "### "))


def _flowing(lines: list[str]) -> Block:
    if lines[0].startswith("|"):
        head, _, *rows = [_cells(line) for line in lines]
        return Table(head, rows)
    if lines[0].startswith("- "):
        items = re.split(r"(?:^|\n)- ", "\n".join(lines))[1:]
        return Items([" ".join(item.split()) for item in items])
    return Paragraph(" ".join(" ".join(lines).split()))


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in _TABLE_CELL.split(line)[1:-1]]

"""The topics of ``pusher help``: complete, current, linked, and readable at any width."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import pusher
from pusher.config.settings import OPTIONS
from pusher.config.variables import OTHER_VARIABLES
from pusher.errors import ExitCode
from pusher.help.markdown import Code, Heading, Paragraph, Table, parse, spans
from pusher.help.terminal import render
from pusher.help.topics import NAMES, SYNONYMS, read_topic
from pusher.store.records import BlobState, JobState, UploadState
from tests.documents.tables import GENERATED
from tests.support import snapshots

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "pusher" / "help"


def test_every_topic_has_a_file_and_every_file_is_a_topic() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(NAMES)
    assert set(SYNONYMS.values()) <= set(NAMES)
    assert not set(SYNONYMS) & set(NAMES)


@pytest.mark.parametrize(("topic", "name"), GENERATED)
def test_the_tables_are_those_of_the_code(topic: str, name: str) -> None:
    """PUSHER_TEST_REWRITE_SNAPSHOTS=1 writes them anew."""
    path = FOLDER / f"{topic}.md"
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(f"<!-- {name}:begin -->\n")
    _, end, after = rest.partition(f"<!-- {name}:end -->\n")
    assert begin
    assert end
    new = before + begin + GENERATED[topic, name]() + end + after
    if snapshots.REWRITE:
        path.write_text(new, encoding="utf-8")
    else:
        assert text == new


@pytest.mark.parametrize("name", NAMES)
def test_a_topic_has_a_title_and_uses_no_other_markdown(name: str) -> None:
    topic = read_topic(name)
    assert isinstance(topic.blocks[0], Heading)
    assert topic.blocks[0].level == 1
    assert len(topic.title) <= 60
    for block in topic.blocks[1:]:
        if isinstance(block, Heading):
            assert block.level == 2
        elif isinstance(block, Paragraph):
            assert not re.match(r"[*+>]|\d+\. |    |---", block.text)
            plain = "".join(span.text for span in spans(block.text) if span.style == "plain")
            assert not re.search(r"[`*_\[\]]", re.sub(r"<http[^>]*>", "", plain)), plain
        elif isinstance(block, Table):
            assert {len(row) for row in block.rows} == {len(block.head)}
        elif isinstance(block, Code):
            assert block.language in ("sh", "toml", "text", "ini", "yaml", "dockerfile")
            assert max(map(len, block.lines)) <= (76 if block.language == "text" and not block.file else 120)


@pytest.mark.parametrize("name", [*NAMES, "README"])
def test_the_links_lead_somewhere(name: str) -> None:
    path = ROOT / "README.md" if name == "README" else FOLDER / f"{name}.md"
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).is_file(), target


@pytest.mark.parametrize("styled", [False, True], ids=["plain", "styled"])
@pytest.mark.parametrize("width", [40, 80, 100])
@pytest.mark.parametrize("name", NAMES)
def test_a_topic_fits_any_terminal(name: str, width: int, styled: bool) -> None:
    topic = read_topic(name)
    lines = [re.sub(r"\x1b\[\d*m", "", line) for line in render(topic.blocks, width, styled=styled)]
    blocks = [block for block in topic.blocks if isinstance(block, Code)]
    shown = [block for block in blocks if block.language != "text" or block.file]
    code = {line.strip() for block in shown for line in block.lines}
    commands = {line.partition("  # ")[0].strip() for line in code}
    wide = [line for line in lines if len(line) > width and line.strip() not in code | commands]
    assert wide == []


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("name", NAMES)
def test_no_word_of_a_topic_is_lost(name: str, width: int) -> None:
    topic = read_topic(name)
    shown = "".join(render(topic.blocks, width, styled=False))
    squeezed = re.sub(r"[\s#]", "", shown)
    for block in topic.blocks:
        cells = [cell for row in block.rows for cell in row] if isinstance(block, Table) else []
        for cell in cells:
            for word in "".join(span.text for span in spans(cell)).replace("`", "").split():
                assert word.replace("#", "") in squeezed.replace("`", ""), word


def test_every_variable_that_is_read_is_in_the_environment_topic() -> None:
    text = (FOLDER / "environment.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text() for path in Path(str(pusher.__file__)).parent.rglob("*.py"))
    read = set(re.findall(r"""environ(?:\.get\(|\[|, )\s*"([A-Z][A-Z_]+)\"""", code)) - {"COMP_WORDS"}
    read |= {name for option in OPTIONS for name in option.variables} | set(OTHER_VARIABLES)
    assert len(read) > 25
    assert {name for name in read if f"`{name}`" not in text} == set()


def _first_cells(topic: str) -> set[str]:
    tables = (block for block in read_topic(topic).blocks if isinstance(block, Table))
    return {row[0].strip("`") for table in tables for row in table.rows}


def test_every_state_is_explained() -> None:
    assert {str(state) for state in JobState} <= _first_cells("queue")
    assert {str(state) for state in (*BlobState, *UploadState)} <= _first_cells("architecture")


def test_every_exit_code_is_explained() -> None:
    explained = {int(number) for cell in _first_cells("scripting") for number in re.findall(r"\b\d+\b", cell)}
    assert {int(code) for code in ExitCode} <= explained


# --- rendering ----------------------------------------------------------------------------------------------

_SAMPLE = """\
# A title

A paragraph with `code`, *emphasis*, **weight** and
[other](other.md), [another](https://example.com/).

- one
- two, which is
  longer

| key | meaning |
|---|--:|
| `a\\|b` | first |
| `c` | second, with rather more to say than the others |

<!-- nobody sees this -->
```sh
pusher run    # a comment that is long enough to need a line of its own
```
"""


def test_plain_at_80_columns() -> None:
    assert render(parse(_SAMPLE), 80, styled=False) == [
        "A title",
        "",
        "  A paragraph with `code`, emphasis, weight and `pusher help other`, another",
        "  <https://example.com/>.",
        "",
        "  - one",
        "  - two, which is longer",
        "",
        "  key    meaning",
        "  `a|b`  first",
        "  `c`    second, with rather more to say than the others",
        "",
        "    pusher run    # a comment that is long enough to need a line of its own",
    ]


def test_plain_at_34_columns() -> None:
    assert (
        render(parse(_SAMPLE), 34, styled=False)[-9:]
        == [
            "  key    meaning",
            "  `a|b`  first",
            "  `c`    second, with rather more",
            "         to say than the others",
            "",
            "    # a comment that is long",
            "    # enough to need a line of its",
            "    # own",
            "    pusher run",
        ][-10:]
    )


def test_a_table_without_room_is_shown_row_by_row() -> None:
    table = parse("| code | meaning | advice |\n|---|---|---|\n| `x-y` | It is broken. | repair it |\n")
    long = parse(
        f"| code | meaning | advice |\n|---|---|---|\n| `x-y` | {'It is broken. ' * 5} | {'repair ' * 9} |\n"
    )
    assert render(table, 40, styled=False)[0] == "  code   meaning        advice"
    assert render(long, 40, styled=False)[:2] == ["  `x-y`", "    meaning: It is broken. It is broken."]


def test_a_drawing_is_whole_or_left_out() -> None:
    drawing = parse("```text\n+------------------+\n|  a box           |\n```\n")
    assert render(drawing, 40, styled=False) == ["    +------------------+", "    |  a box           |"]
    assert render(drawing, 22, styled=False) == ["    (A drawing that", "    needs 24 columns.)"]


def test_code_is_never_left_out() -> None:
    narrow = [line for name in NAMES for line in render(read_topic(name).blocks, 60, styled=False)]
    code = [block for name in NAMES for block in read_topic(name).blocks if isinstance(block, Code)]
    files = [block for block in code if block.file or block.language != "text"]
    assert all(f"    {block.lines[0]}".rstrip() in narrow for block in files if "  # " not in block.lines[0])
    assert sum("A drawing" in line for line in narrow) <= len(code) - len(files) == 2


def test_the_files_of_the_nightly_recipes_fit_a_terminal() -> None:
    assert [
        line for text in read_topic("nightly").files.values() for line in text.splitlines() if len(line) > 76
    ] == []


def test_styles_of_a_terminal() -> None:
    lines = render(parse("# Title\n\nUse `pusher run`.\n"), 40, styled=True)
    assert lines == ["\x1b[1mTitle\x1b[0m", "", "  Use \x1b[1mpusher run\x1b[0m."]


def test_the_tables_do_not_depend_on_the_environment() -> None:
    assert not any(os.environ["HOME"] in make() for make in GENERATED.values())

"""The man pages: what is in them, and that the wheel has them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from pusher.cli.man import man_pages
from pusher.errors import ExitCode
from pusher.help.markdown import parse
from pusher.help.roff import body, inline
from pusher.help.topics import NAMES, read_topic
from tests.cli.test_main import COMMANDS
from tests.support.real import require

PAGES = man_pages()
ROOT = Path(__file__).parents[2]
_REQUESTS = {"B", "BR", "IP", "PP", "RE", "RS", "SH", "SS", "TH", "TP", "br", "fi", "nf"}


def test_every_command_and_topic_has_a_page() -> None:
    commands = ["pusher", *(f"pusher-{name}" for name in COMMANDS), "pusher-db-upgrade", "pusher-db-check"]
    assert set(PAGES) == {f"{name}.1" for name in commands} | {f"pusher-{name}.7" for name in NAMES}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_uses_known_requests_only(name: str) -> None:
    lines = PAGES[name].splitlines()
    assert lines[0].startswith('.TH "PUSHER')
    assert lines[1] == ".SH NAME"
    assert " \\- " in lines[2]
    requests = {match[1] for line in lines if (match := re.match(r"[.'](\w*)", line))}
    assert requests <= _REQUESTS
    assert lines.count(".nf") == lines.count(".fi")
    assert "\b" not in PAGES[name]


@pytest.mark.parametrize("name", PAGES)
def test_groff_reads_a_page_without_a_warning(name: str) -> None:
    require("groff")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z"],
        input=PAGES[name],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_the_page_of_pusher_has_every_exit_code_and_topic() -> None:
    page = PAGES["pusher.1"]
    assert all(f"\n.B {int(code)}\n" in page for code in ExitCode)
    assert all(f"pusher\\-{name}(7)" in page for name in NAMES)


def test_a_page_of_a_command_has_its_options_and_its_example() -> None:
    page = PAGES["pusher-push.1"]
    assert "\n.B \\-\\-to WHERE\n" in page
    assert "\n.B \\-h, \\-\\-help\n" in page
    assert "\n  pusher push registry.example.com/team/app:1.2\n" in page


def test_roff_of_each_kind_of_block() -> None:
    text = "## One-two\n\nUse `a-b` and *x*.\n\n- item\n\n```sh\n.hidden \\n\n```\n\n"
    text += "| k | v |\n|---|---|\n| `a` | b |\n"
    assert list(body(parse(text))) == [
        *('.SH "ONE\\-TWO"', ".PP", "Use \\fBa\\-b\\fR and \\fIx\\fR.", ".IP \\(bu 2", "item"),
        *(".PP", ".RS 4", ".nf", "\\&.hidden \\en", ".fi", ".RE", ".TP", "\\fBa\\fR", "b"),
    ]
    assert inline("'quoted") == "\\&'quoted"


def test_the_wheel_has_the_pages_and_the_topics(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "pusher", source / "pusher", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "migrations").mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    program = "import sys, hatchling.build; print(hatchling.build.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(tmp_path)],
        cwd=source,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr
    with ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        for name, page in PAGES.items():
            (path,) = (n for n in wheel.namelist() if n.endswith(f"/data/share/man/man{name[-1]}/{name}"))
            assert wheel.read(path).decode() == page
        for name in NAMES:
            assert wheel.read(f"pusher/help/{name}.md").decode() == read_topic(name).text

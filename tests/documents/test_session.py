"""The script behind the README's picture still shows a push that is killed and resumes."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from xml.etree import ElementTree

from tests.documents.session import PICTURE, MomentMissed, Session, record, svg

_EXPECTED = (
    r"\$ pusher push app\.tar --to localhost:\d+/team/app:1\.2",
    r"Job 1: app\.tar -> localhost:\d+/team/app:1\.2",
    r"[0-9a-f]{12}.*[45]\d%.*MiB.*MiB/s",
    r"Killed",
    r"\$ pusher status",
    r"1 +running +[2-5]\d% .*MiB",
    r"interrupted; continues at [\d.]+ MiB with: pusher run",
    r"\$ pusher run",
    r"waiting [1-9]s: localhost:\d+ refuses the connection",
    r"[0-9a-f]{12}.*[6-9]\d%.*MiB",
    r"Job 1 succeeded:",
    r"localhost:\d+/team/app:1\.2@sha256:[0-9a-f]+",
    r"Jobs: 1 pushed\.",
)


def _rows(picture: str) -> list[str]:
    """Every row of every frame, its runs put together."""
    rows: dict[tuple[int, str], str] = {}
    for number, frame in enumerate(re.findall(r'<g class="frame.*?</g>\s*</g>', picture, re.DOTALL)):
        for y, text in re.findall(r'y="([\d.]+)"[^>]*>([^<]*)</text>', frame):
            rows[number, y] = rows.get((number, y), "") + text.replace("&#160;", " ") + " "
    return [row.replace("&gt;", ">") for row in rows.values()]


def _assert_shown_in_order(rows: list[str]) -> None:
    position = 0
    for pattern in _EXPECTED:
        found = next((n for n in range(position, len(rows)) if re.search(pattern, rows[n])), None)
        assert found is not None, f"{pattern} is not shown after row {position} of {rows}"
        position = found


def _record(folder: Path) -> Session:
    """Record a session, on a slower link if a moment was missed."""
    for rate in (1_500_000, 500_000):
        (attempt := folder / str(rate)).mkdir()
        with contextlib.suppress(MomentMissed):
            return record(attempt, [8_000_000], rate=rate, chunk_size="1MiB")
    (last := folder / "last").mkdir()
    return record(last, [8_000_000], rate=200_000, chunk_size="1MiB")


def test_a_new_picture_has_the_expected_lines(tmp_path: Path) -> None:
    picture = svg(_record(tmp_path))
    ElementTree.fromstring(picture)
    _assert_shown_in_order(_rows(picture))


def test_the_picture_of_the_readme_has_them_and_needs_nothing_from_the_web() -> None:
    picture = PICTURE.read_text(encoding="utf-8")
    ElementTree.fromstring(picture)
    _assert_shown_in_order(_rows(picture))
    assert set(re.findall(r"https?://[^\"' )]+", picture)) == {"http://www.w3.org/2000/svg"}
    assert str(Path.home()) not in picture

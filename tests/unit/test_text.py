"""Foreign text, made fit for a terminal, a shell and JSON."""

from __future__ import annotations

import json
import shlex
import subprocess
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.errors import PusherError, SourceError
from pusher.text import as_json, printable, printable_lines, quoted, suggest

ANY = st.text(st.characters(categories=None))  # lone surrogates, too


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("app:1.2", "app:1.2"),
        ("été 日本 ё", "été 日本 ё"),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("safe\u202etxt.exe", r"safe\u202etxt.exe"),
        ("a\u2066b\u2069", r"a\u2066b\u2069"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("half \ud83d of one", r"half \ud83d of one"),
        ("not UTF-8: \udcff", r"not UTF-8: \udcff"),
        ("one\ntwo\r\nthree\x85four\u2028five", r"one\ntwo\r\nthree\x85four\u2028five"),
        ("a\tb", r"a\tb"),
        ("a\xa0b", "a b"),
        ("filler \u3164, variation a\ufe0f \U000e0101", r"filler \u3164, variation a\ufe0f \U000e0101"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(ANY)
def test_any_text_becomes_a_line_that_is_all_seen(text: str) -> None:
    shown = printable(text, 80)
    shown.encode()
    assert len(shown) <= 80
    assert not any(unicodedata.category(char)[0] == "C" for char in shown)
    assert shown.splitlines() in ([], [shown])


def test_long_text_is_cut_before_it_is_looked_at() -> None:
    assert printable("a" * 10_000_000, 10) == "aaaaaaaaa…"
    assert printable("\x1b" * 10, 10) == r"\x1b\x1b\…"


def test_only_a_line_feed_divides_lines() -> None:
    assert printable_lines("first\nsecond\x0bstill\u2028") == "first\nsecond\\x0bstill\\u2028"


def test_a_foreign_word_in_a_sentence() -> None:
    assert quoted("a\x1b[2J") == r"'a\x1b[2J'"
    assert len(quoted("x" * 1000)) == 202


@given(st.lists(ANY, min_size=1, max_size=3))
def test_a_suggested_command_means_its_words_or_is_none(words: list[str]) -> None:
    command = suggest("pusher push " + " ".join("{}" for _ in words), *words)
    if command:
        assert shlex.split(command) == ["pusher", "push", *words]
    else:
        assert any(printable(word) != word or not word or word.startswith("-") for word in words)


@pytest.mark.parametrize(
    "word", ["$(touch owned)", "`id`", "a; rm -rf ~", "it's", "a b", "~root", "a\\b", "*"]
)
def test_a_shell_reads_the_word_back(word: str) -> None:
    done = subprocess.run(["sh", "-c", suggest("printf %s {}", word)], capture_output=True, check=True)
    assert done.stdout.decode() == word


@pytest.mark.parametrize("word", ["a\nb", "a\x1bb", "a\u202eb", "\udcff", "--to", ""])
def test_what_cannot_be_copied_is_not_suggested(word: str) -> None:
    assert suggest("pusher push {}", word) == ""
    assert SourceError("it is not there", hint=suggest("pusher push {}", word)).hint == SourceError.advice


@given(ANY)
def test_json_is_ascii_that_every_program_can_read(text: str) -> None:
    line = as_json({text: [text, (1, text)], "plain": "é\x1b"})
    assert line.isascii()
    read = json.loads(line)
    assert read["plain"] == "é\x1b"
    for name in read:
        name.encode()


def test_an_error_quotes_only_what_can_be_shown() -> None:
    error = PusherError("it says \x1b[31mred\nerror: forged", hint="first\nsecond\x9b")
    assert error.message == r"it says \x1b[31mred\nerror: forged" == str(error)
    assert error.hint == "first\nsecond\\x9b"
    assert PusherError("half \ud83d").message.encode()

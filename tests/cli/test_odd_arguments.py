"""Every argument and option with what nobody means: a sentence, never a bug, and nothing a terminal obeys."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click
import pytest

from pusher.cli.app import cli
from pusher.cli.groups import commands_of
from pusher.errors import ListenFailed
from pusher.serve.server import Address
from tests.cli.conftest import Pusher

ODD = (
    *(
        "",
        " ",
        "-",
        "--",
        "~nobody-here/x",
        "../" * 200,
        "a" * 300,
        "a" * 5000,
        "%",
        "@",
        ":",
        "/",
        "é" * 100,
    ),
    *("\x1b[31m", "a\x9bb", "\u202egnp", "a\nb", "\x1c5", "0", "-1", "9" * 400, "1e999", "nan", "\u0661"),
    *(
        "[::1",
        "http://[",
        "a@b:c",
        "$(id)",
        "'",
        '"',
        "\\",
        "oci:" + "a" * 300,
        "dir:\x1b",
        "docker://a\u202eb",
    ),
    *("docker-archive:~x.tar:y", "oci:~nobody/x", "containers-storage:[]x", "docker-storage:[overlay2@~x]y"),
)
_NEEDED = {"push": ["docker-archive:/nothing.tar"], "enqueue": ["docker-archive:/nothing.tar"], "log": ["1"]}
_NEEDED |= {command: ["1"] for command in ("pause", "resume", "cancel", "retry")}
_NEEDED |= {"doctor": ["localhost:1"], "login": ["localhost:1"]}
_WITHOUT = {"completion", "login"}
"""What would ask or wait; login's options are those of others."""


def _commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in commands_of(group, click.Context(group)).items():
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
        elif name not in _WITHOUT:
            yield (*path, name), command


def _cases() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each argument of each command, and each option once; "ODD" is where the odd text goes."""
    seen = set()
    for path, command in _commands(cli):
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                yield f"{' '.join(path)} {parameter.name}", (*path, "--", "ODD")
            elif isinstance(parameter, click.Option) and not (parameter.is_flag or parameter.count):
                if parameter.name not in seen:
                    option = parameter.opts[-1]
                    yield option, (*path, f"{option}=ODD", *_NEEDED.get(path[-1], ()))
                seen.add(parameter.name)


CASES = dict(_cases())


def _refuse_to_listen(address: Address) -> NoReturn:
    raise ListenFailed(f"not at {address}", hint="this test would wait for ever")


def assert_harmless(text: str) -> None:
    for char in text:
        assert char == "\n" or unicodedata.category(char)[0] != "C", ascii(text)


@pytest.mark.parametrize("case", CASES)
def test_odd_texts(pusher: Pusher, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some are the names of folders that are created
    monkeypatch.setattr("pusher.serve.server.open_sockets", _refuse_to_listen)
    for odd in ODD:
        arguments = [word.replace("ODD", odd) for word in CASES[case]]
        result = pusher(*arguments)
        assert result.code != 1, (odd, result.err)
        assert "bug" not in result.err, (odd, result.err)
        assert_harmless(result.out + result.err)
        assert len(result.err) < 12_000


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd])
def test_odd_variables(pusher: Pusher, monkeypatch: pytest.MonkeyPatch, odd: str) -> None:
    for name in ("HOME", "CONFIG", "REGISTRY", "PARALLEL", "DATABASE_URL", "CA_CERT", "LIMIT_RATE", "NONE"):
        with monkeypatch.context() as patch:
            patch.setenv(f"PUSHER_{name}", odd)
            for command in ("config", "status"):
                if name == "HOME" and "/" not in odd:
                    continue  # a folder of this name, here
                result = pusher(command)
                assert result.code != 1, (name, result.err)
                assert "bug" not in result.err, (name, result.err)
                assert_harmless(result.out + result.err)

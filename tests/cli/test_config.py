"""``pusher config``, and every setting by every way in which it can be given."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

from pusher.cli.app import cli
from pusher.cli.groups import commands_of
from pusher.config import load
from pusher.config.options import Option
from pusher.config.settings import BY_NAME, OPTIONS
from tests.cli.conftest import Pusher

TEXTS = {
    "parallel": "7",
    "limit_rate": "08:00-18:00=2M,off",
    "uploads_per_registry": "8",
    "username": "bob",
    "password": "hunter2",
    "chunk_size": "50MiB",
    "connect_timeout": "3s",
    "stall_timeout": "4s",
    "answer_timeout": "5s",
    "commit_timeout": "6s",
    "give_up_after": "7s",
    "registry": "r.example/team",
    "profile": "distribution",
    "plain_http": "true",
    "insecure": "r.example:5000",
    "ca_cert": "/etc/company.pem",
    "compression": "zstd",
    "compression_level": "9",
    "compression_threads": "3",
    "no_early": "true",
    "spool_limit": "5GiB",
    "keep_jobs": "8w",
    "lease": "8s",
    "home": "/var/lib/pusher",
    "spool": "/mnt/spool",
    "database_url": "postgresql://db.example/pusher",
    "docker_root": "/mnt/docker",
    "on_success": "echo done",
    "on_failure": "echo failed",
    "on_waiting": "echo waits",
    "hook_timeout": "9s",
    "hook_waiting_after": "10m",
}
"""A value for each setting, as it is written; none is the default."""

FLAGS = [option for option in OPTIONS if option.has_flag]
IN_FILE = [option for option in OPTIONS if option.in_file]
PER_REGISTRY = [option for option in OPTIONS if option.per_registry]


def _ids(option: Option) -> str:
    return option.name


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration file, not written yet."""
    path = tmp_path / "pusher.toml"
    monkeypatch.setenv("PUSHER_CONFIG", str(path))
    path.write_text("")
    return path


def _rows(pusher: Pusher, *arguments: str) -> dict[str, list[str]]:
    """The lines of the table: name, value, source."""
    result = pusher("config", *arguments)
    assert (result.code, result.err) == (0, "")
    return {line.split()[0]: re.split(r"\s{2,}", line) for line in result.out.splitlines() if "  " in line}


def _settings(pusher: Pusher, *arguments: str) -> dict[str, Any]:
    result = pusher("config", "--json", *arguments)
    assert (result.code, result.err) == (0, "")
    answer: dict[str, Any] = json.loads(result.out)
    return answer


def test_there_is_a_text_for_every_setting() -> None:
    assert list(TEXTS) == [option.name for option in OPTIONS]
    assert {option.name for option in OPTIONS if not option.has_flag} == {
        "password",  # everybody can read a process's arguments
        "registry",  # --to
        "home",  # every command has to look at the same place
        "spool",
        "database_url",
        "docker_root",
        "keep_jobs",
        "uploads_per_registry",  # all workers should have the same
    } | {option.name for option in OPTIONS if option.table == "hooks"}


@pytest.mark.parametrize("option", FLAGS, ids=_ids)
def test_by_flag(pusher: Pusher, option: Option) -> None:
    arguments = [option.flag] if option.is_switch else [option.flag, TEXTS[option.name]]
    assert _rows(pusher, *arguments)[option.name] == [option.name, TEXTS[option.name], option.flag]
    value = True if option.is_switch else TEXTS[option.name]
    assert load({option.name: (value,) if option.is_list else value}, {}) != load({}, {}), "nobody reads it"


@pytest.mark.parametrize("option", OPTIONS, ids=_ids)
def test_by_variable(pusher: Pusher, monkeypatch: pytest.MonkeyPatch, option: Option) -> None:
    for variable in option.variables:
        monkeypatch.setenv(variable, TEXTS[option.name])
        shown = "(set)" if option.name == "password" else TEXTS[option.name]
        assert _rows(pusher)[option.place] == [option.place, shown, variable]
        assert load({}, {variable: TEXTS[option.name]}) != load({}, {}), "nobody reads it"
        monkeypatch.delenv(variable)


@pytest.mark.parametrize("option", IN_FILE, ids=_ids)
def test_by_file(pusher: Pusher, monkeypatch: pytest.MonkeyPatch, file: Path, option: Option) -> None:
    monkeypatch.delenv("PUSHER_HOME")
    text = TEXTS[option.name]
    if option.is_list:
        file.write_text(f'{option.place} = ["{text}"]')
    else:
        file.write_text(f"{option.place} = {text if option.is_switch else repr(text)}")
    assert _rows(pusher)[option.place] == [option.place, text, str(file)]


@pytest.mark.parametrize("option", PER_REGISTRY, ids=_ids)
def test_by_a_registrys_table(pusher: Pusher, file: Path, option: Option) -> None:
    text = "true" if option.is_list else TEXTS[option.name]
    key = option.name.replace("_", "-")
    file.write_text(f'[registries."r.example"]\n{key} = {text if text == "true" else repr(text)}')
    out = pusher("config").out
    *_, heading, row = out.splitlines()
    assert heading == '[registries."r.example"]'
    assert re.split(r"\s{2,}", row) == [option.name, text, str(file)]
    table = _settings(pusher)["registries"]["r.example"]
    assert list(table) == [option.name]
    assert table[option.name]["source"] == str(file)
    settings = load()
    assert settings.at("r.example") != settings.at("other.example")


def _commands() -> dict[str, click.Command]:
    return commands_of(cli, click.Context(cli))


@pytest.mark.parametrize("command", ["push", "run"])
def test_what_sends_images_takes_every_flag(command: str) -> None:
    parameters = {parameter.name for parameter in _commands()[command].params}
    assert {option.name for option in FLAGS} <= parameters


def test_the_same_option_has_the_same_words_everywhere(pusher: Pusher) -> None:
    seen: dict[str, set[str | None]] = {}
    for name, command in _commands().items():
        if name == "serve":  # its --username and --plain-http are those of the registry that it is
            continue
        for parameter in command.params:
            if parameter.name in BY_NAME and BY_NAME[parameter.name].flag in parameter.opts:
                seen.setdefault(parameter.name, set()).add(getattr(parameter, "help", None))
    seen.pop("spool_limit")  # of prune: what this one command leaves
    assert {name: len(texts) for name, texts in seen.items()} == dict.fromkeys(seen, 1)
    assert set(seen) == {option.name for option in FLAGS} - {"spool_limit"}
    help_text = " ".join(pusher("push", "--help").out.split())
    for option in FLAGS:
        assert option.variables[0] in help_text
        assert option.is_switch or f"default: {option.default or ''}" in help_text


def test_the_everyday_options_come_first(pusher: Pusher) -> None:
    out = pusher("push", "--help").out
    headings = [line.rstrip(":") for line in out.splitlines() if re.fullmatch(r"[A-Z][A-Za-z ]+:", line)]
    assert headings == ["Options", "Image", "Link", "Registry and TLS", "Storage"]
    places = [out.index(option) for option in ("  --to ", "  -h, --help", "--chunk-size", "--ca-cert")]
    assert places == sorted(places)


def test_where_nothing_is_set(pusher: Pusher, home: Path) -> None:
    path = Path.home() / "xdg_config_home" / "pusher" / "pusher.toml"
    result = pusher("config")
    assert result.out.startswith(f"{path}  (does not exist)\n\nparallel              4  ")
    rows = _rows(pusher)
    assert rows["compression"] == ["compression", "keep", "default"]
    assert rows["compression_level"] == ["compression_level", "for gzip what fits the link", "default"]
    assert rows["limit_rate"] == ["limit_rate", "no limit", "default"]
    assert rows["registry"] == ["registry", "docker.io", "default"]
    assert rows["insecure"] == ["insecure", "none", "default"]
    assert rows["database_url"] == ["database_url", f"sqlite:///{home}/jobs.db", "default"]
    assert pusher("config", "--path").out == f"{path}\n"
    assert not home.exists()


def test_a_level_that_the_compression_does_not_have(
    pusher: Pusher, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    file.write_text("compression_level = 13")
    for command in (["config"], ["status"], ["run"], ["push", "app:1.2"]):
        result = pusher(*command)
        assert result.code == 2
        assert result.err == (
            "error: 13 is not a compression level of gzip\n"
            "  hint: use --compression-level 1 (fastest) to 12 (smallest)\n"
        )
    monkeypatch.setenv("PUSHER_COMPRESSION", "zstd")
    assert _rows(pusher)["compression_level"] == [
        "compression_level",
        "for gzip what fits the link",
        "default",
    ]
    file.write_text('compression = "zstd"\ncompression_level = 12')
    assert _rows(pusher)["compression_level"] == ["compression_level", "12", str(file)]


def test_json_has_bytes_seconds_and_lists(pusher: Pusher, file: Path) -> None:
    file.write_text('chunk_size = "1MiB"\ninsecure = ["b.example", "a.example"]\nstall_timeout = "2m"')
    answer = _settings(pusher, "--limit-rate", "2M")
    assert answer["file"] == {"path": str(file), "exists": True}
    values = {name: item["value"] for name, item in answer["settings"].items()}
    assert (values["chunk_size"], values["stall_timeout"]) == (1024**2, 120)
    assert values["insecure"] == ["a.example", "b.example"]
    assert values["limit_rate"] == "2M"
    assert values["plain_http"] is False
    assert values["password"] is None


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_no_secret_is_shown(
    pusher: Pusher, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PUSHER_PASSWORD", "hunter2")
    url = "postgresql://bob:hun:ter2@db.example:5432/pusher?password=hunter2&sslpassword=hunter2&a=b"
    monkeypatch.setenv("PUSHER_DATABASE_URL", url)
    out = pusher("config", *arguments).out
    assert "ter2" not in out
    assert "(set)" in out
    assert "postgresql://db.example:5432/pusher" in out
    assert "bob" not in out


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://bob:p@ssw0rd@db.example/pusher", "postgresql://db.example/pusher"),
        ("postgresql://bob:ssw0rd@/pusher?host=/run/pg&user=eve", "postgresql:///run/pg/pusher"),
        ("postgresql://ssw0rd@db.example", "postgresql://db.example/"),
        ("postgres+ssw0rd://x:ssw0rd@db.example", "(set)"),
        ("postgresql://bob:ssw0rd@[db/pusher", "postgresql://[db/pusher"),
        ("sqlite:////var/lib/jobs.db?ssw0rd=1", "sqlite:////var/lib/jobs.db"),
    ],
)
def test_of_a_database_url_only_host_and_name_are_shown(
    pusher: Pusher, monkeypatch: pytest.MonkeyPatch, url: str, shown: str
) -> None:
    monkeypatch.setenv("PUSHER_DATABASE_URL", url)
    rows = _rows(pusher)
    assert rows["database_url"] == ["database_url", shown, "PUSHER_DATABASE_URL"]
    result = pusher("config", "--json")
    assert json.loads(result.out)["settings"]["database_url"]["value"] == shown
    assert "ssw0rd" not in result.out + result.err


def test_a_mistyped_variable_is_noticed(pusher: Pusher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHER_CHUNKSIZE", "50MiB")
    monkeypatch.setenv("PUSHER_OF_SOMEBODY_ELSE", "1")
    told = (
        "Unknown environment variable PUSHER_CHUNKSIZE; did you mean PUSHER_CHUNK_SIZE?\n"
        "Unknown environment variable PUSHER_OF_SOMEBODY_ELSE; pusher config shows those that exist\n"
    )
    for command in (("config",), ("status", "--json"), ("prune",)):
        assert pusher(*command).err.startswith(told)
    assert pusher("status").err.count("CHUNKSIZE") == 1


def test_a_flag_is_shown_where_it_beats_a_table(pusher: Pusher, file: Path) -> None:
    file.write_text('[registries."r.example"]\nchunk_size = "4MiB"\nprofile = "ghcr"\n')
    table = _settings(pusher, "--chunk-size", "8MiB")["registries"]["r.example"]
    assert table["chunk_size"] == {"value": 8 * 1024**2, "source": "--chunk-size"}
    assert table["profile"] == {"value": "ghcr", "source": str(file)}


def test_a_broken_file_stops_every_command_but_not_the_way_to_mend_it(pusher: Pusher, file: Path) -> None:
    file.write_text("parallel = ")
    for command in (("config",), ("status",), ("push", "app:1")):
        result = pusher(*command)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(f"error: {file} is not TOML: ")
    assert pusher("config", "--path").out == f"{file}\n"
    example = pusher("config", "--example").out
    file.write_text(example)
    assert pusher("config").code == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(("--profile", "dockerhub"), ""), ((), '[registries."r.example"]\nprofile = "dockerhub"')],
)
def test_a_profile_that_there_is_not(
    pusher: Pusher, file: Path, arguments: tuple[str, ...], text: str
) -> None:
    file.write_text(text)
    for command in ("config", "run"):
        result = pusher(command, *arguments)
        assert result.code == 2
        assert result.err.startswith(
            "error: there is no registry profile called 'dockerhub'\n  hint: use one of: "
        )

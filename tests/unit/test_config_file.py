"""``pusher.toml``: what it may hold, what wins over what, and the words for what is wrong in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pusher.config import MIB, Settings, load
from pusher.config.example import example_file
from pusher.config.file import read_file
from pusher.config.load import resolve
from pusher.config.settings import OPTIONS
from pusher.errors import ConfigInvalid, ExitCode

SERVE = 'write [serve.registries] and below it: work = "registry.example.com/team"'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings" / "pusher.toml"


def _write(file: Path, text: str | bytes) -> dict[str, str]:
    """The environment in which this is the file."""
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return {"PUSHER_CONFIG": str(file)}


def _load(file: Path, text: str, flags: dict[str, object] | None = None, **environ: str) -> Settings:
    return load(flags, {**_write(file, text), **environ})


def test_the_users_own_file_is_read_and_may_be_missing() -> None:
    own = Path.home() / "xdg_config_home" / "pusher" / "pusher.toml"
    assert read_file({}).path == own
    assert load({}, {}).parallel == 4
    own.parent.mkdir(parents=True)
    own.write_text("parallel = 2")
    assert load({}, {}).parallel == 2
    assert load({}, {"PUSHER_CONFIG": ""}).parallel == 2


def test_keys_with_hyphens_and_values_of_every_type(file: Path) -> None:
    settings = _load(
        file,
        """
        parallel = 2
        chunk-size = 50_000_000
        limit_rate = "1M"
        stall-timeout = 1.5
        commit_timeout = "1h"
        plain-http = true
        insecure = ["a.example:5000", "b.example"]
        ca-cert = "company.pem"
        registry = "r.example/team"
        home = "../state"
        username = "bob"
        """,
    )
    assert (settings.parallel, settings.chunk_size, settings.plain_http) == (2, 50_000_000, True)
    assert (settings.timeouts.stall, settings.timeouts.commit) == (1.5, 3600)
    assert settings.insecure == {"a.example:5000", "b.example"}
    assert settings.ca_cert == file.parent / "company.pem", "relative to the file, not to where one stands"
    assert settings.home == file.parent / ".." / "state"
    assert settings.default_registry == "r.example/team"
    assert (settings.username, settings.login_source) == ("bob", f"username (line 12 of {file})")


TABLE = """
chunk_size = "20MiB"
plain_http = false
profile = "distribution"

[registries."GHCR.io"]
chunk_size = "4MiB"
plain_http = true
profile = "ghcr"
username = "eve"

[registries."r.example:5000"]
insecure = true
ca-cert = "r.pem"
"""


def test_a_registrys_table_wins_over_the_rest_of_the_file(file: Path) -> None:
    settings = _load(file, TABLE)
    ghcr, other = settings.at("ghcr.io"), settings.at("r.example:5000")
    assert (ghcr.chunk_size, ghcr.plain_http, ghcr.profile) == (4 * MIB, True, "ghcr")
    assert (ghcr.insecure, ghcr.ca_cert, ghcr.username) == (frozenset(), None, "eve")
    assert (other.chunk_size, other.plain_http, other.profile) == (20 * MIB, False, "distribution")
    assert other.insecure == {"r.example:5000"}
    assert (other.ca_cert, other.username) == (file.parent / "r.pem", None)
    assert settings.at("quay.io").chunk_size == 20 * MIB


def test_docker_hub_is_one_registry_whatever_it_is_called(file: Path) -> None:
    settings = _load(file, '[registries."index.docker.io"]\nchunk_size = "4MiB"')
    assert settings.at("docker.io").chunk_size == 4 * MIB
    assert settings.at("registry-1.docker.io").chunk_size == 4 * MIB, "the host that the client talks to"


def test_flags_and_variables_win_over_a_registrys_table(file: Path) -> None:
    settings = _load(file, TABLE, {"chunk_size": "1MiB"}, PUSHER_PROFILE="quay", PUSHER_PLAIN_HTTP="false")
    ghcr = settings.at("ghcr.io")
    assert (ghcr.chunk_size, ghcr.profile, ghcr.plain_http) == (MIB, "quay", False)
    assert ghcr.username == "eve"


def test_insecure_registries_by_flag_list_and_table(file: Path) -> None:
    text = """
    insecure = ["a.example", "b.example"]
    [registries."a.example"]
    insecure = false
    [registries."c.example"]
    insecure = true
    """
    registries = ("a.example", "b.example", "c.example", "d.example")
    insecure = [bool(_load(file, text).at(registry).insecure) for registry in registries]
    assert insecure == [False, True, True, False]
    flagged = _load(file, text, {"insecure": ("a.example", "d.example")})
    assert [bool(flagged.at(registry).insecure) for registry in registries] == [True, False, True, True]


def test_the_user_of_a_table_is_for_that_registry(file: Path) -> None:
    settings = _load(file, TABLE)
    eve = settings.with_user_of("ghcr.io")
    assert (eve.username, eve.login_source) == ("eve", "the username of ghcr.io in pusher.toml")
    assert settings.with_user_of("r.example:5000") is settings
    assert _load(file, TABLE, {"username": "bob"}).with_user_of("ghcr.io").username == "bob"


def test_sources(file: Path) -> None:
    environ = {**_write(file, TABLE), "PUSHER_PARALLEL": "2", "INSECURE_HTTP_PUSH": "true"}
    resolved = resolve({"profile": "quay"}, environ)
    sources = {name: found.source for name, found in resolved.values.items()}
    assert sources["parallel"] == "PUSHER_PARALLEL"
    assert sources["plain_http"] == "INSECURE_HTTP_PUSH"
    assert sources["profile"] == "--profile"
    assert sources["chunk_size"] == str(file)
    assert sources["lease"] == "default"
    table = {name: found.source for name, found in resolved.registries["ghcr.io"].items()}
    assert table == {
        "chunk_size": str(file),
        "plain_http": "INSECURE_HTTP_PUSH",
        "profile": "--profile",
        "username": str(file),
    }


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "parallel = 4\nchunk_siez = 5",
            "chunk_siez (line 2 of FILE) is not a setting",
            "write chunk_size; pusher config --example shows all settings",
        ),
        (
            "zzz = 5",
            "zzz (line 1 of FILE) is not a setting",
            "pusher config --example shows all settings",
        ),
        ("parallel = 'x'", "parallel (line 1 of FILE) is 'x'", "write a whole number from 1 to 64"),
        ("parallel = 4.5", "parallel (line 1 of FILE) is '4.5'", "write a whole number from 1 to 64"),
        (
            "parallel = true",
            "parallel (line 1 of FILE) has the wrong type",
            "write a string in quotes or a number",
        ),
        (
            "connect-timeout = 1979-05-27",
            "connect-timeout (line 1 of FILE) has the wrong type",
            "write a string in quotes or a number",
        ),
        ("plain_http = [1]", "plain_http (line 1 of FILE) has the wrong type", "write true or false"),
        (
            "insecure = true",
            "insecure (line 1 of FILE) has the wrong type",
            'write a list, like ["registry.example.com:5000"]',
        ),
        (
            "insecure = [1]",
            "insecure (line 1 of FILE) has the wrong type",
            'write a list, like ["registry.example.com:5000"]',
        ),
        (
            "chunk_size = 5000\nchunk-size = 6000",
            "chunk-size (line 2 of FILE) is there twice, with - and with _",
            "remove one of them",
        ),
        (
            '[registries."ghcr.io"]\nparallel = 4',
            "parallel of ghcr.io (line 2 of FILE) applies to all registries",
            "move it above the first table",
        ),
        (
            'chunk_sise = 4\n[registries."ghcr.io"]\nchunk_sise = 4',
            "chunk_sise of ghcr.io (line 3 of FILE) is not a setting",
            "write chunk_size; pusher config --example shows all settings",
        ),
        (
            '[registries."ghcr.io"]\ninsecure = "maybe"',
            "insecure of ghcr.io (line 2 of FILE) is 'maybe', which is neither yes nor no",
            "write true or false",
        ),
        (
            '[registries."https://ghcr.io"]\ninsecure = true',
            (
                "registries.https://ghcr.io (line 1 of FILE): 'https://ghcr.io' is not a registry: "
                "it begins with https://"
            ),
            "write it without: ghcr.io",
        ),
        (
            '[registries."ghcr.io/team"]',
            "registries.ghcr.io/team (line 1 of FILE) is 'ghcr.io/team', which is more than a registry",
            "write ghcr.io",
        ),
        (
            '[registry."ghcr.io"]\nchunk_size = 5',
            "registry (line 1 of FILE) is a table",
            'put a registry\'s settings below [registries."ghcr.io"]',
        ),
        (
            '["ghcr.io"]\nchunk_size = 5',
            "ghcr.io (line 1 of FILE) is a table",
            'put a registry\'s settings below [registries."ghcr.io"]',
        ),
        (
            "lease = 9\n[registries.r.example]\ninsecure = true",
            "registries.r.example (line 2 of FILE) needs quotes",
            'write [registries."r.example"]',
        ),
        (
            "registries = 5",
            "registries (line 1 of FILE) is not a table",
            'write [registries."ghcr.io"] above the settings',
        ),
        ("hooks = 5", "hooks (line 1 of FILE) is not a table", "write [hooks] above its settings"),
        (
            'on_success = "true"',
            "on_success (line 1 of FILE) belongs in the table [hooks]",
            "write hooks.on_success",
        ),
        (
            '[hooks]\non_sucess = "true"',
            "on_sucess of [hooks] (line 2 of FILE) is not a setting",
            "write on_success; pusher config --example shows all settings",
        ),
        ("serve = 5", "serve (line 1 of FILE) is not a table", SERVE),
        (
            "[serve]\nport = 5",
            "port of [serve] (line 2 of FILE) does not belong in [serve]",
            SERVE,
        ),
        (
            '[serve.registries]\nWork = "ghcr.io"',
            "Work of [serve.registries] (line 2 of FILE) cannot stand in the name of an image",
            "write lower-case letters and digits, and '.', '_' or '-' between them",
        ),
        (
            "[serve.registries]\nwork = 5",
            "work of [serve.registries] (line 2 of FILE) is not a registry",
            SERVE,
        ),
        (
            "[hooks]\nparallel = 2",
            "parallel of [hooks] (line 2 of FILE) does not belong in [hooks]",
            "move it above the first table",
        ),
        (
            'lease = 9\n[hooks]\ntimeout = "long"',
            "timeout of [hooks] (line 3 of FILE) is 'long', which is not a time",
            "write seconds like 30, or 90s, 15m, 2h",
        ),
        (
            '[hooks]\non_success = ["notify-send", "done"]',
            "on_success of [hooks] (line 2 of FILE) has the wrong type",
            "write one command for /bin/sh, in quotes",
        ),
        (
            '[hooks]\non_failure = " "',
            "on_failure of [hooks] (line 2 of FILE) is empty",
            "write a command for /bin/sh, or leave it out",
        ),
        (
            '[registries."ghcr.io"]\non_failure = "true"',
            "on_failure of ghcr.io (line 2 of FILE) belongs in the table [hooks]",
            "write hooks.on_failure",
        ),
        (
            "chunk_size = 50MiB",
            "FILE is not TOML: Expected newline or end of document after a statement (at line 1, column 16)",
            'put text in quotes, as in chunk_size = "50MiB"; pusher config --example shows a file',
        ),
    ],
)
def test_what_is_wrong_is_told_with_key_line_and_remedy(
    file: Path, text: str, message: str, hint: str
) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        _load(file, text)
    assert (caught.value.message.replace(str(file), "FILE"), caught.value.hint) == (message, hint)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("text", "place", "registry"),
    [
        ('password = "hunter2"', "password (line 1 of FILE)", "REGISTRY"),
        ('[registries."ghcr.io"]\npassword = "hunter2"', "password of ghcr.io (line 2 of FILE)", "ghcr.io"),
        ('PASSWORD = ["hunter2"]', "PASSWORD (line 1 of FILE)", "REGISTRY"),
    ],
)
def test_a_password_is_refused_and_not_shown(file: Path, text: str, place: str, registry: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        _load(file, text)
    message = caught.value.message.replace(str(file), "FILE")
    assert message == f"{place} is not allowed: secrets do not belong in this file"
    assert caught.value.hint == (
        f"remove it, and store it where Docker does with pusher login {registry}, or set PUSHER_PASSWORD"
    )


def test_a_file_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load({}, {"PUSHER_CONFIG": str(tmp_path / "nowhere.toml")})
    assert caught.value.message == f"PUSHER_CONFIG names {tmp_path}/nowhere.toml, which does not exist"
    assert caught.value.hint == (
        f"unset PUSHER_CONFIG, or write the file: pusher config --example > {tmp_path}/nowhere.toml"
    )


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load({}, {"PUSHER_CONFIG": str(tmp_path)})
    assert caught.value.message == f"{tmp_path} cannot be read: Is a directory"


def test_encodings(file: Path) -> None:
    assert load({}, _write(file, b"\xef\xbb\xbfparallel = 2\r\nlease = 9\r\n")).parallel == 2
    with pytest.raises(ConfigInvalid) as caught:
        load({}, _write(file, "parallel = 2\n# Grüße\n".encode("latin-1")))
    assert caught.value.message == f"{file}, line 2, is not UTF-8"


def test_the_example_shows_every_setting_and_is_a_valid_file(file: Path) -> None:
    text = example_file()
    assert load({}, _write(file, text)) == load({}, {}), "as it is, nothing in it counts"
    settings = re.sub(r"^#(?! )", "", text, flags=re.MULTILINE)
    read = read_file(_write(file, settings))
    assert list(read.entries) == [option.name for option in OPTIONS if option.in_file]
    assert read.registries["ghcr.io"]["chunk_size"].value == 4 * MIB


def test_hooks_have_a_table_of_their_own(file: Path) -> None:
    text = """
        hooks.timeout = "1m"
        [registries."ghcr.io"]
        username = "bob"
        """
    assert _load(file, text).hooks.timeout == 60
    hooks = _load(
        file,
        """
        parallel = 2
        [hooks]
        on_success = '''
        jq -r .destination |
          notify-send
        '''
        waiting-after = 90
        """,
    ).hooks
    assert hooks.on_success is not None
    assert hooks.on_success.splitlines() == ["jq -r .destination |", "          notify-send"]
    assert (hooks.on_failure, hooks.timeout, hooks.waiting_after) == (None, 30, 90)
    assert _load(file, "[hooks]\ntimeout = 3", PUSHER_HOOK_TIMEOUT="4s").hooks.timeout == 4


def test_names_of_registries_for_serve(file: Path) -> None:
    text = """
        [serve.registries]
        work = "registry.example.com:5000/team"
        "my.lab" = "ghcr.io"
        """
    aliases = _load(file, text).aliases
    assert {name: str(place) for name, place in aliases.items()} == {
        "work": "registry.example.com:5000/team",
        "my.lab": "ghcr.io",
    }

"""Settings: which source wins, and the exact words for nonsense."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from pusher.config import MIB, Settings, Timeouts, load, parse_size, values
from pusher.config.options import COMPRESSIONS, field_values, options_of, part, setting
from pusher.errors import ExitCode, InvalidOption


def test_defaults() -> None:
    settings = load({}, {})
    home = Path.home()
    assert settings.home == home / "xdg_state_home" / "pusher"
    assert settings.database_url == f"sqlite:///{settings.home}/jobs.db"
    assert settings.docker_config == home / ".docker" / "config.json"
    assert settings.timeouts == Timeouts()
    assert settings.chunk_size is None
    assert (settings.parallel, settings.compression_level, settings.plain_http) == (4, None, False)
    assert settings.spool == settings.home / "spool"
    assert settings == Settings(
        home=settings.home,
        database_url=settings.database_url,
        docker_config=settings.docker_config,
        auth_files=settings.auth_files,
        certs_dirs=settings.certs_dirs,
    ), "the table's defaults are those of Settings"


def test_the_environment_is_read() -> None:
    settings = load(
        {},
        {
            "PUSHER_HOME": "/var/lib/pusher",
            "PUSHER_PARALLEL": "8",
            "PUSHER_CHUNK_SIZE": "50MB",
            "PUSHER_COMPRESSION_LEVEL": "6",
            "PUSHER_SPOOL_LIMIT": "0",
            "PUSHER_CONNECT_TIMEOUT": "5",
            "PUSHER_STALL_TIMEOUT": "1.5m",
            "PUSHER_ANSWER_TIMEOUT": "90s",
            "PUSHER_COMMIT_TIMEOUT": "1h",
            "PUSHER_GIVE_UP_AFTER": "2h",
            "PUSHER_LEASE": "10",
            "PUSHER_PLAIN_HTTP": "yes",
            "PUSHER_USERNAME": "bob",
            "PUSHER_PASSWORD": "secret",
            "DOCKER_CONFIG": "/etc/docker-login",
        },
    )
    assert settings == Settings(
        home=Path("/var/lib/pusher"),
        database_url="sqlite:////var/lib/pusher/jobs.db",
        parallel=8,
        chunk_size=50_000_000,
        compression_level=6,
        spool_limit=0,
        plain_http=True,
        username="bob",
        password="secret",
        login_source="PUSHER_USERNAME",
        docker_config=Path("/etc/docker-login/config.json"),
        auth_files=settings.auth_files,
        certs_dirs=settings.certs_dirs,
        timeouts=Timeouts(connect=5, stall=90, answer=90, commit=3600),
        give_up_after=7200,
        lease=10,
    )


def test_a_flag_wins_and_no_flag_does_not() -> None:
    environ = {"PUSHER_PARALLEL": "8", "PUSHER_USERNAME": "bob", "PUSHER_PLAIN_HTTP": "true"}
    settings = load({"parallel": "2", "username": "eve", "plain_http": False, "chunk_size": None}, environ)
    assert (settings.parallel, settings.username, settings.login_source) == (2, "eve", "--username")
    assert settings.plain_http is True
    assert load({"plain_http": True}, {}).plain_http is True


def test_the_variables_of_the_old_script() -> None:
    settings = load({}, {"USERNAME_REGISTRY": "hello", "INSECURE_HTTP_PUSH": "true"})
    assert (settings.username, settings.login_source) == ("hello", "USERNAME_REGISTRY")
    assert settings.plain_http is True
    assert load({}, {"INSECURE_HTTP_PUSH": "false"}).plain_http is False
    assert load({}, {"USERNAME_REGISTRY": "a", "PUSHER_USERNAME": "b"}).username == "b"
    assert load({}, {"PUSHER_PLAIN_HTTP": "false", "INSECURE_HTTP_PUSH": "true"}).plain_http is False


def test_an_empty_variable_is_an_unset_one_but_an_empty_password_is_kept() -> None:
    settings = load(
        {}, {"PUSHER_HOME": "", "PUSHER_PARALLEL": "", "PUSHER_USERNAME": "", "PUSHER_PASSWORD": ""}
    )
    assert settings.home.name == "pusher"
    assert settings.parallel == 4
    assert settings.username is None
    assert settings.password == ""


def test_home_may_be_relative_or_below_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load({}, {"PUSHER_HOME": "state"}).home == tmp_path / "state"
    assert load({}, {"PUSHER_HOME": "~/state"}).home == Path.home() / "state"


def test_another_job_store() -> None:
    url = "postgresql://user@host/pusher"
    assert load({}, {"PUSHER_DATABASE_URL": url}).database_url == url


def test_no_secret_in_the_repr() -> None:
    assert "hunter2" not in repr(load({}, {"PUSHER_PASSWORD": "hunter2", "PUSHER_USERNAME": "bob"}))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1048576),
        ("100b", 100),
        ("1K", 1024),
        ("1k", 1024),
        ("1KiB", 1024),
        ("1KB", 1000),
        ("50MiB", 50 * 1024**2),
        ("50 MiB", 50 * 1024**2),
        ("100MB", 100_000_000),
        ("100mb", 100_000_000),
        ("1.5G", 3 * 1024**3 // 2),
        (".5G", 1024**3 // 2),
        ("0.1KB", 100),
        ("2T", 2 * 1024**4),
        ("2TB", 2 * 1000**4),
        (" 5M ", 5 * 1024**2),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "--chunk-size") == size


@pytest.mark.parametrize(
    "text", ["", "many", "-1", "1.", "1,5G", "5X", "5iB", "MB", "1e9", "5 M B", "０", "inf"]
)
def test_nonsense_sizes(text: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        parse_size(text, "--chunk-size")
    assert caught.value.message == f"--chunk-size is {text!r}, which is not a size"
    assert caught.value.hint == "write it like 50MiB, 100MB, 1.5G or 1048576 (bytes)"
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("flags", "environ", "message", "hint"),
    [
        ({"parallel": "0"}, {}, "--parallel is '0'", "write a whole number from 1 to 64"),
        ({"parallel": "4.5"}, {}, "--parallel is '4.5'", "write a whole number from 1 to 64"),
        ({}, {"PUSHER_PARALLEL": "x"}, "PUSHER_PARALLEL is 'x'", "write a whole number from 1 to 64"),
        ({"compression_level": "20"}, {}, "--compression-level is '20'", "write a whole number from 1 to 19"),
        ({"compression_level": "0"}, {}, "--compression-level is '0'", "write a whole number from 1 to 19"),
        (
            {"compression": "lzma"},
            {},
            "--compression is 'lzma'",
            "write keep, gzip, zstd, none or auto",
        ),
        (
            {"chunk_size": "999"},
            {},
            "--chunk-size is '999', which is less than 1000 bytes",
            "write 1000 or more",
        ),
        (
            {},
            {"PUSHER_SPOOL_LIMIT": "big"},
            "PUSHER_SPOOL_LIMIT is 'big', which is not a size",
            "write it like 50MiB, 100MB, 1.5G or 1048576 (bytes)",
        ),
        (
            {},
            {"PUSHER_STALL_TIMEOUT": "0"},
            "PUSHER_STALL_TIMEOUT is '0', which is not a time",
            "write seconds like 30, or 90s, 15m, 2h",
        ),
        ({}, {"PUSHER_CA_CERT": " "}, "PUSHER_CA_CERT is empty", "write a value, or leave it out"),
        (
            {},
            {"PUSHER_REGISTRY": "team"},
            (
                "PUSHER_REGISTRY: 'team' is not a registry: its first part 'team' is not a host: "
                "it has neither a dot nor a port"
            ),
            "write it like registry.example.com, localhost:5000 or registry.example.com/team",
        ),
        (
            {"insecure": ("r.example:5000", "r.example/team")},
            {},
            "--insecure is 'r.example/team', which is more than a registry",
            "write r.example",
        ),
        (
            {},
            {"PUSHER_HOME": "~nobody-of-this-name/x"},
            "PUSHER_HOME is '~nobody-of-this-name/x', and there is no such user",
            "write the whole path",
        ),
        (
            {},
            {"INSECURE_HTTP_PUSH": "maybe"},
            "INSECURE_HTTP_PUSH is 'maybe', which is neither yes nor no",
            "write true or false",
        ),
    ],
)
def test_nonsense_names_its_flag_or_variable(
    flags: dict[str, object], environ: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(InvalidOption) as caught:
        load(flags, environ)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_home_with_characters_that_mean_something_in_a_url(tmp_path: Path) -> None:
    from pusher.store.url import parse_url

    home = tmp_path / "a?b#c %41 d"
    settings = load(environ={"PUSHER_HOME": str(home)})
    assert parse_url(settings.database_url).database == str(home / "jobs.db")


def test_registries_are_named_by_their_hosts_in_one_way() -> None:
    settings = load(
        {}, {"PUSHER_INSECURE": "R.example:5000, index.docker.io ,", "PUSHER_REGISTRY": "R.example/"}
    )
    assert settings.insecure == {"r.example:5000", "docker.io"}
    assert settings.default_registry == "r.example"
    assert settings.at("r.example:5000").insecure
    assert not settings.at("r.example").insecure
    repeated = load({"insecure": ("a.example", "b.example")}, {"PUSHER_INSECURE": "c.example"})
    assert repeated.insecure == {"a.example", "b.example"}


def test_chunk_size_and_rate() -> None:
    assert load({}, {"PUSHER_CHUNK_SIZE": " Auto"}).chunk_size is None
    limit = load({"limit_rate": "2M"}, {}).limit_rate
    assert limit is not None
    assert limit.rate_at(datetime(2025, 1, 31, 12)) == 2 * MIB  # noqa: DTZ001


@pytest.mark.parametrize(
    ("flags", "environ", "text", "expected"),
    [
        ({}, {}, "compression_level = 9", ("keep", 9)),
        ({"compression": "gzip"}, {}, "compression_level = 9", ("gzip", 9)),
        ({"compression": "zstd"}, {}, "compression_level = 9", ("zstd", None)),
        ({"compression": "none"}, {}, "compression_level = 9", ("none", None)),
        ({"compression": "auto"}, {"PUSHER_COMPRESSION_LEVEL": "9"}, "", ("auto", None)),
        ({}, {"PUSHER_COMPRESSION": "gzip"}, 'compression = "zstd"\ncompression_level = 12', ("gzip", None)),
        ({}, {"PUSHER_COMPRESSION": "zstd"}, 'compression = "zstd"\ncompression_level = 12', ("zstd", 12)),
        ({}, {"PUSHER_COMPRESSION_LEVEL": "12"}, 'compression = "zstd"', ("zstd", 12)),
        ({"compression": "zstd", "compression_level": "5"}, {}, "compression_level = 9", ("zstd", 5)),
        ({"compression_level": "5"}, {"PUSHER_COMPRESSION": "zstd"}, "", ("zstd", 5)),
    ],
)
def test_a_level_is_for_the_compression_it_stands_with(
    tmp_path: Path,
    flags: dict[str, object],
    environ: dict[str, str],
    text: str,
    expected: tuple[str, int | None],
) -> None:
    (tmp_path / "pusher.toml").write_text(text)
    settings = load(flags, {**environ, "PUSHER_CONFIG": str(tmp_path / "pusher.toml")})
    assert (settings.compression, settings.compression_level) == expected


def test_every_compression_is_one_that_the_worker_knows() -> None:
    from pusher.worker.compression import COMPRESSION_NAMES

    assert set(COMPRESSIONS) == set(COMPRESSION_NAMES)


def test_the_folders_of_docker_and_podman(tmp_path: Path) -> None:
    settings = load({}, {"XDG_CONFIG_HOME": "/xdg", "XDG_RUNTIME_DIR": "/run/user/7"})
    assert settings.auth_files == (
        Path("/run/user/7/containers/auth.json"),
        Path("/xdg/containers/auth.json"),
    )
    assert [str(folder) for folder in settings.certs_dirs] == [
        "/xdg/containers/certs.d",
        "/etc/containers/certs.d",
        "/xdg/docker/certs.d",
        "/etc/docker/certs.d",
    ]
    assert load({}, {"REGISTRY_AUTH_FILE": "/a/auth.json"}).auth_files == (Path("/a/auth.json"),)
    bare = load({}, {})
    assert bare.certs_dirs[0] == Path.home() / ".config" / "containers" / "certs.d"
    assert bare.auth_files == (
        Path(f"/run/containers/{os.getuid()}/auth.json"),
        Path.home() / ".config" / "containers" / "auth.json",
    )


@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("closed", ["run", "run/containers"])
def test_a_folder_for_logins_that_is_closed_to_this_user_is_left_out(closed: str) -> None:
    program = (
        "import os, sys\n"
        "from pusher.config.credential_files import auth_files\n"
        "os.setuid(12345)\n"
        "for variable in ('XDG_RUNTIME_DIR', 'REGISTRY_AUTH_FILE'):\n"
        "    print(*auth_files({variable: sys.argv[1], 'XDG_CONFIG_HOME': '/xdg'}))\n"
    )
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # TMPDIR may be closed to other users itself
        place = Path(name)
        place.chmod(0o755)
        (place / "run" / "containers").mkdir(parents=True)

        def found() -> list[str]:
            command = [sys.executable, "-c", program, f"{place}/run"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

        assert found() == [f"{place}/run/containers/auth.json /xdg/containers/auth.json", f"{place}/run"]
        (place / closed).chmod(0o700)
        assert found() == ["/xdg/containers/auth.json", f"{place}/run"]


def test_the_text_of_docker_auth_config_is_taken_as_it_is_and_not_shown() -> None:
    settings = load({}, {"DOCKER_AUTH_CONFIG": '{"auths": {}}'})
    assert settings.docker_auth_config == '{"auths": {}}'
    assert "auths" not in repr(settings)
    assert load({}, {"DOCKER_AUTH_CONFIG": ""}).docker_auth_config is None


def test_a_setting_is_declared_once_and_found_by_everything_else() -> None:
    @dataclass(frozen=True)
    class Inner:
        pause: float = setting(values.parse_seconds, "TIME", "Wait.", "2s", name="inner_pause")

    @dataclass(frozen=True, kw_only=True)
    class Outer:
        inner: Inner = part(Inner)
        names: frozenset[str] = setting(values.parse_hosts, "HOST", "Names.")
        where: Path = setting(values.parse_path, "FOLDER", "Where.", required=True)
        word: str | None = setting(values.parse_text, "TEXT", "Secret.", is_secret=True)
        derived: int = 3

    assert [option.name for option in options_of(Outer)] == ["inner_pause", "names", "where", "word"]
    assert next(option.flag for option in options_of(Outer)) == "--inner-pause"
    assert (Inner().pause, Outer(where=Path()).names) == (2.0, frozenset())
    found = {"inner_pause": 7.0, "names": frozenset({"a"}), "where": Path("b"), "word": "hush"}
    outer = Outer(**field_values(Outer, found))
    assert outer == Outer(inner=Inner(7.0), names=frozenset({"a"}), where=Path("b"), word="hush")
    assert "hush" not in repr(outer)
    with pytest.raises(TypeError):
        Outer()

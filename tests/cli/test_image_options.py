"""The options of ``enqueue`` and ``push`` about the image; and which registry a login is for."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pusher.oci.platform import Platform
from pusher.reference import Reference
from pusher.sources.base import Choice
from pusher.store.records import JobRecord
from pusher.store.store import Store
from tests.cli.conftest import Pusher, add_job
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import DISTRIBUTION_3, SERVERLESS, FakeRegistry
from tests.support.images import make_image, sha256, write_archive
from tests.support.layouts import two_platforms
from tests.worker.origin import SOURCE, name_of, put

MIB = 1024**2
BOTH = pytest.mark.parametrize("command", ["enqueue", "push"])


@pytest.fixture
def asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What ``worker.enqueue.prepare`` is asked for; nothing is looked for, nothing is run."""
    calls: list[dict[str, Any]] = []

    @dataclass
    class Prepared:
        image: str
        destinations: list[Reference]

        def record(self, store: Store, queueing: object) -> list[JobRecord]:
            return [add_job(store, "app:1.2")]

    def prepare(store: Store, image: str, **options: Any) -> Prepared:
        calls.append(options)
        return Prepared(image, [Reference.parse("r.example/app:1")])

    def run(*arguments: object, **options: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("pusher.worker.enqueue.prepare", prepare)
    monkeypatch.setattr("pusher.worker.run.run", run)
    return calls


# --- what reaches the worker --------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--platform", "linux/arm64"], {"choice": Choice((Platform("linux", "arm64"),))}),
        (
            ["--platform", "Linux/x86_64", "--platform", "linux/arm/v7"],
            {"choice": Choice((Platform("linux", "amd64"), Platform("linux", "arm", "v7")))},
        ),
        (["--all"], {"choice": Choice(every=True)}),
        (["--skip-missing"], {"choice": Choice(skip_missing=True)}),
        (["--drop-attestations"], {"choice": Choice(drop_attestations=True)}),
        (["--allow-nondistributable"], {"choice": Choice(foreign=True)}),
        (["--split-layers", "4GiB"], {"split_layers": 4096 * MIB}),
        (["--split-layers", "1MiB"], {"split_layers": MIB}),
        (["--compression", "ZSTD"], {"compression": "zstd"}),
        (
            ["--compression", "zstd", "--compression-level", "19"],
            {"compression": "zstd", "compression_level": 19},
        ),
        # a level says nothing without the kind that it is meant for
        (["--compression-level", "9"], {"compression": "keep", "compression_level": 9}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_flag_reaches_the_worker(
    pusher: Pusher, asked: list[dict[str, Any]], command: str, flags: list[str], expected: dict[str, Any]
) -> None:
    pusher(command, "app:1.2", "--to", "r.example", *flags)
    (options,) = asked
    usual = {"choice": Choice(), "split_layers": None, "compression": None, "compression_level": None}
    assert {name: options[name] for name in usual} == usual | expected


def test_what_no_flag_says_is_left_to_the_run(
    pusher: Pusher, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHER_COMPRESSION", "zstd")
    monkeypatch.setenv("PUSHER_COMPRESSION_LEVEL", "12")
    pusher("enqueue", "app:1.2")
    pusher("enqueue", "app:1.2", "--compression", "gzip")
    pusher("enqueue", "app:1.2", "--compression-level", "7")
    choose_mode = [(options["compression"], options["compression_level"]) for options in asked]
    assert choose_mode == [(None, None), ("gzip", None), ("zstd", 7)]


@BOTH
@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (
            ["--all", "--platform", "linux/arm64"],
            "--all and --platform cannot be used together",
            "leave out one of the two",
        ),
        (
            ["--platform", "nonsense"],
            "--platform: 'nonsense' is not a platform",
            "write it like linux/arm64 or linux/arm/v7",
        ),
        (
            ["--split-layers", "5"],
            "--split-layers is '5', which is less than 1MiB",
            "write 1MiB or more",
        ),
        (
            ["--split-layers", "half"],
            "--split-layers is 'half', which is not a size",
            "write it like 50MiB, 100MB, 1.5G or 1048576 (bytes)",
        ),
        (["--compression", "lzma"], "--compression is 'lzma'", "write keep, gzip, zstd, none or auto"),
        (
            ["--compression", "none", "--compression-level", "1"],
            "compression none has no level 1",
            "leave out --compression-level",
        ),
        (
            ["--compression", "auto", "--compression-level", "3"],
            "compression auto chooses its level itself",
            "leave out --compression-level, or use --compression gzip or zstd",
        ),
        (
            ["--compression", "zstd", "--compression-level", "0"],
            "--compression-level is '0'",
            "write a whole number from 1 to 19",
        ),
        (
            ["--compression", "zstd", "--compression-level", "25"],
            "--compression-level is '25'",
            "write a whole number from 1 to 19",
        ),
        (
            ["--compression", "gzip", "--compression-level", "13"],
            "13 is not a compression level of gzip",
            "use --compression-level 1 (fastest) to 12 (smallest)",
        ),
        (
            ["--compression-level", "13"],
            "13 is not a compression level of gzip",
            "use --compression-level 1 (fastest) to 12 (smallest)",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nonsense_and_contradictions_come_before_everything_else(
    pusher: Pusher, home: Path, command: str, flags: list[str], message: str, hint: str
) -> None:
    result = pusher(command, "app:1.2", *flags)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"error: {message}\n  hint: {hint}\n"
    assert not home.exists()


# --- a real index -------------------------------------------------------------------------------------------


def test_an_index_is_enqueued_whole_and_counted_in_layers(pusher: Pusher, tmp_path: Path) -> None:
    layout, _ = two_platforms()
    folder = layout.write_folder(tmp_path / "layout")
    result = pusher("enqueue", str(folder))
    name = "registry.example.com/team/app:1.2"
    told = f"Job 1: {folder} -> {name}, 6 layers. Start it with: pusher run\n"
    assert (result.code, result.out, result.err) == (0, "1\n", told)  # 4 of the images, 2 attestations


def test_what_is_left_out_is_said(pusher: Pusher, tmp_path: Path) -> None:
    layout, root = two_platforms()
    folder = layout.write_folder(tmp_path / "layout")
    result = pusher("enqueue", f"oci:{folder}", "--platform", "linux/arm64", "--json")
    assert json.loads(result.out) == {
        "id": 1,
        "image": f"oci:{folder}",
        "destination": "registry.example.com/team/app:1.2",
        "state": "queued",
        "supersedes": [],
    }
    note, told = result.err.splitlines()
    assert note.startswith("note: only linux/arm64/v8 is pushed, and has the digest sha256:")
    assert note.endswith(f" where the whole index has {root['digest']}")
    assert "2 layers" in told
    missing = pusher("enqueue", f"oci:{folder}", "--platform", "linux/s390x", "--json")
    assert missing.code == 7
    assert json.loads(missing.out)["error"]["code"] == "image-not-found"


# --- from registry to registry ------------------------------------------------------------------------------


def _auths(registry: FakeRegistry, user: str, password: str) -> str:
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    return json.dumps({"auths": {registry.address: {"auth": login}}})


def test_stored_logins_are_for_both_sides(pusher: Pusher, monkeypatch: pytest.MonkeyPatch) -> None:
    """--username is the destination's; the source has the login that is stored for it."""
    image = make_image(3_000)
    with (
        FakeRegistry(DISTRIBUTION_3, credentials=("ann", "s0urce")) as origin,
        FakeRegistry(SERVERLESS, credentials=("bob", "hunter2")) as registry,
    ):
        put(origin, image)
        arguments = ("push", name_of(origin), "--to", f"{registry.address}/copy:1", "--progress", "none")
        monkeypatch.setenv("PUSHER_USERNAME", "bob")
        monkeypatch.setenv("PUSHER_PASSWORD", "hunter2")
        refused = pusher(*arguments)
        assert refused.code == 4
        assert f"pusher login {origin.address}" in refused.err
        monkeypatch.setenv("DOCKER_AUTH_CONFIG", _auths(origin, "ann", "s0urce"))
        result = pusher(*arguments)
        assert result.code == 0, result.err
        assert result.out == f"{registry.address}/copy@{sha256(image.manifest)}\n"
        shown = {request.headers.get("authorization") for request in origin.requests()} - {None}
        assert shown == {"Basic " + base64.b64encode(b"ann:s0urce").decode()}


def test_a_login_that_is_gone_when_the_job_is_run(pusher: Pusher, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        FakeRegistry(DISTRIBUTION_3, credentials=("ann", "s0urce")) as origin,
        FakeRegistry(SERVERLESS) as registry,
    ):
        put(origin, make_image(3_000))
        monkeypatch.setenv("DOCKER_AUTH_CONFIG", _auths(origin, "ann", "s0urce"))
        assert pusher("enqueue", name_of(origin), "--to", f"{registry.address}/copy:1").code == 0
        monkeypatch.delenv("DOCKER_AUTH_CONFIG")
        result = pusher("run", "--progress", "none")
    assert result.code == 4
    assert f"\n  hint: pusher login {origin.address}\n" in result.err


def test_enqueue_asks_for_no_password(pusher: Pusher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHER_USERNAME", "bob")
    with FakeRegistry(DISTRIBUTION_3) as origin:
        put(origin, make_image(3_000))
        result = pusher("enqueue", name_of(origin), "--to", "registry.example.com/copies/")
        assert result.code == 0, result.err
        assert f"-> registry.example.com/copies/{SOURCE}:1.2" in result.err
    assert "--username" not in pusher("enqueue", "--help").out


@BOTH
def test_what_is_refused_between_registries(pusher: Pusher, home: Path, command: str) -> None:
    image = "docker://127.0.0.1:1/team/app:1.2"  # nobody listens: nothing is asked
    result = pusher(command, image)
    assert result.code == 2
    assert result.err == (
        f"error: {image} is already in a registry, and no destination is given\n"
        f"  hint: pusher {command} {image} --to registry.example.com/team/app:1.2\n"
    )
    result = pusher(command, image, "--to", "r.example", "--split-layers", "4GiB")
    assert result.code == 7
    assert result.err == (
        f"error: the layers of {image} cannot be split on their way from registry to registry\n"
        "  hint: pull it first, and push it from there: docker pull 127.0.0.1:1/team/app:1.2\n"
    )


# --- whose password ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where images of all kinds lie, current; no engine is asked for anything."""
    layout, root = two_platforms(("filed.example/team/app:1.2",))
    layout.write_folder(tmp_path / "layout")
    layout.write_archive(tmp_path / "layout.tar")
    layout.write_dir(tmp_path / "dir", root)
    write_archive(tmp_path / "app.tar", make_image(300, names=("archived.example/app:1.2",)))
    write_archive(tmp_path / "nameless.tar", make_image(300, names=()))
    monkeypatch.chdir(tmp_path)
    engine = FakeEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(engine.folder))
    return tmp_path


@pytest.mark.parametrize(
    ("image", "to", "registry"),
    [
        ("r.example/app:1", None, "r.example"),
        ("app:1", None, "default.example:5000"),
        ("app:1", "other.example/", "other.example"),
        ("docker-daemon:r.example/app:1", None, "r.example"),
        ("podman:app:1", None, "default.example:5000"),
        ("nerdctl:r.example/app:1", None, "r.example"),
        ("docker-storage:r.example/app:1", None, "r.example"),
        ("containers-storage:[/mnt/x]r.example/app:1", None, "r.example"),
        ("docker-storage:app:1", None, "default.example:5000"),
        ("layout", "r.example/app:1", "r.example"),
        ("./layout", None, "filed.example"),
        ("oci:layout", None, "filed.example"),
        ("oci:./layout:1.2", None, "filed.example"),
        ("oci:1.2", None, "default.example:5000"),
        ("oci-archive:layout.tar", None, "filed.example"),
        ("layout.tar", None, "filed.example"),
        ("app.tar", None, "archived.example"),
        ("docker-archive:app.tar", None, "archived.example"),
        ("app.tar", "r.example", "r.example"),
        ("dir:dir", "r.example/app:1", "r.example"),
        ("docker://ghcr.io/team/app:1", "r.example", "r.example"),
    ],
)
def test_the_password_is_that_of_the_registry_that_is_pushed_to(
    pusher: Pusher,
    folder: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    image: str,
    to: str | None,
    registry: str,
) -> None:
    monkeypatch.setenv("PUSHER_REGISTRY", "default.example:5000/team")
    result = pusher("push", image, "--username", "bob", *(() if to is None else ("--to", to)))
    assert (result.code, result.out) == (4, "")
    assert result.err.startswith(
        f"error: no password for 'bob' at {registry}, and no terminal to ask for it\n"
    )
    assert not home.exists()
    assert not (folder / "bin" / "docker.log").exists()


@pytest.mark.parametrize(
    ("image", "code", "words"),
    [
        ("nameless.tar", 2, "has no name to be pushed as"),
        ("dir:dir", 2, "has no name to be pushed as"),
        ("docker://ghcr.io/team/app:1", 2, "no destination is given"),
        ("oci:./missing", 7, "missing"),
        ("missing.tar", 7, "missing.tar"),
    ],
)
def test_no_password_is_asked_for_what_cannot_be_pushed(
    pusher: Pusher, folder: Path, image: str, code: int, words: str
) -> None:
    result = pusher("push", image, "--username", "bob")
    assert (result.code, result.out) == (code, "")
    assert words in result.err.splitlines()[0]
    assert "no password" not in result.err


def test_without_a_login_no_file_is_opened_for_its_name_twice(
    pusher: Pusher, folder: Path, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def own_name(image: str) -> str:
        opened.append(image)
        return "r.example/app:1"

    monkeypatch.setattr("pusher.worker.destination.own_name", own_name)
    pusher("push", "layout.tar")
    assert (len(asked), opened) == (1, [])
    monkeypatch.setenv("PUSHER_PASSWORD", "hunter2")
    pusher("push", "layout.tar", "--username", "bob")
    assert (len(asked), opened) == (2, ["layout.tar"])

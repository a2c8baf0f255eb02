"""Hostile text in every field of images, registries, the job store and the progress; every output of it."""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from pusher.errors import PusherError
from pusher.progress.counters import Counters
from pusher.progress.json_lines import JsonLines
from pusher.progress.lines import Lines
from pusher.progress.terminal import Terminal
from pusher.store.store import Store
from tests.cli.conftest import Pusher, add_job
from tests.registry.sites import Seen, Site
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.fakeregistry.wire import Reply
from tests.support.images import Entry, entries, make_image, write_tar
from tests.support.layouts import Layout

EVIL = (
    "\x1b]0;evil\x07\x1b[31m\x9b2J\u202eevil\u2066\u200b\ufeff $(touch evil);'\"\n\rerror: evil [bold]evil[/]"
)
HALF = EVIL + "\udcff\ud83d"
IMAGE = make_image(2000, names=["app:1.2"])


def assert_harmless(shown: str) -> None:
    """What a terminal, a pager or a log gets."""
    for char in shown:
        assert char == "\n" or unicodedata.category(char)[0] != "C", ascii(shown)
    assert "\nerror: evil" not in shown
    for line in shown.split("\n"):  # what can be copied from a hint
        if "hint:" in line and "$(touch" in line:
            assert "'$(touch" in line or '"$(touch' in line or "\\" in line, line


def assert_json(out: str, *, lines: bool) -> None:
    for document in out.splitlines() if lines else [out]:
        assert document.isascii()
        json.dumps(json.loads(document), ensure_ascii=False).encode()  # no lone surrogates


def run_in_every_way(pusher: Pusher, *arguments: str) -> None:
    """A push, told in plain lines with a log of all, as JSON, and as a JSON log."""
    result = pusher("push", *arguments, "--progress", "lines", "-vv", "--give-up-after", "1s")
    assert "bug" not in result.err, result.err
    assert_harmless(result.out + result.err)
    result = pusher("push", *arguments, "--progress", "json", "--give-up-after", "1s")
    assert_json(result.out, lines=True)
    assert_harmless(result.err)
    result = pusher("push", *arguments, "--log-json", "-vv", "--give-up-after", "1s")
    assert_json(result.err, lines=True)
    result = pusher("enqueue", *arguments, "--json")
    assert_harmless(result.err)
    assert_json(result.out, lines=False)
    for command in (["status"], ["status", "--all"], ["log", "1"], ["status", "1"]):
        result = pusher(*command)
        assert_harmless(result.out + result.err)
        assert_json(pusher(*command, "--json").out, lines=False)


# --- images -----------------------------------------------------------------------------------------------


def _named_layout(folder: Path) -> list[str]:
    layout = Layout()
    for evil in (EVIL, EVIL + "2"):
        layout.add(layout.image(IMAGE, annotations={evil: evil}), evil)
    path = layout.write_folder(folder / "layout")
    return [f"oci:{path}", f"oci:{path}:{EVIL}", f"oci:{path}:nothing"]


def _platforms(folder: Path) -> list[str]:
    layout = Layout()
    children = [
        layout.image(make_image(1000, seed=n))
        | {"platform": {"os": EVIL, "architecture": EVIL, "variant": EVIL}}
        for n in (1, 2)
    ]
    layout.add(layout.index(*children, annotations={"a": EVIL}), "app:1")
    missing = layout.without(children[1])
    return [f"oci:{layout.write_folder(folder / 'all')}", f"oci:{missing.write_folder(folder / 'missing')}"]


def _media_types(folder: Path) -> list[str]:
    layout = Layout()
    config = layout.blob(IMAGE.config, EVIL)
    layout.add(layout.manifest(config, layout.blob(IMAGE.layers[0].gzip, EVIL), mediaType=EVIL), "app:1")
    other = Layout()
    plain = other.blob(IMAGE.config, "application/vnd.oci.image.config.v1+json")
    other.add(other.manifest(plain, other.blob(IMAGE.layers[0].gzip, EVIL)), "app:1")
    return [f"oci:{layout.write_folder(folder / 'a')}", f"oci:{other.write_folder(folder / 'b')}"]


def _archive_names(folder: Path) -> list[str]:
    one, other = make_image(900, names=[EVIL], seed=1), make_image(900, names=[EVIL + ":2"], seed=2)
    path = write_tar(folder / "two.tar", entries("classic", one, other))
    return [f"docker-archive:{path}", f"docker-archive:{path}:{EVIL}", f"docker-archive:{path}:none"]


def _archive_layers(folder: Path) -> list[str]:
    manifest = [{"Config": EVIL.replace("\n", ""), "RepoTags": [EVIL], "Layers": [HALF, EVIL]}]
    manifest_json = Entry("manifest.json", json.dumps(manifest).encode())
    first = write_tar(folder / "first.tar", [manifest_json])
    config = Entry(EVIL.replace("\n", ""), IMAGE.config)
    second = write_tar(folder / "second.tar", [manifest_json, config, Entry("x", b"")], tar_format=2)
    return [str(first), str(second)]


def _paths(folder: Path) -> list[str]:
    evil = folder / ("evil\x1b[31m\u202e$(touch evil)")
    evil.mkdir()
    unpacked = evil / "unpacked"
    unpacked.mkdir()
    (unpacked / "manifest.json").write_text("[]")
    two = write_tar(evil / "two.tar", entries("classic", IMAGE, make_image(900, names=["b:1"], seed=2)))
    zipped = evil / "image.zip"
    zipped.write_bytes(b"PK\x03\x04" + bytes(600))
    layout = Layout()
    layout.add(layout.image(IMAGE))
    whole = layout.write_folder(evil / "layout")
    return [
        str(unpacked),
        str(two),
        str(zipped),
        f"docker-archive:{zipped}",
        str(evil / "no.tar"),
        str(whole),
    ]


SOURCES: list[Callable[[Path], list[str]]] = [
    *(_named_layout, _platforms, _media_types, _archive_names, _archive_layers, _paths),
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__.strip("_"))
def test_images(pusher: Pusher, tmp_path: Path, source: Callable[[Path], list[str]]) -> None:
    with FakeRegistry(DISTRIBUTION_3) as registry:
        for image in source(tmp_path):
            run_in_every_way(pusher, image, "--to", f"{registry.address}/team/app:1.2")
            result = pusher("doctor", image, "--to", f"{registry.address}/team/app:1.2")
            assert_harmless(result.out + result.err)


# --- registries -------------------------------------------------------------------------------------------

_HEADER = EVIL.replace("\n", "").replace("\r", "").encode().decode("latin-1")
_ERRORS = {"errors": [{"code": EVIL, "message": HALF, "detail": {EVIL: HALF}}] * 2}
_ANSWERS: dict[str, Callable[[Seen], Reply]] = {
    "errors": lambda _: Reply(400, {"Content-Type": "application/json"}, json.dumps(_ERRORS).encode()),
    "page": lambda _: Reply(403, {"Server": _HEADER, "Via": _HEADER}, f"<title>{EVIL}</title>".encode()),
    "challenge": lambda _: Reply(401, {"WWW-Authenticate": f'Bearer realm="{_HEADER}",service="{_HEADER}"'}),
    "scheme": lambda _: Reply(401, {"WWW-Authenticate": f'{_HEADER} realm="x"'}),
    "location": lambda _: Reply(202, {"Location": f"//{_HEADER}/x", "Warning": f'299 - "{_HEADER}"'}),
    "redirect": lambda _: Reply(307, {"Location": f"https://{_HEADER}/x"}),
}


@pytest.mark.parametrize("answer", _ANSWERS)
def test_registries(pusher: Pusher, tmp_path: Path, answer: str) -> None:
    archive = write_tar(tmp_path / "app.tar", entries("classic", IMAGE))
    with Site(_ANSWERS[answer]) as site:
        to = f"{site.address}/team/app:1.2"
        result = pusher(
            "push", str(archive), "--to", to, "-vv", "--give-up-after", "1s", "--progress", "lines"
        )
        assert "bug" not in result.err, result.err
        assert_harmless(result.out + result.err)
        result = pusher("doctor", to)
        assert_harmless(result.out + result.err)
        assert_json(pusher("doctor", to, "--json").out, lines=False)
    for command in (["status"], ["log", "1"], ["status", "1"]):
        result = pusher(*command)
        assert_harmless(result.out + result.err)


# --- the job store, as somebody else may have filled it ---------------------------------------------------


@pytest.mark.parametrize("columns", ["40", "80", "250"])
def test_what_the_store_holds(
    pusher: Pusher, store: Store, home: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for state in ("failed", "paused", "queued"):
        job = add_job(store)
        store.events.add(job.id, EVIL, EVIL)
        columns_of = {"state": state, "image": EVIL, "error_message": EVIL, "error_hint": EVIL}
        if state == "failed":
            columns_of["finished_at"] = "2025-01-31 12:00:00.000000"
        engine = create_engine(f"sqlite:///{home}/jobs.db")
        with engine.begin() as connection:
            known = {row[1] for row in connection.execute(text("PRAGMA table_info(jobs)"))}
            names = sorted({*columns_of, "repository", "tag", "error_code"} & known)
            values = {name: columns_of.get(name, EVIL) for name in names}
            setting = ", ".join(f"{name} = :{name}" for name in names)
            connection.execute(text(f"UPDATE jobs SET {setting} WHERE id = :id"), {**values, "id": job.id})
        engine.dispose()
        for command in (["status"], ["status", "--all"], ["status", str(job.id)], ["log", str(job.id)]):
            result = pusher(*command)
            assert (result.code, result.err) == (0, "")
            assert_harmless(result.out)
            assert_json(pusher(*command, "--json").out, lines=False)


# --- the progress -----------------------------------------------------------------------------------------


def _tell(counters: Counters, evil: str) -> None:
    counters.job_started(1, evil, evil)
    counters.preparing(1, "sha256:" + "a" * 64, 1, 2)
    counters.waiting(evil, 90.0, evil)
    counters.note(evil)
    counters.job_ended(2, "waiting", evil)
    counters.job_ended(3, evil, evil)


@pytest.mark.parametrize("evil", [EVIL, HALF])
def test_the_progress(evil: str) -> None:
    for make in (Lines, JsonLines):
        counters, stream = Counters(), io.StringIO()
        display: Any = make(counters, stream)
        _tell(counters, evil)
        display.render()
        display.close()
        if make is JsonLines:
            assert_json(stream.getvalue(), lines=True)
        else:
            assert_harmless(stream.getvalue())


@pytest.mark.parametrize("evil", [EVIL, HALF])
def test_the_live_display(evil: str) -> None:
    counters, stream = Counters(), io.StringIO()
    display = Terminal(counters, stream)
    _tell(counters, evil)
    display.render()
    display.close()
    shown = stream.getvalue()
    shown.encode()
    for sequence in ("\x1b]0", "\x9b", "\u202e", "\u200b", "\x1b[31mevil", "\x07"):
        assert sequence not in shown


def test_every_error_quotes_harmlessly() -> None:
    error = PusherError(f"it says {HALF}", hint=f"try {HALF}")
    assert_harmless(error.message)
    assert_harmless(error.hint)

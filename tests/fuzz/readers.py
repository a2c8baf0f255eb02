"""What reads somebody else's bytes, each with inputs that are valid and the errors that it may raise."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pusher.config import load, parse_size
from pusher.config.file import read_file
from pusher.config.timetable import parse_timetable
from pusher.errors import PusherError
from pusher.oci.bounded_json import load_json
from pusher.oci.document import parse_document
from pusher.oci.manifest import diff_ids_of
from pusher.oci.platform import Platform
from pusher.reference import Reference, RegistryPath, destination
from pusher.registry.answers import read_message, refusal
from pusher.registry.auth.challenge import choose_challenge, parse_challenges
from pusher.registry.auth.credentials.authfile import AuthFile
from pusher.registry.http.answer import Answer
from pusher.registry.http.redaction import redact_headers
from pusher.registry.http.warnings import read_warnings
from pusher.registry.locations import Origin
from pusher.sources.archive.docker_archive import ArchiveSource
from pusher.sources.docker_dir import DirSource
from pusher.sources.engine.content_api import ContentStore
from pusher.sources.engine.disk.tar_split import LayerTar
from pusher.sources.engine.grpc import GrpcBroken, GrpcClient, GrpcFailed
from pusher.sources.file_range import open_buffered
from pusher.sources.oci import LayoutSource
from pusher.sources.split.plan import NoRoom, plan_layer
from pusher.sources.tar import reader
from pusher.text import printable
from tests.support import tars
from tests.support.images import entries, make_image, sha256, write_tar
from tests.support.layouts import Layout
from tests.support.storage import tar_split_entries, unpack

Read = Callable[[bytes, Path], object]
"""Reads the input; the folder is empty, and new for each reader."""


@dataclass(frozen=True)
class Reader:
    """Something under test."""

    name: str
    read: Read
    seeds: Sequence[bytes]
    may_raise: tuple[type[Exception], ...] = (PusherError,)
    cost: int = 1
    """How much slower it is than the quick ones."""


def check_error(error: Exception) -> None:
    """What it says can be shown and stored."""
    for text in (str(error), getattr(error, "hint", "")):
        text.encode()
        if isinstance(error, PusherError):
            assert all(line == printable(line) for line in text.split("\n"))


# --- text -------------------------------------------------------------------------------------------------


def _text(read: Callable[[str], object]) -> Read:
    return lambda data, _folder: read(data.decode("utf-8", "surrogateescape"))


def _header(read: Callable[[str], object]) -> Read:
    return lambda data, _folder: read(data.decode("latin-1"))


def _destination(text: str) -> None:
    name, _, to = text.partition(" ")
    found = destination(name or None, to=to or None, default="registry.example.com/team")
    assert found is None or Reference.parse(str(found)) == found


def _table(text: str) -> None:
    table = parse_timetable(text, "limit_rate")
    assert parse_timetable(str(table), "limit_rate") == table


def _answer(data: bytes, _folder: Path) -> None:
    for media_type in ("application/json", "text/html"):
        headers = {"Content-Type": media_type, "Server": data[:200].decode("latin-1")}
        answer = Answer("PUT", "https://registry.example.com/v2/a/blobs/uploads/1", 400, headers, data)
        check_error(refusal(answer, doing="taking a chunk"))
        printable_text = read_message(answer).text
        assert printable_text == printable(printable_text)


def _location(text: str) -> None:
    origin = Origin("registry.example.com", "https://registry.example.com/v2/")
    answer = Answer("POST", "https://registry.example.com/v2/a/blobs/uploads/", 202, {"Location": text})
    url = origin.resolve_location(answer)
    assert url is None or url.startswith("https://")


def _log(text: str) -> None:
    headers = {"Location": text, "WWW-Authenticate": text, "X-Other": text, "Authorization": f"Basic {text}"}
    for value in redact_headers(headers).values():
        assert value == printable(value)


def _auth(data: bytes, _folder: Path) -> None:
    file = AuthFile.parse(data, "config.json")
    for registry in ("registry.example.com", "docker.io", "localhost:5000"):
        file.credential(registry, "team/app")
        file.helper_name(registry)


def _toml(data: bytes, folder: Path) -> None:
    path = folder / "pusher.toml"
    path.write_bytes(data)
    environ = {"PUSHER_CONFIG": str(path), "HOME": str(folder)}
    read_file(environ)
    load({}, environ)


# --- documents --------------------------------------------------------------------------------------------

_IMAGE: Final = make_image(900, 1200, names=["app:1.2"])


def _layout() -> Layout:
    layout = Layout()
    layout.add(layout.index(layout.image(make_image(700, seed=3)), layout.image(_IMAGE)), "app:1.2")
    layout.add(layout.image(_IMAGE), "registry.example.com/team/other:1")
    return layout


_GRPC: Final = bytes.fromhex(
    "000006040000000000000500100000 000001010400000001 88 00000c000000000001 0000000007 1205 68656c6c6f"
    "00000c010500000001 40889acac8b21234da8f0130"
)
"""Settings, and an answer to the first call: headers, a message with five bytes, trailers."""


def _grpc(data: bytes, _folder: Path) -> None:
    class Script:
        """Plays the server."""

        def __init__(self) -> None:
            self.read_into = io.BytesIO(data).readinto

        def write(self, data: bytes) -> None:
            """Ignore it."""

    for block in ContentStore(GrpcClient(Script())).read("sha256:0"):
        assert len(block) <= len(data)


def _index(data: bytes, folder: Path) -> None:
    path = _layout().write_folder(folder / "layout")
    (path / "index.json").write_bytes(data)
    LayoutSource("oci", path, "app:1.2").resolve()


def _manifest(data: bytes, folder: Path) -> None:
    """The mutated manifest has the digest that names it: only what it says can be wrong."""
    path = _layout().write_folder(folder / "layout")
    digest = sha256(data)
    (path / "blobs/sha256" / digest.removeprefix("sha256:")).write_bytes(data)
    child = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": len(data)}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [child]}))
    LayoutSource("oci", path).resolve()


def _config(data: bytes, folder: Path) -> None:
    with suppress(ValueError):
        diff_ids_of(data)
    layout = Layout()
    config = layout.blob(data, "application/vnd.oci.image.config.v1+json")
    blob = layout.blob(_IMAGE.layers[0].gzip, "application/vnd.oci.image.layer.v1.tar+gzip")
    layout.add(layout.manifest(config, blob), "app:1")
    LayoutSource("oci", layout.write_folder(folder / "layout")).resolve()


def _dir(data: bytes, folder: Path) -> None:
    layout = Layout()
    path = layout.write_dir(folder / "dir", layout.image(_IMAGE))
    (path / "manifest.json").write_bytes(data)
    DirSource(path).resolve()


def _platform(data: bytes, _folder: Path) -> None:
    Platform.of_json(load_json(data))


# --- tars -------------------------------------------------------------------------------------------------


def _tar(data: bytes, _folder: Path) -> None:
    stream = io.BytesIO(data)
    source = reader.PipeInput(stream.read, "the pipe")
    for entry in reader.walk(source):
        if entry.is_file:
            content = open_buffered(reader.EntryStream(source, entry))
            while content.read(1 << 16):
                pass


def _archive(data: bytes, folder: Path) -> None:
    path = folder / "app.tar"
    path.write_bytes(data)
    source = ArchiveSource(path)
    image = source.resolve()
    with source.export({layer.diff_id for layer in image.layers if layer.diff_id}) as pieces:
        for piece in pieces:
            while piece.stream.read(1 << 16):
                pass


def _layer(data: bytes, _folder: Path) -> None:
    plan_layer(io.BytesIO(data).read, limit=8192, reserve=4096)


def _split(data: bytes, folder: Path) -> None:
    files = folder / "files"
    files.mkdir()
    unpack(_LAYER, files)
    (folder / "tar-split.json.gz").write_bytes(gzip.compress(data, 1))
    with LayerTar(folder / "tar-split.json.gz", files) as layer:
        for _ in range(64):
            if not layer.read(1 << 16):
                break


_LAYER: Final = _IMAGE.layers[0].tar
_SHAPES: Final = ("classic", "docker25", "containerd", "podman")


def _archives(folder: Path) -> list[bytes]:
    return [write_tar(folder / shape, entries(shape, _IMAGE)).read_bytes() for shape in _SHAPES]


def _tars() -> list[bytes]:
    members = [
        tars.folder("a"),
        tars.file("a/file", 700),
        tars.link("a/link", "a/file"),
        tars.entry("n" * 200, b"long"),
        tars.entry("größe", b"x", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.realsize": "9"}),
    ]
    return [tars.layer(*members, form=form) for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)]


_DIGESTED: Final = b"app@sha256:" + b"0" * 64
_CHALLENGE: Final = (
    b'Bearer realm="https://a.example/token?x=1",service="r",scope="repository:a:pull,push", Basic realm="x"'
)
_WARNING: Final = b'299 - "low on \\"space\\"", 299 - "another"'
_SIGNED: Final = b"https://bob:pw@s3.example.com/a?X-Signature=0123456789&digest=sha256:ab"
_PAGE: Final = b"<html><title>502 Bad Gateway</title><h1>error code: 1015</h1></html>"
_TOML: Final = b"""\
parallel = 4
limit_rate = "2M"
insecure = ["localhost:5000"]
[registries."ghcr.io"]
chunk_size = "4MiB"
"""


def readers(folder: Path) -> list[Reader]:
    """All of them; valid archives are made in ``folder``."""
    layout = _layout()
    documents = [data for data in layout.blobs.values() if b'"schemaVersion"' in data]
    bad_documents = (PusherError, ValueError)
    login = base64.b64encode(b"bob:hunter2").decode()
    auths = {"auths": {"registry.example.com": {"auth": login}, "https://index.docker.io/v1/": {}}}
    helpers = {"credsStore": "pass", "credHelpers": {"localhost:5000": "ecr-login"}}
    error = {"errors": [{"code": "DENIED", "message": "no", "detail": {"a": ["sha256:" + "0" * 64]}}]}
    split = b"".join(json.dumps(entry).encode() + b"\n" for entry in tar_split_entries(_LAYER))
    return [
        Reader("reference", _text(Reference.parse), [b"r.example:5000/team/app:1.2", _DIGESTED]),
        Reader("place", _text(RegistryPath.parse), [b"localhost:5000/team", b"registry.example.com:5000"]),
        Reader("destination", _text(_destination), [b"app:1.2 registry.example.com/team/", b"r.example/a "]),
        Reader("size", _text(lambda text: parse_size(text, "chunk_size")), [b"50MiB", b"1.5G", b".5kb"]),
        Reader("timetable", _text(_table), [b"Mon-Fri 08:00-18:00=2M,Sat-Sun=10M,off", b"512K/s"]),
        Reader("challenge", _header(lambda text: choose_challenge(parse_challenges(text))), [_CHALLENGE]),
        Reader("warnings", _header(lambda text: read_warnings({"Warning": text})), [_WARNING]),
        Reader("location", _header(_location), [b"/v2/a/blobs/uploads/1?_state=abc", _SIGNED]),
        Reader("log", _header(_log), [_CHALLENGE, _SIGNED]),
        Reader("answer", _answer, [json.dumps(error).encode(), _PAGE]),
        Reader("authfile", _auth, [json.dumps(auths | helpers, indent=1).encode()]),
        Reader("toml", _toml, [_TOML], cost=3),
        Reader("document", lambda data, _: parse_document(data), documents, bad_documents),
        Reader("platform", _platform, [b'{"os":"linux","architecture":"arm","variant":"v7"}'], bad_documents),
        Reader("index", _index, [layout.index_json], cost=8),
        Reader("manifest", _manifest, documents, cost=8),
        Reader("config", _config, [_IMAGE.config], cost=8),
        Reader("dir", _dir, [_IMAGE.manifest], cost=8),
        Reader("grpc", _grpc, [_GRPC], (GrpcBroken, GrpcFailed)),
        Reader("tar", _tar, _tars()),
        Reader("archive", _archive, _archives(folder), cost=6),
        Reader("layer", _layer, _tars(), (PusherError, NoRoom), cost=3),
        Reader("tarsplit", _split, [split], cost=6),
    ]

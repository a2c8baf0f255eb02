"""Which layers lie in the folders of a `docker save` before Docker 25."""

from __future__ import annotations

import json

import pytest

from pusher.sources.legacy_folders import LegacyFolders
from tests.support.images import Image, entries, make_image, sha256

DIFF_IDS = (
    "sha256:e3c214af6348756fbde30378d8032e47c8541f646f9e81f1346d854ebabecb9a",
    "sha256:7e943a8006c25946d26058a1f6076ea2827d4941c735067a89ee8188c31da106",
)
CHAIN_IDS = (DIFF_IDS[0], sha256(" ".join(DIFF_IDS).encode()))
IMAGE = make_image(300, 200, 100)


def description(position: int, **changes: object) -> tuple[str, bytes]:
    """A layer's folder and description as Docker writes them, in UTC unless ``changes`` say otherwise."""
    members: dict[str, object] = {"created": "1970-01-01T00:00:00Z", "container_config": {"Cmd": None}}
    if position == 1:
        members |= {"author": "Zoë", "architecture": "amd64", "os": "linux"}
    members |= changes
    parent = {} if position == 0 else {"parent": "sha256:" + description(0)[0]}
    named = {**members, **parent, "layer_id": CHAIN_IDS[position]}
    folder = sha256(_go_json(dict(sorted(named.items())))).removeprefix("sha256:")
    parent = {key: value.removeprefix("sha256:") for key, value in parent.items()}
    return folder, _go_json({"id": folder, **parent, **members, "os": "linux"})


def _go_json(value: object) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


def found(*descriptions: tuple[str, bytes]) -> list[str | None]:
    folders = LegacyFolders(DIFF_IDS)
    for folder, raw in descriptions:
        folders.read_description(folder, raw)
    return [folders.diff_id_in(folder) for folder, _ in descriptions]


def test_descriptions_that_docker_wrote() -> None:
    """Docker 20.10, of an image of `docker commit` with two layers."""
    defaults = (
        '"AttachStdin":false,"AttachStdout":{0},"AttachStderr":{0},"Tty":false,"OpenStdin":false,'
        '"StdinOnce":false,"Env":null,"Cmd":{1},"Image":"{2}","Volumes":null,"WorkingDir":"","Entrypoint":null,'
        '"OnBuild":null,"Labels":{3}'
    )
    lower = "48e6f2cd676175d3299551e1775615f58f579ebfb10dd10539f92f5338e0e14f"
    plain = '"Hostname":"","Domainname":"","User":"",' + defaults.format("false", "null", "", "null")
    upper = "cd8aef18b793953f8183a387c5c873a66c429c0b21943d3a486ecebbd6311d70"
    config = '"Hostname":"2e124cce6d57","Domainname":"","User":"",' + defaults.format(
        "true", '["/x"]', "t/import:1", '{"x":"\\u003c1\\u003e"}'
    )
    described = {
        lower: f'{{"id":"{lower}","created":"1970-01-01T00:00:00Z","container_config":{{{plain}}},'
        '"os":"linux"}',
        upper: f'{{"id":"{upper}","parent":"{lower}","created":"2026-11-28T22:39:16.179999406Z",'
        '"container":"2e124cce6d5710d331976f517299c4d192ab22b70293882815f909a39f284879",'
        f'"container_config":{{{config}}},"docker_version":"20.10.24+dfsg1","config":{{{config}}},'
        '"architecture":"amd64","os":"linux"}',
    }
    diff_ids = (
        "sha256:29caee98e5e4530c4ea6c7c08c33c036ab1b5613d84ab322d09aaaf996446a7f",
        "sha256:4fa2000f6ed4f49b3013a459689b382137c590e600dd57a788c048eae837c8cf",
    )
    folders = LegacyFolders(diff_ids)
    for folder, raw in described.items():
        folders.read_description(folder, raw.encode())
    assert [folders.diff_id_in(folder) for folder in (lower, upper)] == list(diff_ids)


def test_each_layer_is_found_by_its_description() -> None:
    assert found(description(0), description(1)) == list(DIFF_IDS)


def test_the_order_does_not_matter() -> None:
    assert found(description(1), description(0)) == list(DIFF_IDS[::-1])


@pytest.mark.parametrize(
    "changes",
    [
        {"created": "1970-01-01T01:00:00+01:00"},
        {"comment": '<b>R&D</b>\u2009"quoted\\" \\u2028'},
        {"config": {"Labels": {"a,b": '{"x":[1,2]}', "]}": ""}, "Volumes": {"/data": {}}}},
        {"Size": 12345678901234567890, "variant": "v8"},
    ],
    ids=["another time zone", "escapes", "nested", "numbers"],
)
@pytest.mark.parametrize("position", [0, 1])
def test_values_count_as_they_are_written(position: int, changes: dict[str, object]) -> None:
    assert found(description(position, **changes)) == [DIFF_IDS[position]]


def test_a_layer_that_the_image_has_twice() -> None:
    """Its second folder has a link to the first one."""
    image = Image((IMAGE.layers[0], IMAGE.layers[1], IMAGE.layers[0]))
    folders = LegacyFolders(image.diff_ids)
    seen: dict[str, str] = {}
    for entry in entries("classic", image):
        folder, _, name = entry.name.partition("/")
        if name == "json" and entry.data is not None:
            folders.read_description(folder, entry.data)
        elif name == "layer.tar":
            seen[folder] = folders.diff_id_in(folder) or ""
    assert sorted(seen.values()) == sorted(image.diff_ids)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"{}",
        b'{"id"}',
        b'{"created" : 1}',
        b'{"created":1}',
        b'{"parent":7}',
        b'{"a":"\xff"}',
        b"[" * 5000,
        b'{"a":' * 5000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_what_describes_no_layer_is_no_layer(raw: bytes) -> None:
    folder, good = description(0)
    assert found((folder, raw)) == [None]
    assert found((folder, raw), (folder, good)) == [DIFF_IDS[0]] * 2


def test_a_folder_with_another_layers_description_stays_unknown() -> None:
    folder, raw = description(0)
    assert found(("0" * 64, raw)) == [None]
    other = LegacyFolders(DIFF_IDS[1:])
    other.read_description(folder, raw)
    assert other.diff_id_in(folder) is None


def test_an_image_without_layers() -> None:
    folder, raw = description(0)
    folders = LegacyFolders(())
    folders.read_description(folder, raw)
    assert folders.diff_id_in(folder) is None

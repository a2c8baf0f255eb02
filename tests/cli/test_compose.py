"""Which images compose files build; docker compose's documentation says how they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pusher.cli.compose import read_compose
from pusher.cli.compose_variables import read_env_files
from pusher.errors import InvalidOption

COMPOSE = """
name: Shop!
services:
  api: {build: ./api, image: "${REGISTRY:-team}/api:$TAG"}
  web:
    build: {context: web}
  db: {image: "postgres:17"}
  again: {build: ., image: "team/api:${TAG:?set TAG}"}
  job:
    build: !reset null
    image: other:1
"""


def test_the_images_of_a_compose_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / ".env").write_text("TAG='7' # of the night\n")
    assert read_compose([tmp_path]) == ["team/api:7", "shop-web"]
    monkeypatch.setenv("REGISTRY", "r.example:5000/x")
    monkeypatch.setenv("TAG", "8")
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "mall")
    assert read_compose([tmp_path / "compose.yaml"]) == ["r.example:5000/x/api:8", "mall-web", "team/api:8"]


def test_a_service_has_the_build_of_the_one_that_it_extends(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "c.yml").write_text(
        "services: {base: {build: ., image: 'team/base:1'}, top: {extends: base, image: 'team/top:1'}}"
    )
    (tmp_path / "compose.yml").write_text("""
name: shop
services:
  a: {extends: {file: base/c.yml, service: top}}
  b: {extends: {service: local}, image: "team/b:1"}
  c: {extends: local, build: !reset null}
  local: {build: .}
""")
    assert read_compose([tmp_path]) == ["team/top:1", "team/b:1", "shop-local"]


def test_services_of_included_files(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".env").write_text("TAG=7\n")
    (tmp_path / "other" / "c.yml").write_text("services: {db: {build: ., image: 'db:$TAG'}, ui: {build: .}}")
    (tmp_path / "more.yml").write_text("services: {more: {build: .}}")
    (tmp_path / "compose.yml").write_text(
        "name: shop\ninclude: [other/c.yml, {path: [more.yml]}]\nservices: {web: {build: .}}"
    )
    assert read_compose([tmp_path]) == ["db:7", "shop-ui", "shop-more", "shop-web"]
    (tmp_path / "compose.yml").write_text("include: other/c.yml")
    assert read_compose([tmp_path])[0] == "db:7"


def test_an_included_file_has_the_variables_of_the_including_one(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TAG=8\nNAME=own\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".env").write_text("TAG=7\nOTHER=there\n")
    (tmp_path / "other" / "vars").write_text("OTHER=file\n")
    (tmp_path / "other" / "c.yml").write_text(
        "services: {a: {build: ., image: '$OTHER/$NAME:$TAG', extends: {file: base.yml, service: b}}}"
    )
    (tmp_path / "base.yml").write_text("services: {b: {build: {tags: ['$OTHER/base']}}}")
    (tmp_path / "over.yml").write_text("services: {a: {image: 'merged:$TAG'}}")
    compose = tmp_path / "compose.yml"
    compose.write_text("include: [{path: other/c.yml, project_directory: .}]\nservices: {}")
    with pytest.raises(InvalidOption, match=r"variable OTHER .* is not set"):
        read_compose([compose])
    compose.write_text("include: [{path: other/c.yml, project_directory: ., env_file: other/vars}]")
    assert read_compose([compose]) == ["file/own:8", "file/base"]
    compose.write_text("include: [{path: [other/c.yml, over.yml], project_directory: .}]")
    with pytest.raises(InvalidOption, match=r"OTHER/base' is not set"):
        read_compose([compose])
    (tmp_path / "base.yml").write_text("services: {b: {}}")
    assert read_compose([compose]) == ["merged:8"]


def test_files_are_merged_as_docker_compose_merges_them(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("""
services:
  web: {build: {context: ., tags: [web:1]}, image: "web:${TAG:-dev}"}
  api: {build: ., image: api}
  db: {image: "postgres:17"}
  ui: {build: {context: ., tags: [ui:1]}}
""")
    (tmp_path / "b.yml").write_text("""
name: second
services:
  web: {image: web:2, build: {tags: [web:3]}}
  api: {build: !reset null}
  db: {build: ./db}
  ui: {build: !override {context: ., tags: [ui:2]}}
---
services: {more: {build: .}}
""")
    files = [tmp_path / "a.yml", tmp_path / "b.yml"]
    assert read_compose(files) == [
        "web:2",
        "web:1",
        "web:3",
        "postgres:17",
        "second-ui",
        "ui:2",
        "second-more",
    ]
    files[0].rename(tmp_path / "docker-compose.yml")
    files[1].rename(tmp_path / "docker-compose.override.yml")
    assert "second-more" in read_compose([tmp_path])
    (tmp_path / ".env").write_text("COMPOSE_FILE=docker-compose.yml\nCOMPOSE_PROJECT_NAME=named")
    assert read_compose([tmp_path]) == ["web:dev", "web:1", "api", "named-ui", "ui:1"]


def test_services_of_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "compose.yml").write_text("""
services:
  web: {build: ., image: web}
  test: {build: ., image: test, profiles: [ci, debug]}
  tool: {build: ., image: tool, profiles: [tools]}
""")
    assert read_compose([tmp_path]) == ["web"]
    (tmp_path / ".env").write_text("COMPOSE_PROFILES=x, debug")
    assert read_compose([tmp_path]) == ["web", "test"]
    monkeypatch.setenv("COMPOSE_PROFILES", "*")
    assert read_compose([tmp_path]) == ["web", "test", "tool"]
    monkeypatch.delenv("COMPOSE_PROFILES")
    (tmp_path / ".env").unlink()
    (tmp_path / "compose.yml").write_text("services: {test: {build: ., profiles: [ci]}}")
    with pytest.raises(InvalidOption, match="in profiles that are not active: test") as caught:
        read_compose([tmp_path])
    assert "COMPOSE_PROFILES=NAME" in (caught.value.hint or "")


def test_anchors_and_values_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text("""
x-common: &common
  build: {context: ., tags: ["extra:1.10"]}
name: 2026
services:
  no: {<<: *common}
  1: {<<: *common, image: 1.10}
""")
    assert read_compose([tmp_path]) == ["2026-no", "extra:1.10", "1.10"]


def test_a_variable_that_is_not_set_is_empty_as_in_docker_compose(tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text("services: {a: {build: ., image: '${PREFIX}app:1$SUFFIX'}}")
    notes: list[str] = []
    assert read_compose([tmp_path], notes.append) == ["app:1"]
    told = "the variables PREFIX and SUFFIX in '${PREFIX}app:1$SUFFIX' are not set: the image is app:1, "
    assert notes == [f"{told}as in docker compose"]


def test_the_file_of_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "compose.yml").write_text("services: {a: {build: ., image: 'a:${TAG-none}'}}")
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfTAG=bom\r\n")
    assert read_compose([tmp_path]) == ["a:bom"]
    (tmp_path / ".env").write_bytes(b"TAG=\xff")
    with pytest.raises(InvalidOption, match=r"\.env cannot be read: it is not UTF-8 text"):
        read_compose([tmp_path])
    monkeypatch.setenv("COMPOSE_DISABLE_ENV_FILE", "1")
    assert read_compose([tmp_path]) == ["a:none"]
    (tmp_path / "one").write_text("TAG=1\n")
    (tmp_path / "two").write_text("export TAG='2'\n")
    monkeypatch.setenv("COMPOSE_ENV_FILES", f"{tmp_path}/one,{tmp_path}/two")
    assert read_compose([tmp_path]) == ["a:2"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("TAG=1 # the first", "1"),
        ("  export TAG = '1'  # the first\nX", "1"),
        ('TAG="a\nb=\\"c\\""', 'a\nb="c"'),
        ("# none\n\nTAG: 1\n", "1"),
        ("A.b-c[0]=2\nTAG=${A}x#y", "x#y"),
        ("TAG", "none"),
        ("SET\nTAG=${SET}", "here"),
        ('TAG="1" X', "1"),
    ],
)
def test_lines_of_the_file_of_variables(
    text: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET", "here")
    (tmp_path / "vars").write_text(text)
    variables = read_env_files([tmp_path / "vars"], {"SET": "here"})
    assert variables.get("TAG", "none") == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("A=1\n\n# b\nTAG!=secret", r"line 4: '!' cannot be in the name of a variable"),
        ("TAG # secret", "line 1: '#' cannot be in the name of a variable"),
        ("MY TAG=secret", "line 1: the name of a variable cannot have a space"),
        ("A='x\ny'\nsome secret words\n", "line 3: the name of a variable cannot have a space"),
        ("A=1\nTAG='secret\nB=2", "line 2: a quote is not closed"),
        ('TAG: "secret', "line 1: a quote is not closed"),
    ],
)
def test_a_line_that_docker_compose_refuses(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text("services: {a: {build: ., image: 'a:${TAG}'}}")
    (tmp_path / ".env").write_text(text)
    with pytest.raises(InvalidOption) as refused:
        read_compose([tmp_path])
    assert refused.value.message == f"the file of variables {tmp_path}/.env, {why}"
    assert "secret" not in refused.value.message


def test_a_compose_file_that_grows_when_it_is_read(tmp_path: Path) -> None:
    """Aliases of aliases are not copied."""
    lines = ["x0: &a0 {k: v}"]
    lines += [f"x{n}: &a{n} {{{', '.join(f'k{i}: *a{n - 1}' for i in range(9))}}}" for n in range(1, 30)]
    (tmp_path / "compose.yml").write_text("\n".join([*lines, "services: {a: {build: *a29, image: a}}"]))
    assert read_compose([tmp_path]) == ["a"]


@pytest.mark.parametrize(
    ("image", "meant"),
    [
        ("a:${X}", "a:x"),
        ("a:$X-1", "a:x-1"),
        ("a$$X", "a$X"),
        ("a:${NONE-b}", "a:b"),
        ("a:${EMPTY-b}", "a:"),
        ("a:${EMPTY:-${NONE:-c}}", "a:c"),
        ("a:${X:+set}${NONE+set}", "a:set"),
        ("a:${X?}", "a:x"),
        ("a:${NONE:-${EMPTY:-${NONE-d}}}-${X}", "a:d-x"),
        ("a:${X:-}${NONE-$X}", "a:xx"),
    ],
)
def test_variables_of_a_compose_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str, meant: str
) -> None:
    monkeypatch.setenv("X", "x")
    monkeypatch.setenv("EMPTY", "")
    (tmp_path / "c.yml").write_text(f"services: {{a: {{build: ., image: '{image}'}}}}")
    assert read_compose([tmp_path / "c.yml"]) == [meant]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file or directory"),
        ("services: [a, b", "cannot be used: it is not valid YAML in line 1"),
        ("services: {a: {image: x, build: !!python/object/apply:os.getcwd []}}", "not valid YAML in line 1"),
        ("- a", "cannot be used: it has no services"),
        ("services: {a: {image: x}}", "no service in the compose file "),
        ("services: {a: {build: ., image: 'x:$NONE'}}", "the variable NONE in 'x:$NONE' is not set"),
        ("services: {a: {build: ., image: '${NONE:?say which}'}}", "NONE is not set: say which"),
        ("services: {a: {build: ., image: 'x:$1'}}", "'x:$1' has no valid variable after a $"),
        ("services: {a: {build: ., image: 'x:${A'}}", "'x:${A' has no valid variable after a $"),
        ("services: {a: {build: ., image: 'x:${A B}'}}", "has no valid variable after a $"),
        ("include: [{env_file: a}]\nservices: {a: {build: .}}", "an include has no path"),
        ("include: [oci://r.example/c]\nservices: {a: {build: .}}", "cannot be read: No such file"),
        ("[" * 5000, "it is not valid YAML"),
        ("include: [./compose.yml]\nservices: {a: {build: .}}", "it includes itself"),
        ("services: {a: {extends: b}, b: {extends: a}}", "extends itself"),
        ("services: {a: {extends: gone}}", "it extends 'gone', which is not a service"),
        ("services: {a: {extends: {file: gone.yml, service: b}}}", "gone.yml cannot be read"),
    ],
)
def test_a_compose_file_that_cannot_be_used(tmp_path: Path, content: str | None, told: str) -> None:
    if content is not None:
        (tmp_path / "compose.yml").write_text(content)
    with pytest.raises(InvalidOption) as caught:
        read_compose([tmp_path / "compose.yml"])
    assert told in caught.value.message

"""Several images in one command: arguments, lists, compose files, tags; and what is printed of them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from pusher.errors import StoreUnreachable
from pusher.oci.digest import of_bytes
from pusher.store.jobs import Jobs
from pusher.store.records import JobRecord, NewJob
from tests.cli.conftest import Pusher
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import DISTRIBUTION_3, Action, FakeRegistry, Fault, On
from tests.support.fakeregistry.rules import Exchange
from tests.support.home import pushed
from tests.support.images import Image, make_image, write_archive
from tests.support.layouts import Layout
from tests.support.tokens import TokenServer, demand
from tests.support.waiting import wait_until
from tests.worker.origin import name_of, put, same


@pytest.fixture
def images(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Image]:
    """api.tar and web.tar in the working folder."""
    monkeypatch.chdir(tmp_path)
    found = {
        name: make_image(3000, names=(f"team/{name}:1.2",), seed=seed)
        for seed, name in enumerate(("api", "web"))
    }
    for name, image in found.items():
        write_archive(tmp_path / f"{name}.tar", image)
    return found


def refused(pusher: Pusher, *arguments: str) -> str:
    """The error and its hint; nothing was queued."""
    result = pusher(*arguments)
    assert (result.code, result.out) == (2, "")
    assert pusher("status", "--all", "--json").out == '{\n  "jobs": []\n}\n'
    return result.err.removeprefix("error: ").replace("\n  hint: ", " | ").rstrip("\n")


def tags(registry: FakeRegistry, repository: str) -> dict[str, str]:
    """The tags of a repository, and what they name."""
    held = registry.manifests[repository].items()
    return {name: of_bytes(raw) for name, (_, raw) in held if ":" not in name}


def references(registry: FakeRegistry, *places: str) -> str:
    lines = []
    for place in places:
        repository, _, tag = place.partition(":")
        lines.append(f"{registry.address}/{repository}@{tags(registry, repository)[tag]}\n")
    return "".join(lines)


# --- several images, places and tags ------------------------------------------------------------------------


def test_push_several(pusher: Pusher, registry: FakeRegistry, images: dict[str, Image]) -> None:
    result = pusher("push", "api.tar", "./web.tar", "--to", registry.address, "--plain-http")
    assert result.code == 0
    assert result.out == references(registry, "team/api:1.2", "team/web:1.2")
    for name, image in images.items():
        pushed(registry, f"team/{name}", "1.2", image)
    assert result.err.splitlines()[-1] == "Jobs: 2 pushed."


def test_the_registry_is_asked_while_the_job_is_recorded(
    pusher: Pusher, registry: FakeRegistry, images: dict[str, Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Jobs.add

    def add_later(jobs: Jobs, new: NewJob) -> JobRecord:
        wait_until(lambda: [record.kind for record in registry.log] == [On.PING])
        return add(jobs, new)

    monkeypatch.setattr(Jobs, "add", add_later)
    assert pusher("push", "api.tar", "--to", f"{registry.address}/api:1").code == 0
    assert [record.kind for record in registry.log].count(On.PING) == 1


def test_what_is_asked_early_has_no_login_and_its_challenge_counts(
    pusher: Pusher, registry: FakeRegistry, images: dict[str, Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHER_PASSWORD", "s3cr3t")
    with TokenServer(login=("ann", "s3cr3t")) as tokens:
        registry.faults.add(demand(tokens))
        to = f"{registry.address}/api:1"
        assert pusher("push", "api.tar", "--to", to, "--username", "ann").code == 0
        pushed(registry, "api", "1", images["api"])
        assert [asked.scopes for asked in tokens.asked] == [("repository:api:pull,push",)]
        (ping,) = registry.requests(On.PING)
        assert (ping.status, "Authorization" in ping.headers) == (401, False)


def test_a_copy_asks_both_registries_side_by_side_and_each_once(
    pusher: Pusher, registry: FakeRegistry, images: dict[str, Image]
) -> None:
    """The response of the source is kept back until the destination was asked."""
    with FakeRegistry(DISTRIBUTION_3) as origin:
        put(origin, images["api"])

        class Wait(Action):
            def before(self, exchange: Exchange) -> None:
                registry.wait_for(lambda r: r.requests(On.PING) != [])

        origin.faults.add(Fault(On.GET_MANIFEST, Wait()))
        to = f"{registry.address}/app:1"
        assert pusher("push", name_of(origin), "--to", to).code == 0
        same(origin, registry, images["api"])
        for each in (origin, registry):
            assert len(each.requests(On.PING)) == 1


def test_no_registry_is_asked_for_an_image_that_is_not_there(pusher: Pusher, registry: FakeRegistry) -> None:
    assert pusher("push", "./none.tar", "--to", f"{registry.address}/api:1").code == 7
    assert registry.log == []


def test_enqueue_several(pusher: Pusher, images: dict[str, Image]) -> None:
    result = pusher("enqueue", "api.tar", "web.tar", "--to", "r.example")
    assert (result.code, result.out) == (0, "1\n2\n")
    assert result.err.splitlines() == [
        "Job 1: api.tar -> r.example/team/api:1.2, 1 layer.",
        "Job 2: web.tar -> r.example/team/web:1.2, 1 layer.",
        "Start them with: pusher run",
    ]


def test_an_image_with_several_tags_sends_its_blobs_once(
    pusher: Pusher, registry: FakeRegistry, images: dict[str, Image]
) -> None:
    place = f"{registry.address}/team/app"
    assert (
        pusher("push", "api.tar", "--to", place, "--tag", "1.2", "--tag", "latest", "--plain-http").code == 0
    )
    pushed(registry, "team/app", "1.2", images["api"])
    assert tags(registry, "team/app")["latest"] == tags(registry, "team/app")["1.2"]
    assert len(registry.requests(On.OPEN)) == 2  # config and layer


def test_a_tag_replaces_the_tag_of_the_image_s_own_name(pusher: Pusher, images: dict[str, Image]) -> None:
    result = pusher("enqueue", "api.tar", "web.tar", "--to", "r.example", "--tag", "v3", "--json")
    told = json.loads(result.out)["jobs"]
    assert [job["destination"] for job in told] == ["r.example/team/api:v3", "r.example/team/web:v3"]


def test_a_tag_beside_a_tag(pusher: Pusher, images: dict[str, Image]) -> None:
    assert refused(pusher, "push", "api.tar", "--to", "r.example/app:1", "--tag", "2") == (
        "r.example/app:1 has a tag, and --tag 2 is another"
        " | leave out one of them: --to r.example/app --tag 2"
    )
    assert refused(pusher, "push", "api.tar", "--tag", "-2").startswith("'-2' is not a tag: ")


def test_one_image_that_is_not_there_and_nothing_is_queued(pusher: Pusher, images: dict[str, Image]) -> None:
    result = pusher("enqueue", "api.tar", "gone.tar", "--to", "r.example")
    assert (result.code, result.out) == (7, "")
    assert "gone.tar" in result.err.splitlines()[0]
    assert json.loads(pusher("status", "--json").out) == {"jobs": []}


def test_with_keep_going_the_others_are_pushed(
    pusher: Pusher, registry: FakeRegistry, images: dict[str, Image]
) -> None:
    result = pusher("push", "gone.tar", "web.tar", "--to", registry.address, "--plain-http", "--keep-going")
    assert result.code == 7
    assert result.out == references(registry, "team/web:1.2")
    assert result.err.startswith("error: ")
    assert "gone.tar" in result.err.splitlines()[0]
    end = result.err.splitlines()[-2:]
    assert end[0] == "Not pushed: 1 image of 2."
    assert end[1] == f"  gone.tar: {result.err.splitlines()[0].removeprefix('error: ')}"
    pushed(registry, "team/web", "1.2", images["web"])


def test_what_is_not_queued_with_keep_going_is_named_once_more(
    pusher: Pusher, images: dict[str, Image]
) -> None:
    result = pusher("enqueue", "gone.tar", "web.tar", "--to", "r.example", "--keep-going")
    assert (result.code, result.out) == (7, "1\n")
    assert result.err.splitlines()[-1] == "Not queued: 1 image of 2: gone.tar."
    assert result.err.count("there is no file") == 1


def test_the_result_in_json_has_the_images_that_were_not_found(
    pusher: Pusher, registry: FakeRegistry, images: dict[str, Image]
) -> None:
    to = ("--to", registry.address, "--plain-http", "--keep-going", "--progress", "json")
    for found in ((), ("web.tar",)):
        result = pusher("push", "gone.tar", *found, *to)
        told = json.loads(result.out.splitlines()[-1])
        assert (told["type"], told["exit_code"], result.code) == ("result", 7, 7)
        assert [job["state"] for job in told["jobs"]] == ["succeeded"] * len(found)
        assert [error["image"] for error in told["errors"]] == ["gone.tar"]
        assert "Nothing to push" not in result.err


def test_a_job_store_that_fails_halfway(
    pusher: Pusher, images: dict[str, Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Jobs.add

    def fail_for_web(jobs: Jobs, new: NewJob) -> JobRecord:
        if new.repository == "team/web":
            raise StoreUnreachable("the job store does not respond")
        return add(jobs, new)

    monkeypatch.setattr(Jobs, "add", fail_for_web)
    result = pusher("enqueue", "api.tar", "web.tar", "--to", "r.example")
    assert (result.code, result.out) == (8, "")
    assert result.err.splitlines()[:2] == [
        "Queued before this failed, and still queued: job 1.",
        "error: the job store does not respond",
    ]
    assert [job["id"] for job in json.loads(pusher("status", "--json").out)["jobs"]] == [1]


def test_the_same_image_twice_is_one_job(pusher: Pusher, images: dict[str, Image]) -> None:
    assert pusher("enqueue", "api.tar", "api.tar", "--to", "r.example").out == "1\n"


def test_two_images_with_one_destination(pusher: Pusher, images: dict[str, Image], tmp_path: Path) -> None:
    assert refused(pusher, "push", "api.tar", "web.tar", "--to", "r.example/team") == (
        "api.tar and web.tar both go to r.example/team:latest"
        " | with a slash at the end, images keep their names: --to r.example/team/"
    )
    (tmp_path / "images.txt").write_text("api.tar r.example/a:1\nweb.tar r.example/a:1\n")
    assert refused(pusher, "enqueue", "--from-file", "images.txt", "--keep-going").startswith(
        "images.txt, line 2: api.tar and web.tar both go to r.example/a:1 | "
    )


def test_one_image_with_one_destination_in_two_lines(
    pusher: Pusher, images: dict[str, Image], tmp_path: Path
) -> None:
    (tmp_path / "images.txt").write_text("api.tar r.example/a:1\napi.tar r.example/a:1 r.example/b:1\n")
    result = pusher("enqueue", "--from-file", "images.txt", "--json")
    told = json.loads(result.out)["jobs"]
    assert [job["destination"] for job in told] == ["r.example/a:1", "r.example/b:1"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("api.tar", "r.example/team/app:1.2"),
        ("app:1.2", "r.example/team/app:1.2"),
        ("docker-archive:./api.tar", "docker://r.example/team/app:1.2"),
        ("docker://r.example/a:1", "docker://s.example:5000/a:1"),
    ],
)
def test_a_destination_as_second_argument(
    pusher: Pusher, images: dict[str, Image], first: str, second: str
) -> None:
    where = second.removeprefix("docker://")
    assert refused(pusher, "push", first, second) == (
        f"is '{second}' a second image, or where '{first}' goes?"
        f" | give the destination with --to: pusher push {first} --to {where}"
    )


# --- a list ------------------------------------------------------------------------------------------------


def test_a_list(pusher: Pusher, images: dict[str, Image], tmp_path: Path) -> None:
    write_archive(tmp_path / "with space.tar", images["api"])
    (tmp_path / "images.txt").write_bytes(
        b"\xef\xbb\xbf# what is pushed tonight, don't edit\r\n\r\n"
        b"api.tar\r\n"
        b"  web.tar s.example/web:9 t.example/x/  # two places\n"
        b"'with space.tar' s.example/space:1\n"
    )
    result = pusher("enqueue", "--from-file", "images.txt", "--to", "r.example", "--json")
    assert [(job["image"], job["destination"]) for job in json.loads(result.out)["jobs"]] == [
        ("api.tar", "r.example/team/api:1.2"),
        ("web.tar", "s.example/web:9"),
        ("web.tar", "t.example/x/team/web:1.2"),
        ("with space.tar", "s.example/space:1"),
    ]


def test_a_list_from_standard_input(
    pusher: Pusher, images: dict[str, Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"api.tar r.example/a:1\n")))
    assert pusher("enqueue", "web.tar", "--to", "r.example/w:1", "--from-file", "-").out == "1\n2\n"
    assert pusher("enqueue", "--from-file", "-").err == "note: standard input lists no image\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"api.tar\nweb.tar 'r.example\n", "images.txt, line 2: a quote is not closed"),
        (b"api.tar\nweb.tar r.example/UPPER:1\n", "images.txt, line 2: 'r.example/UPPER:1' is not an image"),
        (b"api.tar\n--to r.example/a\n", "images.txt, line 2: '--to' is an option, and options are for the"),
        (b"\xff\xfe", "the list images.txt is not UTF-8 text"),
        (b"api.tar\rweb\0.tar\n", "images.txt, line 2: 'web\\x00.tar' is not an image"),
        ("api.tar r.example/a\u2028b".encode(), "images.txt, line 1: 'r.example/a\\u2028b' is not an image"),
    ],
)
def test_a_line_that_is_wrong_is_named(
    pusher: Pusher, images: dict[str, Image], tmp_path: Path, content: bytes, told: str
) -> None:
    (tmp_path / "images.txt").write_bytes(content)
    assert refused(pusher, "enqueue", "--from-file", "images.txt", "--to", "r.example").startswith(told)


def test_all_lines_that_are_wrong_are_named(
    pusher: Pusher, images: dict[str, Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(engine.folder))
    arguments = ("enqueue", "--from-file", "images.txt", "--to", "r.example")
    (tmp_path / "images.txt").write_text("a 'b\napi.tar\nb --tag c\n" + 'c "\n' * 20)
    assert refused(pusher, *arguments) == (
        "images.txt, line 1: a quote is not closed; "
        "images.txt, line 3: '--tag' is an option, and options are for the whole list; "
        + "".join(f"images.txt, line {number}: a quote is not closed; " for number in range(4, 12))
        + "and 12 more | write IMAGE [WHERE...] in each line"
    )
    (tmp_path / "images.txt").write_text("gone.tar\napi.tar\nno-such\nlost.tar\nweb.tar r.example/UPPER:1\n")
    result = pusher(*arguments)
    assert (result.code, result.out) == (7, "")
    assert result.err.startswith("error: images.txt, line 1: there is no file gone.tar; images.txt, line 4: ")
    assert "; images.txt, line 5: 'r.example/UPPER:1' is not an image reference" in result.err
    assert engine.calls() == [], "Docker may take minutes for each image"


def test_docker_that_does_not_respond_is_reported_once_for_all_images(
    pusher: Pusher, images: dict[str, Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(tmp_path / "bin")
    engine.fails("inspect", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.")
    monkeypatch.setenv("PATH", str(engine.folder))
    names = ("img/nope", "app:1", "docker-daemon:app:2")
    result = pusher("enqueue", *names, "api.tar", "--to", "r.example/", "--keep-going", "--json")
    assert result.code == 7
    assert [each["image"] for each in json.loads(result.out)["errors"]] == [*names]
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert errors == [
        "error: Docker does not respond: it is needed for img/nope, app:1",
        "error: Docker does not respond: it is needed for docker-daemon:app:2",
    ]
    assert result.err.count("a name that no file here has is taken for an image in Docker") == 1
    assert result.err.count("write a file as ./PATH, an image in a registry as docker://NAME") == 1
    alone = pusher("enqueue", "app:1", "--to", "r.example/")
    assert alone.err.startswith("error: Docker does not respond: it is needed for app:1\n")


def test_a_line_that_is_wrong_with_keep_going(
    pusher: Pusher, registry: FakeRegistry, images: dict[str, Image], tmp_path: Path
) -> None:
    (tmp_path / "images.txt").write_text(f"api.tar r.example/UPPER:1\nweb.tar {registry.address}/web:1\n")
    result = pusher("push", "--from-file", "images.txt", "--plain-http", "--keep-going")
    assert (result.code, result.out) == (2, references(registry, "web:1"))
    assert result.err.startswith("error: images.txt, line 1: 'r.example/UPPER:1' is not an image reference")


@pytest.mark.parametrize(
    "option",
    [("--dest-tls-verify=false",), ("--username", "bob"), ("--dest-authfile", "a"), ("--src-authfile", "a")],
)
def test_a_line_that_is_wrong_with_options_for_registries(
    pusher: Pusher,
    registry: FakeRegistry,
    images: dict[str, Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: tuple[str, ...],
) -> None:
    if option[0] == "--username":
        monkeypatch.setenv("PUSHER_PASSWORD", "secret")
    (tmp_path / "a").write_text("{}")
    wrong = ("docker://r.example/UPPER:1 r.example/a:1", "docker://-/b r.example/UPPER:2")
    (tmp_path / "images.txt").write_text(f"{wrong[0]}\nweb.tar {registry.address}/web:1\n{wrong[1]}\n")
    push = ("push", "--from-file", "images.txt", "--plain-http", *option)
    result = pusher(*push, "--keep-going")
    assert (result.code, result.out) == (2, references(registry, "web:1"))
    assert result.err.startswith("error: images.txt, line 1: 'r.example/UPPER:1' is not")
    assert "error: images.txt, line 3: " in result.err
    refusal = pusher(*push)
    assert (refusal.code, refusal.out, refusal.err.count("error: ")) == (2, "", 1)
    assert "images.txt, line 3: " in refusal.err
    (tmp_path / "images.txt").write_text("\n".join(wrong))
    result = pusher(*push, "--keep-going")
    assert (result.code, result.out) == (2, "")
    assert "error: images.txt, line 1: " in result.err
    assert "error: images.txt, line 2: " in result.err


def test_a_list_that_is_not_there_or_empty(pusher: Pusher, images: dict[str, Image], tmp_path: Path) -> None:
    assert refused(pusher, "push", "--from-file", "none.txt") == (
        "the list none.txt cannot be read: No such file or directory | check the path after --from-file"
    )
    (tmp_path / "images.txt").write_text("# none tonight\n")
    result = pusher("push", "--from-file", "images.txt")
    assert (result.code, result.out, result.err) == (0, "", "note: images.txt lists no image\n")
    assert refused(pusher, "push", "--from-file", "").startswith("the list '' cannot be read: ")


def test_standard_input_is_read_for_one_thing(pusher: Pusher, images: dict[str, Image]) -> None:
    told = refused(pusher, "push", "-", "--from-file", "-", "--to", "r.example/a:1")
    assert told.startswith("standard input cannot be both the archive and the list of images | ")
    told = refused(pusher, "push", "--from-file", "-", "--password-stdin", "--username", "bob")
    assert told.endswith(" | log in first: pusher login REGISTRY")
    assert refused(pusher, "enqueue", "-", "-").startswith("standard input is one archive")


def test_json_names_the_images_that_were_not_found(pusher: Pusher, images: dict[str, Image]) -> None:
    result = pusher("enqueue", "gone.tar", "web.tar", "--to", "r.example/team/", "--keep-going", "--json")
    printed = json.loads(result.out)
    assert [job["image"] for job in printed["jobs"]] == ["web.tar"]
    assert [(e["image"], e["error"]["code"]) for e in printed["errors"]] == [("gone.tar", "image-not-found")]
    assert result.code == printed["errors"][0]["error"]["exit_code"]


# --- a compose file ----------------------------------------------------------------------------------------


def test_a_compose_file_from_standard_input(
    pusher: Pusher, images: dict[str, Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    compose = b"services: {a: {build: ., image: ./api.tar}}"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(compose)))
    assert pusher("enqueue", "--compose", "-", "--to", "r.example").out == "1\n"
    told = refused_alone(pusher, "push", "--compose", "-", "--from-file", "-")
    assert told.startswith("standard input cannot be both the list of images and the compose file | ")


def test_a_compose_file_from_standard_input_that_builds_nothing(
    pusher: Pusher, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"services:\n  a: {image: x}\n")))
    result = pusher("enqueue", "--compose", "-")
    assert result.err.startswith("error: no service in the compose file on standard input has a build\n")


def test_push_a_compose_file(
    pusher: Pusher, registry: FakeRegistry, images: dict[str, Image], tmp_path: Path
) -> None:
    """Image names may be anything that IMAGE may be."""
    (tmp_path / "docker-compose.yml").write_text("services: {a: {build: ., image: ./api.tar}}")
    result = pusher("push", "--compose", ".", "--to", registry.address, "--plain-http", "-q")
    assert (result.code, result.err) == (0, "")
    assert result.out == references(registry, "team/api:1.2")


# --- every tag ---------------------------------------------------------------------------------------------


def test_every_tag_in_docker(
    pusher: Pusher,
    registry: FakeRegistry,
    images: dict[str, Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    docker = FakeEngine(tmp_path / "bin")
    docker.has(images["api"], tmp_path / "api.tar")
    docker.on("ls", "printf 'team/api:1\\nteam/api:2\\nteam/api:<none>\\nteam/apis:3\\n'")
    monkeypatch.setenv("PATH", str(docker.folder))
    place = f"{registry.address}/all"
    assert pusher("push", "team/api", "--all-tags", "--to", place, "--plain-http").code == 0
    assert set(tags(registry, "all")) == {"1", "2"}
    assert "image ls --format {{.Repository}}:{{.Tag}} team/api" in docker.calls()
    told = refused_alone(pusher, "push", "team/api:1", "--all-tags")
    assert told == (
        "--all-tags pushes every tag of a repository, and team/api:1 is one image"
        " | leave out the tag: docker-daemon:team/api"
    )


def test_every_image_of_an_archive_and_a_layout(
    pusher: Pusher, images: dict[str, Image], tmp_path: Path
) -> None:
    write_archive(tmp_path / "all.tar", *images.values())
    result = pusher("enqueue", "all.tar", "--all-tags", "--to", "r.example/x/", "--json")
    places = [job["destination"] for job in json.loads(result.out)["jobs"]]
    assert places == ["r.example/x/team/api:1.2", "r.example/x/team/web:1.2"]
    told = refused_alone(pusher, "push", "docker-archive:all.tar:team/api:1.2", "--all-tags")
    assert told.endswith(f" | leave out its name: docker-archive:{tmp_path}/all.tar")
    layout = Layout()
    for name, tag in (("api", "1"), ("web", "2")):
        layout.add(layout.image(images[name]), tag)
    layout.write_folder(tmp_path / "layout")
    result = pusher("enqueue", "oci:layout", "--all-tags", "--to", "r.example/y", "--json")
    assert [job["destination"] for job in json.loads(result.out)["jobs"]] == [
        "r.example/y:1",
        "r.example/y:2",
    ]


def test_every_tag_of_a_repository(pusher: Pusher, registry: FakeRegistry, images: dict[str, Image]) -> None:
    with FakeRegistry(DISTRIBUTION_3) as origin:
        for tag in ("1", "2", "3"):
            put(origin, images["api"], tag)
        image = f"docker://{origin.address}/team/app"
        result = pusher("push", image, "--all-tags", "--to", f"{registry.address}/copy", "--plain-http")
    assert result.code == 0
    assert set(tags(registry, "copy")) == {"1", "2", "3"}


def test_every_tag_of_one_image_that_is_not_there(pusher: Pusher, images: dict[str, Image]) -> None:
    result = pusher(
        "enqueue", "gone.tar", "docker-archive:api.tar", "--all-tags", "--keep-going", "--to", "r.example"
    )
    assert (result.code, result.out) == (7, "1\n")
    assert "gone.tar" in result.err.splitlines()[0]


def test_every_tag_of_what_has_none(pusher: Pusher, images: dict[str, Image]) -> None:
    assert "cannot list the images of dir:." in pusher("push", "dir:.", "--all-tags").err
    told = refused(pusher, "push", "api.tar", "--all-tags", "--tag", "x", "--to", "r.example")
    assert told == "--all-tags keeps each tag, and --tag is another | leave out one of the two"


def refused_alone(pusher: Pusher, *arguments: str) -> str:
    result = pusher(*arguments)
    assert (result.code, result.out) == (2, "")
    return result.err.removeprefix("error: ").replace("\n  hint: ", " | ").rstrip("\n")


# --- what is printed ---------------------------------------------------------------------------------------


def test_quiet_prints_digests_and_errors_alone(
    pusher: Pusher, registry: FakeRegistry, images: dict[str, Image]
) -> None:
    to = ("--to", registry.address, "--plain-http")
    result = pusher("push", "api.tar", *to, "--quiet")
    assert (result.code, result.out, result.err) == (0, references(registry, "team/api:1.2"), "")
    result = pusher("push", "gone.tar", *to, "-q")
    assert result.err.startswith("error: ")
    assert pusher("enqueue", "web.tar", *to, "-q").err == ""


def test_run_prints_a_digest_for_each_job(
    pusher: Pusher, registry: FakeRegistry, images: dict[str, Image]
) -> None:
    pusher("enqueue", "api.tar", "web.tar", "--to", registry.address)
    result = pusher("run", "--plain-http")
    assert (result.code, result.out) == (0, references(registry, "team/api:1.2", "team/web:1.2"))


@pytest.mark.parametrize("command", ["push", "run"])
def test_json_is_an_object_for_each_job(
    pusher: Pusher, registry: FakeRegistry, images: dict[str, Image], command: str
) -> None:
    named = ("api.tar", "web.tar", "--to", registry.address)
    if command == "run":
        pusher("enqueue", *named)
    result = pusher(command, *(named if command == "push" else ()), "--plain-http", "--json")
    assert result.code == 0
    told = [json.loads(line) for line in result.out.splitlines()]
    assert told == json.loads(pusher("status", "--json").out)["jobs"]
    assert [job["digest"] for job in told] == [tags(registry, f"team/{name}")["1.2"] for name in images]


def test_json_and_json_lines_are_not_mixed(pusher: Pusher, images: dict[str, Image]) -> None:
    result = pusher("push", "api.tar", "--json", "--progress", "json")
    assert result.code == 2
    assert "--json and --progress json both write to standard output" in result.err


def test_the_digest_file(
    pusher: Pusher, registry: FakeRegistry, images: dict[str, Image], tmp_path: Path
) -> None:
    to = ("--to", registry.address, "--plain-http", "--digest-file", "digests")
    assert pusher("push", "api.tar", *to).code == 0
    api = tags(registry, "team/api")["1.2"]
    assert (tmp_path / "digests").read_text() == f"{api}\n"
    assert pusher("push", "api.tar", "web.tar", *to).code == 0
    web = tags(registry, "team/web")["1.2"]
    assert (tmp_path / "digests").read_text() == (
        f"{api} {registry.address}/team/api:1.2\n{web} {registry.address}/team/web:1.2\n"
    )


def test_a_digest_file_that_cannot_be_written_is_refused_first(
    pusher: Pusher, images: dict[str, Image]
) -> None:
    told = refused(pusher, "push", "api.tar", "--to", "r.example", "--digest-file", "none/digests")
    assert told.startswith("--digest-file: none/digests cannot be written | ")

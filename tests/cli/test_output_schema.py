"""What commands print as JSON is what the schema says, without a field that it does not name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pusher.help.topics import read_schema
from tests.cli.conftest import Pusher
from tests.support.fakeregistry import Answer, FakeRegistry, Fault, On
from tests.support.images import make_image, write_archive

SCHEMA = json.loads(read_schema())


def strict(schema: Any) -> Any:
    """The schema, with no other fields than those that it names."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(part) for name, part in schema.items()}
    return {"additionalProperties": False, **closed} if schema.get("type") == "object" else closed


STRICT = strict(SCHEMA)


def check(name: str, value: object) -> None:
    """Fail unless the value is what the schema calls ``name``."""
    validator = Draft202012Validator({**STRICT, "$ref": f"#/$defs/{name}"})
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)] == []


@pytest.fixture
def archive(tmp_path: Path) -> str:
    return str(write_archive(tmp_path / "app.tar", make_image(300, 40_000, names=("team/app:1",))))


def printed(pusher: Pusher, *arguments: str) -> Any:
    return json.loads(pusher(*arguments).out)


def lines(pusher: Pusher, *arguments: str) -> list[Any]:
    return [json.loads(line) for line in pusher(*arguments).out.splitlines()]


def test_the_schema_is_one_and_can_be_printed(pusher: Pusher) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(pusher("help", "schema").out) == SCHEMA


def test_jobs(pusher: Pusher, registry: FakeRegistry, archive: str) -> None:
    to = ("--to", registry.address, "--plain-http")
    check("enqueued", printed(pusher, "enqueue", archive, *to, "--json", "--label", "a=b"))
    check("enqueued-jobs", printed(pusher, "enqueue", archive, *to, "--tag", "1", "--tag", "2", "--json"))
    check("enqueued-jobs", printed(pusher, "enqueue", archive, "gone.tar", *to, "--keep-going", "--json"))
    for command in (("enqueue", archive, *to), ("push", archive, *to)):
        for plan in lines(pusher, *command, "--dry-run", "--json"):
            check("plan", plan)
    check("status", printed(pusher, "status", "--json"))
    for job in lines(pusher, "push", archive, *to, "--json"):
        check("job", job)
    for job in lines(pusher, "run", "--plain-http", "--json"):
        check("job", job)
    for job in lines(pusher, "wait", "1", "2", "--json"):
        check("job", job)
    check("status", printed(pusher, "status", "--all", "--json"))
    check("workers", printed(pusher, "workers", "--json"))
    check("status", printed(pusher, "status", "--state", "succeeded", "--json"))
    check("log", printed(pusher, "log", "2", "--json"))
    for event in lines(pusher, "log", "2", "--follow", "--json"):
        check("event", event)
    check("registries", printed(pusher, "registry", "--json"))


def test_a_job_that_fails(pusher: Pusher, registry: FakeRegistry, archive: str) -> None:
    denied = Answer(403, body=b'{"errors": [{"code": "DENIED"}]}')
    registry.faults.add(Fault(On.PUT_MANIFEST, denied, times=None))
    (job,) = lines(pusher, "push", archive, "--to", registry.address, "--plain-http", "--json")
    check("job", job)
    assert job["error"]["code"] == "permission-denied"
    assert lines(pusher, "wait", "1", "--json") == [job]


def test_progress(pusher: Pusher, registry: FakeRegistry, archive: str) -> None:
    to = ("--to", registry.address, "--plain-http")
    told = lines(pusher, "push", archive, *to, "--progress", "json")
    for line in told:
        check("progress", line)
    kinds = {line["type"] for line in told}
    assert kinds >= {"job-started", "job-ended", "layer-preparing", "layer-prepared", "blob-done", "result"}
    failed = lines(pusher, "push", "none.tar", *to, "--progress", "json")
    check("progress", failed[-1])
    partly = lines(pusher, "push", "none.tar", archive, *to, "--keep-going", "--progress", "json")
    check("progress", partly[-1])


def test_commands_without_jobs(pusher: Pusher, registry: FakeRegistry, home: Path) -> None:
    check("config", printed(pusher, "config", "--json"))
    check("errors", printed(pusher, "errors", "--json"))
    check("doctor", printed(pusher, "doctor", registry.address, "--plain-http", "--json"))
    check("failure", printed(pusher, "status", "7", "--json"))
    check("registries", printed(pusher, "registry", "--json"))

"""Data says what it is.

What a job stores of its source is JSON throughout, without JSON or lists of words in strings, and its keys
say whether a folder or a digest is meant.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_JOBS = sa.table("jobs", sa.column("id"), sa.column("source", sa.JSON))
_BATCH = 1000
_DAEMONS = {
    "docker-daemon": ("DOCKER_HOST", "DOCKER_CONTEXT"),
    "podman": ("CONTAINER_HOST",),
    "nerdctl": ("CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE", "NERDCTL_TOML"),
}


def upgrade() -> None:
    connection = op.get_bind()
    last = -1
    while rows := connection.execute(
        sa.select(_JOBS).where(_JOBS.c.id > last).order_by(_JOBS.c.id).limit(_BATCH)
    ).all():
        for row in rows:
            with suppress(KeyError, TypeError, ValueError):  # damaged: reading it will say so, if it is run
                change = sa.update(_JOBS).where(_JOBS.c.id == row.id)
                connection.execute(change.values(source=_pin(row.source)))
        last = rows[-1].id


def _pin(old: Mapping[str, Any]) -> dict[str, Any]:
    kind = old["kind"]
    new: dict[str, Any] = {"kind": kind}
    if kind == "split":
        plans = [
            {
                "name": name,
                "diff_id": diff_id,
                "size": size,
                "reserve": reserve,
                "parts": [{"diff_id": part, "size": count} for part, count in parts],
                "late": late,
            }
            for name, diff_id, size, reserve, parts, late in json.loads(old["plan"])
        ]
        inner = _pin(json.loads(old["inner"]))
        return {**new, "inner": inner, "size": old["size"], "config": old["config"], "plans": plans}
    if kind == "podman-list":
        new |= {key: old[key] for key in ("name", "root", "driver")}
        documents, configs = json.loads(old["documents"]), json.loads(old["configs"])
        return {**new, "with_save": bool(old["save"]), "documents": documents, "configs": configs}
    if kind in ("docker-storage", "containers-storage"):
        return {**new, **{key: old[key] for key in ("name", "root", "driver", "id")}}
    choice = {"platforms": [], "absent": [], **json.loads(old.get("choice") or "{}")}
    new |= {"choice": choice, "root_digest": old.get("root")}
    if kind in _DAEMONS:
        return {
            **new,
            "name": old["name"],
            "id": old["id"],
            "diff_ids": old["layers"].split(),
            "daemon": {variable: old.get(variable) for variable in _DAEMONS[kind]},
            "documents": json.loads(old.get("documents") or "[]"),
            "storage": old.get("storage"),
            "driver": old.get("driver"),
        }
    if kind == "docker-archive":
        new |= {"config_digest": old["config"], "unpacked": json.loads(old.get("unpacked") or "[]")}
        return {**new, **{key: old.get(key) for key in ("path", "name", "size", "mtime_ns")}}
    if kind == "containerd-store":
        return {**new, "root": old["path"], "name": old["name"]}
    if kind == "docker":
        return {**new, "registry": old["registry"], "repository": old["repository"]}
    if kind == "dir":
        return {**new, "path": old["path"]}
    return {**new, "path": old["path"], "name": old["name"]}  # oci, oci-archive

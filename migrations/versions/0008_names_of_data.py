"""Data says what it is.

What a job stores of its source and of its documents is JSON throughout, without JSON or lists of words in
strings, and keys say whether a folder or a digest is meant. Manifests, indexes and configs are documents.
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

_JOBS = sa.table(
    "jobs",
    sa.column("id"),
    sa.column("source", sa.JSON),
    sa.column("options", sa.JSON),
    sa.column("documents", sa.JSON),
)
_BATCH = 1000
_DAEMONS = {
    "docker-daemon": ("DOCKER_HOST", "DOCKER_CONTEXT"),
    "podman": ("CONTAINER_HOST",),
    "nerdctl": ("CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE", "NERDCTL_TOML"),
}


def upgrade() -> None:
    _rewrite_jobs()
    op.create_table(
        "documents",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_documents")),
    )
    op.execute("INSERT INTO documents SELECT digest, content, used_at FROM configs")
    op.drop_table("configs")


def _rewrite_jobs() -> None:
    op.add_column("jobs", sa.Column("documents", sa.JSON(), nullable=False, server_default="[]"))
    connection = op.get_bind()
    last = -1
    while rows := connection.execute(
        sa.select(_JOBS).where(_JOBS.c.id > last).order_by(_JOBS.c.id).limit(_BATCH)
    ).all():
        for row in rows:
            # what is damaged stays as it is: reading it will say so
            change = sa.update(_JOBS).where(_JOBS.c.id == row.id)
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                connection.execute(change.values(source=_pin(row.source)))
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                documents, options = _documents(row.options)
                connection.execute(change.values(documents=documents, options=options))
        last = rows[-1].id


def _documents(options: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The documents that options named, and the other options."""
    new = dict(options)
    final, drafts = str(new.pop("documents", None) or ""), str(new.pop("drafts", None) or "{}")
    documents: list[dict[str, Any]] = [{"digest": digest, "diff_ids": None} for digest in final.split()]
    documents += [{"digest": digest, "diff_ids": diff_ids} for digest, diff_ids in json.loads(drafts).items()]
    return documents, new


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

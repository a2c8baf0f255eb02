"""Data says what it is.

What a job stores of its source and of its documents is JSON throughout, without JSON or lists of words in
strings, and keys say whether a folder or a digest is meant. Manifests, indexes and configs are documents. A
blob of a job has a kind, and a diff ID only where it is a layer; what is known of layers' blobs is called so.
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
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_EVERYTHING = {
    "platforms": [],
    "every": False,
    "skip_missing": False,
    "drop_attestations": False,
    "foreign": False,
    "follow_links": False,
    "absent": [],
}
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
    _make_known_blobs()
    _make_job_blobs()


def _make_known_blobs() -> None:
    op.create_table(
        "known_blobs",
        sa.Column("diff_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("compression", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("uncompressed_size", sa.BigInteger()),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("diff_id", "digest", name=op.f("pk_known_blobs")),
    )
    op.execute(
        "INSERT INTO known_blobs SELECT diff_id, digest, compression, size, uncompressed_size, media_type, "
        "created_at FROM blob_memos"
    )
    op.drop_table("blob_memos")
    op.create_index("ix_known_blobs_digest", "known_blobs", ["digest"])


def _make_job_blobs() -> None:
    op.create_table(
        "job_blobs",
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("diff_id", sa.Text()),
        sa.Column("media_type", sa.Text()),
        sa.Column("digest", sa.Text()),
        sa.Column("size", sa.BigInteger()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("bytes_sent", sa.BigInteger(), nullable=False),
        sa.Column("bytes_wasted", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('exists', 'mounted', 'pending', 'ready', 'uploaded')", name=op.f("ck_job_blobs_state")
        ),
        sa.CheckConstraint("state = 'pending' OR digest IS NOT NULL", name=op.f("ck_job_blobs_digest")),
        sa.CheckConstraint("state <> 'ready' OR size IS NOT NULL", name=op.f("ck_job_blobs_size")),
        sa.CheckConstraint("kind IN ('config', 'layer', 'other')", name=op.f("ck_job_blobs_kind")),
        sa.CheckConstraint("(kind = 'layer') = (diff_id IS NOT NULL)", name=op.f("ck_job_blobs_diff_id")),
        sa.CheckConstraint("kind = 'layer' OR digest IS NOT NULL", name=op.f("ck_job_blobs_known")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_blobs_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "position", name=op.f("pk_job_blobs")),
    )
    # A config, and what is not known to be a layer, had its own digest for a diff ID. So has a layer that is
    # not compressed, and there it is one.
    op.execute("""
        INSERT INTO job_blobs
        SELECT job_id, position + 1, kind, CASE WHEN kind = 'layer' THEN diff_id END, media_type,
            CASE WHEN kind = 'layer' THEN digest ELSE diff_id END, size, state, bytes_sent,
            COALESCE(bytes_wasted, 0)
        FROM (
            SELECT layers.*, CASE
                WHEN position < 0 THEN 'config'
                WHEN digest = diff_id AND COALESCE(media_type, '') NOT IN (
                    'application/vnd.oci.image.layer.v1.tar', 'application/vnd.docker.image.rootfs.diff.tar'
                ) THEN 'other'
                ELSE 'layer' END AS kind
            FROM layers
        ) AS old
    """)
    op.drop_table("layers")
    op.create_index("ix_job_blobs_digest", "job_blobs", ["digest"])
    op.create_index("ix_job_blobs_diff_id", "job_blobs", ["diff_id"])


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
    choice = {**_EVERYTHING, **json.loads(old.get("choice") or "{}")}
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

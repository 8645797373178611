"""The catalog's tables. Numbers come from `sequences`, so that none is ever used again, whatever is
deleted; the numbers of one kind may be shared by several tables. Paths compare by code point, as all
text does in SQLite: sorting and ranges rest on it.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()


schema = sa.Table("schema", metadata, sa.Column("version", sa.Integer, primary_key=True))

sequences = sa.Table(
    "sequences",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("last", sa.Integer, nullable=False),
)

storages = sa.Table(
    "storages",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("public", sa.Boolean, nullable=False),
    sa.Column("archive", sa.Boolean, nullable=False),
    sa.Column("capacity", sa.Integer),
    sa.Column("created_ms", sa.Integer, nullable=False),
    sa.Column("scanned_ms", sa.Integer),
    sa.Column("metadata", sa.JSON, nullable=False),
)

methods = sa.Table(
    "methods",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column(
        "storage_n", sa.Integer, sa.ForeignKey("storages.n", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("read", sa.Boolean, nullable=False),
    sa.Column("write", sa.Boolean, nullable=False),
    sa.Column("browse", sa.Boolean, nullable=False),
    sa.Column("bandwidth", sa.Integer),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("storage_n", sa.Integer, sa.ForeignKey("storages.n", ondelete="CASCADE"), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("folded", sa.Text, nullable=False),  # the path, case-folded
    sa.Column("parent", sa.Text, nullable=False),  # all segments but the last
    sa.Column("name", sa.Text, nullable=False),  # the last segment
    sa.Column("extension", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("sha1", sa.Text),
    sa.Column("sha256", sa.Text),
    sa.Column("mtime_ns", sa.Integer),
    sa.Column("timestamp_ms", sa.Integer, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("created_ms", sa.Integer, nullable=False),
    sa.Column("changed_ms", sa.Integer, nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
)

# A File that waits for its deletion no longer holds its path.
_LIVE = sa.text("state <> 'TO_BE_DELETED'")
sa.Index(
    "files_live_path",
    files.c.storage_n,
    files.c.path,
    unique=True,
    sqlite_where=_LIVE,
)
sa.Index("files_path", files.c.path, files.c.storage_n)
sa.Index("files_folded", files.c.folded)
sa.Index("files_parent", files.c.storage_n, files.c.parent, files.c.n)
sa.Index("files_storage", files.c.storage_n, files.c.n)
sa.Index("files_storage_size", files.c.storage_n, files.c.size, files.c.n)
sa.Index("files_storage_time", files.c.storage_n, files.c.timestamp_ms, files.c.n)
sa.Index("files_size", files.c.size, files.c.n)
sa.Index("files_time", files.c.timestamp_ms, files.c.n)
sa.Index("files_name", files.c.name, files.c.n)
sa.Index("files_extension", files.c.extension, files.c.n)
sa.Index("files_state", files.c.state, files.c.n)
sa.Index("files_sha1", files.c.sha1)
sa.Index("files_sha256", files.c.sha256, files.c.path)
sa.Index("files_children", files.c.storage_n, files.c.parent, files.c.name, files.c.n)

# Directories above live Files, and one root ("" below no parent) for each storage. Their numbers are
# of the same kind as those of Files.
folders = sa.Table(
    "folders",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("storage_n", sa.Integer, sa.ForeignKey("storages.n", ondelete="CASCADE"), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("parent", sa.Text),
    sa.Column("name", sa.Text, nullable=False),
    sa.UniqueConstraint("storage_n", "path"),
)
sa.Index("folders_children", folders.c.storage_n, folders.c.parent, folders.c.name, folders.c.n)

# What is about to be renamed into place: read at start, to finish or to undo what a crash cut short.
publications = sa.Table(
    "publications",
    metadata,
    sa.Column("storage_n", sa.Integer, sa.ForeignKey("storages.n", ondelete="CASCADE"), primary_key=True),
    sa.Column("temporary", sa.Text, primary_key=True),
    sa.Column("file", sa.JSON, nullable=False),
)

users = sa.Table(
    "users",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("password", sa.Text, nullable=False),  # scrypt, see services/passwords.py
    sa.Column("admin", sa.Boolean, nullable=False),
    sa.Column("write", sa.Boolean, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("groups", sa.JSON, nullable=False),
    sa.Column("created_ms", sa.Integer, nullable=False),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("user_n", sa.Integer, sa.ForeignKey("users.n", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False, unique=True),
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("scopes", sa.JSON(none_as_null=True)),
    sa.Column("created_ms", sa.Integer, nullable=False),
    sa.Column("expires_ms", sa.Integer),
    sa.Column("used_ms", sa.Integer),
    sa.Column("refresh_ms", sa.Integer),  # good for so long after each use; null: expires when it does
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("user", sa.Text, nullable=False, index=True),
    sa.Column("created_ms", sa.Integer, nullable=False),
    sa.Column("started_ms", sa.Integer),
    sa.Column("finished_ms", sa.Integer),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("steps", sa.JSON, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("total", sa.Integer),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("lease_owner", sa.Text),
    sa.Column("lease_until_ms", sa.Integer),
    sa.Column("not_before_ms", sa.Integer),
    sa.Column("error", sa.Text),
    sa.Column("waiting", sa.Text),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("input", sa.JSON, nullable=False),
)
sa.Index("jobs_queue", jobs.c.state, jobs.c.priority, jobs.c.n)

# Uploads that arrive in chunks: one row a transfer, one a chunk that arrived whole.
transfers = sa.Table(
    "transfers",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("user", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("storage_n", sa.Integer, sa.ForeignKey("storages.n", ondelete="CASCADE"), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("temporary", sa.Text, nullable=False),
    sa.Column("touched_ms", sa.Integer, nullable=False, index=True),
    sa.Column("file_n", sa.Integer),  # set when the transfer is complete
    sa.UniqueConstraint("user", "name", "storage_n", "path"),
)

chunks = sa.Table(
    "chunks",
    metadata,
    sa.Column("transfer_n", sa.Integer, sa.ForeignKey("transfers.n", ondelete="CASCADE"), primary_key=True),
    sa.Column("first", sa.Integer, primary_key=True),
    sa.Column("last", sa.Integer, primary_key=True),  # one past the end
)

# Tasks: what is to be done again and again; each run is a job. `run_n`: the last run's job.
tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, nullable=False, index=True),
    sa.Column("user", sa.Text, nullable=False, index=True),
    sa.Column("modified_by", sa.Text, nullable=False),
    sa.Column("created_ms", sa.Integer, nullable=False),
    sa.Column("modified_ms", sa.Integer, nullable=False),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("run_n", sa.Integer),
    sa.Column("deleting", sa.Boolean, nullable=False),
)

task_ends = sa.Table(
    "task_ends",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("task_n", sa.Integer, sa.ForeignKey("tasks.n", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),  # source, destination
    sa.Column("end", sa.JSON, nullable=False),
)

# Runs outlive their tasks: `fields` is the task as it was.
task_runs = sa.Table(
    "task_runs",
    metadata,
    sa.Column("job_n", sa.Integer, sa.ForeignKey("jobs.n", ondelete="CASCADE"), primary_key=True),
    sa.Column("task_n", sa.Integer, nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("files", sa.Integer, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("ended", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
)

task_files = sa.Table(
    "task_files",
    metadata,
    sa.Column("job_n", sa.Integer, sa.ForeignKey("jobs.n", ondelete="CASCADE"), primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True),
    sa.Column("file_n", sa.Integer, nullable=False),
    sa.Column("storage_n", sa.Integer, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("target_n", sa.Integer),
    sa.Column("target", sa.Text),
    sa.Column("result", sa.Text, nullable=False),
    sa.Column("message", sa.Text),
)

projects = sa.Table(
    "projects",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("storage_n", sa.Integer, sa.ForeignKey("storages.n", ondelete="CASCADE"), nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("access", sa.JSON, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("fields", sa.JSON, nullable=False),
    sa.Column("created_ms", sa.Integer, nullable=False),
    sa.Column("updated_ms", sa.Integer, nullable=False),
    sa.UniqueConstraint("storage_n", "id"),
)

# `status`, `error`: of the last worker task, once its record is gone. `tasks_after`: number of the last
# job that no longer counts, because an upload came after it.
assets = sa.Table(
    "assets",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("project_n", sa.Integer, sa.ForeignKey("projects.n", ondelete="CASCADE"), nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("history", sa.JSON, nullable=False),
    sa.Column("created_ms", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("tasks_after", sa.Integer, nullable=False),
    sa.UniqueConstraint("project_n", "id"),
)

asset_tags = sa.Table(
    "asset_tags",
    metadata,
    sa.Column("asset_n", sa.Integer, sa.ForeignKey("assets.n", ondelete="CASCADE"), primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True, index=True),
)

versions = sa.Table(
    "versions",
    metadata,
    sa.Column("asset_n", sa.Integer, sa.ForeignKey("assets.n", ondelete="CASCADE"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("created_ms", sa.Integer, nullable=False),
    sa.Column("file_n", sa.Integer),  # what was uploaded
    sa.Column("index_path", sa.Text),
)

objects = sa.Table(
    "objects",
    metadata,
    sa.Column("project_n", sa.Integer, sa.ForeignKey("projects.n", ondelete="CASCADE"), primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("file_n", sa.Integer, nullable=False),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("extensions", sa.JSON, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("parameters", sa.JSON(none_as_null=True)),
    sa.Column("docs", sa.Text, nullable=False),
    sa.Column("token_n", sa.Integer, index=True),
    sa.Column("seen_ms", sa.Integer, nullable=False),
)

# What a worker's job needs beyond its row in `jobs`; it outlives its asset.
worker_tasks = sa.Table(
    "worker_tasks",
    metadata,
    sa.Column("job_n", sa.Integer, sa.ForeignKey("jobs.n", ondelete="CASCADE"), primary_key=True),
    sa.Column("storage_n", sa.Integer, nullable=False),
    sa.Column("project_n", sa.Integer, nullable=False, index=True),
    sa.Column("project_id", sa.Text, nullable=False),
    sa.Column("asset_n", sa.Integer, nullable=False),
    sa.Column("asset_id", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("file_n", sa.Integer, nullable=False),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("extension", sa.Text, nullable=False),
    sa.Column("worker_type", sa.Text, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("lease_id", sa.Text, nullable=False),
    sa.Column("progress", sa.Float, nullable=False),
    sa.Column("queued_ms", sa.Integer, nullable=False),
)
sa.Index("worker_tasks_asset", worker_tasks.c.asset_n, worker_tasks.c.version, worker_tasks.c.job_n)
sa.Index("worker_tasks_queue", worker_tasks.c.worker_type, worker_tasks.c.priority, worker_tasks.c.job_n)

# What a worker has produced and not yet published: hidden temporary files, and where they will go.
worker_outputs = sa.Table(
    "worker_outputs",
    metadata,
    sa.Column("job_n", sa.Integer, sa.ForeignKey("jobs.n", ondelete="CASCADE"), primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("lease_id", sa.Text, nullable=False),
    sa.Column("storage_n", sa.Integer, nullable=False),
    sa.Column("temporary", sa.Text, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("sha1", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
)

"""The search index: entries of the catalog, kept true in the transaction that changes a File.

    files row changes → trigger notes it in `search_dirty` → `settle`, before the commit, brings the
    entries, their locations, words and folders in line

The triggers see every change, whoever makes it, cascades included; so no caller can forget the index,
and nobody ever sees a File without its entry or the reverse.

An *entry* is Files of equal SHA-256, size and path on different storages; a File without digest is an
entry of its own. Its number is that of its primary copy, the lowest. Its *locations* are all storages
with a copy: Files of equal digest and size; of size 0, and of contents that lie at more than CROWD
paths, only those of equal path, so that one change never touches an unbounded number of entries.
"""

# ruff: noqa: S608  (the f-strings below join constants of this file; all values are bound)

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalog import summaries
from origin.core.words import CACHED_WORDS, extension_word, volume_word, words

CROWD = 100

_READABLE = "('CLOSED', 'BEING_READ', 'ARCHIVED')"

_SCHEMA = (
    *summaries.SCHEMA,
    """
    CREATE TABLE IF NOT EXISTS entries (
        id INTEGER PRIMARY KEY,
        storage_n INTEGER NOT NULL,
        size INTEGER NOT NULL,
        modified_ms INTEGER NOT NULL,
        cached_ms INTEGER,
        extension TEXT NOT NULL,
        base TEXT NOT NULL,
        path TEXT NOT NULL,
        sha256 TEXT,
        sha1 TEXT
    )""",
    "CREATE INDEX IF NOT EXISTS entries_path ON entries (storage_n, path, id)",
    "CREATE INDEX IF NOT EXISTS entries_base ON entries (base, id)",
    "CREATE INDEX IF NOT EXISTS entries_size ON entries (size, id)",
    "CREATE INDEX IF NOT EXISTS entries_modified ON entries (modified_ms, id, size)",
    "CREATE INDEX IF NOT EXISTS entries_cached ON entries (cached_ms, size)",
    "CREATE INDEX IF NOT EXISTS entries_extension ON entries (extension, size)",
    "CREATE INDEX IF NOT EXISTS entries_content ON entries (sha256, path, size)",
    "CREATE INDEX IF NOT EXISTS entries_sha1 ON entries (sha1, id) WHERE sha1 IS NOT NULL",
    """
    CREATE TABLE IF NOT EXISTS entry_volumes (
        id INTEGER NOT NULL,
        storage_n INTEGER NOT NULL,
        path TEXT NOT NULL,
        size INTEGER NOT NULL,
        file_n INTEGER NOT NULL,
        primary_n INTEGER NOT NULL,
        modified_ms INTEGER NOT NULL,
        base TEXT NOT NULL,
        PRIMARY KEY (id, storage_n)
    ) WITHOUT ROWID""",
    # An order of its own for each volume: what lies on one tape is seldom spread evenly over all.
    "CREATE INDEX IF NOT EXISTS entry_volumes_storage ON entry_volumes (storage_n, primary_n, id, size)",
    "CREATE INDEX IF NOT EXISTS entry_volumes_size ON entry_volumes (storage_n, size, id)",
    "CREATE INDEX IF NOT EXISTS entry_volumes_modified ON entry_volumes (storage_n, modified_ms, id)",
    "CREATE INDEX IF NOT EXISTS entry_volumes_base ON entry_volumes (storage_n, base, id)",
    "CREATE INDEX IF NOT EXISTS entry_volumes_path ON entry_volumes (storage_n, path, id)",
    "CREATE TABLE IF NOT EXISTS entry_words (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",
    # Words are folded before they come here, so `ascii` splits at blanks and at nothing else.
    """
    CREATE VIRTUAL TABLE IF NOT EXISTS entry_search USING fts5 (
        text, content='entry_words', content_rowid='id', tokenize='ascii', prefix='2 3 4'
    )""",
    """
    CREATE TRIGGER IF NOT EXISTS entry_words_added AFTER INSERT ON entry_words BEGIN
        INSERT INTO entry_search (rowid, text) VALUES (NEW.id, NEW.text);
    END""",
    """
    CREATE TRIGGER IF NOT EXISTS entry_words_removed AFTER DELETE ON entry_words BEGIN
        INSERT INTO entry_search (entry_search, rowid, text) VALUES ('delete', OLD.id, OLD.text);
    END""",
    # How full each storage is: asked for at every list of storages, and never to be counted.
    "CREATE TABLE IF NOT EXISTS storage_usage (storage_n INTEGER PRIMARY KEY, files INTEGER, bytes INTEGER)",
    """
    CREATE TRIGGER IF NOT EXISTS files_counted AFTER INSERT ON files BEGIN
        INSERT INTO storage_usage VALUES (NEW.storage_n, 1, max(NEW.size, 0))
        ON CONFLICT (storage_n) DO UPDATE SET files = files + 1, bytes = bytes + excluded.bytes;
    END""",
    """
    CREATE TRIGGER IF NOT EXISTS files_uncounted AFTER DELETE ON files BEGIN
        UPDATE storage_usage SET files = files - 1, bytes = bytes - max(OLD.size, 0)
            WHERE storage_n = OLD.storage_n;
    END""",
    """
    CREATE TRIGGER IF NOT EXISTS files_recounted AFTER UPDATE ON files
    WHEN OLD.size IS NOT NEW.size OR OLD.storage_n IS NOT NEW.storage_n BEGIN
        UPDATE storage_usage SET files = files - 1, bytes = bytes - max(OLD.size, 0)
            WHERE storage_n = OLD.storage_n;
        INSERT INTO storage_usage VALUES (NEW.storage_n, 1, max(NEW.size, 0))
        ON CONFLICT (storage_n) DO UPDATE SET files = files + 1, bytes = bytes + excluded.bytes;
    END""",
    """
    CREATE TABLE IF NOT EXISTS search_dirty (
        n INTEGER, storage_n INTEGER, parent TEXT, path TEXT, size INTEGER, sha256 TEXT
    )""",
    """
    CREATE TRIGGER IF NOT EXISTS files_added AFTER INSERT ON files BEGIN
        INSERT INTO search_dirty VALUES (NEW.n, NEW.storage_n, NEW.parent, NEW.path, NEW.size, NEW.sha256);
    END""",
    """
    CREATE TRIGGER IF NOT EXISTS files_removed AFTER DELETE ON files BEGIN
        INSERT INTO search_dirty VALUES (OLD.n, OLD.storage_n, OLD.parent, OLD.path, OLD.size, OLD.sha256);
    END""",
    """
    CREATE TRIGGER IF NOT EXISTS files_changed AFTER UPDATE ON files
    WHEN OLD.state IS NOT NEW.state OR OLD.path IS NOT NEW.path OR OLD.storage_n IS NOT NEW.storage_n
        OR OLD.size IS NOT NEW.size OR OLD.sha256 IS NOT NEW.sha256 OR OLD.sha1 IS NOT NEW.sha1
        OR OLD.timestamp_ms IS NOT NEW.timestamp_ms OR OLD.created_ms IS NOT NEW.created_ms
        OR OLD.metadata IS NOT NEW.metadata
    BEGIN
        INSERT INTO search_dirty VALUES (OLD.n, OLD.storage_n, OLD.parent, OLD.path, OLD.size, OLD.sha256);
        INSERT INTO search_dirty VALUES (NEW.n, NEW.storage_n, NEW.parent, NEW.path, NEW.size, NEW.sha256);
    END""",
    *(
        f"""
    CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} ON asset_tags BEGIN
        INSERT INTO search_dirty
            SELECT f.n, f.storage_n, f.parent, f.path, f.size, f.sha256
            FROM assets a JOIN projects p ON p.n = a.project_n
                CROSS JOIN files f INDEXED BY files_path ON f.storage_n = p.storage_n
                    AND f.path > p.id || '/' || a.id || '/' AND f.path < p.id || '/' || a.id || '0'
            WHERE a.n = {row}.asset_n;
    END"""
        for name, event, row in (("tags_added", "INSERT", "NEW"), ("tags_removed", "DELETE", "OLD"))
    ),
    """
    CREATE TRIGGER IF NOT EXISTS storages_added AFTER INSERT ON storages BEGIN
        INSERT INTO search_dirty (storage_n, parent) VALUES (NEW.n, '');
    END""",
    """
    CREATE TRIGGER IF NOT EXISTS storages_changed AFTER UPDATE OF archive ON storages
    WHEN OLD.archive IS NOT NEW.archive BEGIN
        INSERT INTO search_dirty
            SELECT n, storage_n, parent, path, size, sha256 FROM files WHERE storage_n = NEW.n;
    END""",
)

_SCRATCH = (
    "CREATE TEMP TABLE s_content (sha256 TEXT, size INTEGER, crowded INTEGER, was INTEGER,"
    " PRIMARY KEY (sha256, size)) WITHOUT ROWID",
    "CREATE TEMP TABLE s_group (sha256 TEXT, size INTEGER, path TEXT,"
    " PRIMARY KEY (sha256, size, path)) WITHOUT ROWID",
    "CREATE TEMP TABLE s_old (id INTEGER PRIMARY KEY)",
    "CREATE TEMP TABLE s_new (id INTEGER PRIMARY KEY)",
    "CREATE TEMP TABLE s_words (id INTEGER PRIMARY KEY, text TEXT)",
)

_SETTLE = (
    f"""
    INSERT INTO s_content SELECT sha256, size,
        (SELECT count(*) FROM (SELECT DISTINCT f.path FROM files f INDEXED BY files_sha256
            WHERE f.sha256 = d.sha256 AND f.size = d.size AND f.state IN {_READABLE}
            LIMIT {CROWD + 1})) > {CROWD},
        (SELECT count(*) FROM (SELECT 1 FROM entries e INDEXED BY entries_content
            WHERE e.sha256 = d.sha256 AND e.size = d.size LIMIT {CROWD + 1})) > {CROWD}
    FROM (SELECT DISTINCT sha256, size FROM search_dirty WHERE sha256 IS NOT NULL AND size > 0) d""",
    "INSERT INTO s_group SELECT DISTINCT sha256, size, path FROM search_dirty WHERE sha256 IS NOT NULL",
    f"""
    INSERT OR IGNORE INTO s_group SELECT f.sha256, f.size, f.path
        FROM s_content c CROSS JOIN files f INDEXED BY files_sha256 ON f.sha256 = c.sha256 AND f.size = c.size
        WHERE NOT (c.crowded AND c.was) AND f.state IN {_READABLE}""",
    """
    INSERT OR IGNORE INTO s_group SELECT e.sha256, e.size, e.path
        FROM s_content c CROSS JOIN entries e INDEXED BY entries_content
            ON e.sha256 = c.sha256 AND e.size = c.size
        WHERE NOT (c.crowded AND c.was)""",
    """
    INSERT OR IGNORE INTO s_old SELECT e.id
        FROM s_group g CROSS JOIN entries e INDEXED BY entries_content
            ON e.sha256 = g.sha256 AND e.path = g.path AND e.size = g.size""",
    "INSERT OR IGNORE INTO s_old SELECT e.id FROM search_dirty d CROSS JOIN entries e ON e.id = d.n",
    f"""
    INSERT INTO s_new SELECT min(f.n)
        FROM s_group g CROSS JOIN files f INDEXED BY files_sha256
            ON f.sha256 = g.sha256 AND f.path = g.path AND f.size = g.size
        WHERE f.state IN {_READABLE} GROUP BY g.sha256, g.size, g.path""",
    f"""
    INSERT OR IGNORE INTO s_new SELECT f.n FROM search_dirty d CROSS JOIN files f ON f.n = d.n
        WHERE f.sha256 IS NULL AND f.state IN {_READABLE}""",
    summaries.counted("-", "s_old"),
    "DELETE FROM entry_volumes WHERE id IN (SELECT id FROM s_old)",
    "DELETE FROM entries WHERE id IN (SELECT id FROM s_old)",
    """
    INSERT INTO entries (id, storage_n, size, modified_ms, extension, base, path, sha256, sha1)
        SELECT f.n, f.storage_n, f.size, f.timestamp_ms, lower_case(f.extension),
            CASE WHEN instr(f.name, '.') THEN substr(f.name, 1, length(f.name) - length(f.extension) - 1)
                 ELSE f.name END,
            f.path, f.sha256, f.sha1
        FROM s_new CROSS JOIN files f ON f.n = s_new.id""",
    f"""
    INSERT INTO entry_volumes (id, storage_n, path, size, file_n, primary_n, modified_ms, base)
        SELECT e.id, f.storage_n, f.path, f.size, f.n, e.storage_n, e.modified_ms, e.base
        FROM s_new CROSS JOIN entries e ON e.id = s_new.id
            CROSS JOIN files f INDEXED BY files_sha256
                ON f.sha256 = e.sha256 AND f.path = e.path AND f.size = e.size
        WHERE f.state IN {_READABLE}
        UNION ALL
        SELECT e.id, e.storage_n, e.path, e.size, e.id, e.storage_n, e.modified_ms, e.base
        FROM s_new CROSS JOIN entries e ON e.id = s_new.id WHERE e.sha256 IS NULL""",
    # `min` makes the bare column `path` that of the same row (SQLite's rule for bare columns).
    f"""
    INSERT OR IGNORE INTO entry_volumes (id, storage_n, path, size, file_n, primary_n, modified_ms, base)
        SELECT e.id, f.storage_n, f.path, f.size, min(f.n), e.storage_n, e.modified_ms, e.base
        FROM s_content c CROSS JOIN entries e INDEXED BY entries_content
            ON e.sha256 = c.sha256 AND e.size = c.size
            CROSS JOIN files f INDEXED BY files_sha256 ON f.sha256 = c.sha256 AND f.size = c.size
        WHERE NOT c.crowded AND f.state IN {_READABLE} AND EXISTS (SELECT 1 FROM s_new WHERE s_new.id = e.id)
        GROUP BY e.id, f.storage_n""",
    """
    UPDATE entries SET cached_ms = (
        SELECT min(max(f.created_ms, f.timestamp_ms))
        FROM files f INDEXED BY files_sha256 JOIN storages s ON s.n = f.storage_n
        WHERE f.sha256 = entries.sha256 AND f.size = entries.size
            AND f.state IN ('CLOSED', 'BEING_READ') AND NOT s.archive
            AND (f.path = entries.path OR EXISTS (
                SELECT 1 FROM s_content c
                WHERE c.sha256 = f.sha256 AND c.size = f.size AND NOT c.crowded)))
    WHERE id IN (SELECT id FROM s_new) AND sha256 IS NOT NULL""",
    """
    UPDATE entries SET cached_ms = (
        SELECT max(f.created_ms, f.timestamp_ms) FROM files f JOIN storages s ON s.n = f.storage_n
        WHERE f.n = entries.id AND f.state IN ('CLOSED', 'BEING_READ') AND NOT s.archive)
    WHERE id IN (SELECT id FROM s_new) AND sha256 IS NULL""",
    summaries.counted("+", "s_new"),
    summaries.widened("s_new"),
    """
    INSERT INTO s_words SELECT e.id, entry_text(
        (SELECT json_group_array(DISTINCT v.path) FROM entry_volumes v WHERE v.id = e.id),
        (SELECT json_group_array(v.storage_n) FROM entry_volumes v WHERE v.id = e.id),
        f.metadata, e.extension, e.cached_ms IS NOT NULL,
        (SELECT json_group_array(DISTINCT t.tag) FROM entry_volumes v
            JOIN projects p ON p.storage_n = v.storage_n AND p.id = segment(v.path, 0)
            JOIN assets a ON a.project_n = p.n AND a.id = segment(v.path, 1)
            JOIN asset_tags t ON t.asset_n = a.n WHERE v.id = e.id))
    FROM s_new CROSS JOIN entries e ON e.id = s_new.id CROSS JOIN files f ON f.n = e.id""",
    # What stays as it is is not taken out of the full-text index and put back.
    """
    DELETE FROM entry_words WHERE id IN (SELECT id FROM s_old) AND NOT EXISTS (
        SELECT 1 FROM s_words w WHERE w.id = entry_words.id AND w.text = entry_words.text)""",
    """
    INSERT INTO entry_words SELECT w.id, w.text FROM s_words w
        WHERE NOT EXISTS (SELECT 1 FROM entry_words o WHERE o.id = w.id)""",
)
_CLEAR = (
    "DELETE FROM search_dirty",
    *(f"DELETE FROM {name}" for name in ("s_content", "s_group", "s_old", "s_new", "s_words")),
)

_FOLDERS_WANTED = """
    SELECT DISTINCT d.storage_n, d.parent FROM search_dirty d
    WHERE NOT EXISTS (SELECT 1 FROM folders o WHERE o.storage_n = d.storage_n AND o.path = d.parent)
        AND EXISTS (SELECT 1 FROM storages s WHERE s.n = d.storage_n)
        AND (d.parent = '' OR EXISTS (SELECT 1 FROM files f WHERE f.storage_n = d.storage_n
            AND f.parent = d.parent AND f.state <> 'TO_BE_DELETED'))"""

_FOLDERS_EMPTY = """
    SELECT DISTINCT o.storage_n, o.path FROM search_dirty d
        JOIN folders o ON o.storage_n = d.storage_n AND o.path = d.parent
    WHERE o.path <> '' AND NOT EXISTS (SELECT 1 FROM files f WHERE f.storage_n = o.storage_n
        AND f.parent = o.path AND f.state <> 'TO_BE_DELETED')"""


def prepare(connection: Any) -> None:
    """Give the writing connection what `settle` needs. connection: DB-API, as at "connect"."""
    connection.create_function("lower_case", 1, str.lower, deterministic=True)
    connection.create_function("entry_text", 6, entry_text, deterministic=True)
    connection.create_function("segment", 2, _segment, deterministic=True)
    cursor = connection.cursor()
    for statement in _SCRATCH:
        cursor.execute(statement)
    cursor.close()


def _segment(path: str, place: int) -> str | None:
    """Return a folder of a path, by its place from 0; None where there is none."""
    folders = path.split("/", place + 1)
    return folders[place] if len(folders) > place + 1 else None


def entry_text(
    paths: str, storages: str, metadata: str | None, extension: str, cached: int, tags: str
) -> str:
    """Return all words of an entry, a blank before and after each.

    paths, storages, tags  JSON arrays; metadata: JSON object of strings, or None

    "¤" alone parts the texts, so that no phrase reaches from one into the next.
    """
    held = json.loads(metadata) if metadata else {}
    values = held.values() if isinstance(held, dict) else ()
    texts = [*json.loads(paths), *(value for value in values if isinstance(value, str)), *json.loads(tags)]
    parts = [" ".join(found) for found in map(words, texts) if found]
    marks = [volume_word(n) for n in sorted(json.loads(storages))]
    marks += [extension_word(extension), CACHED_WORDS[bool(cached)]]
    return f" {' ¤ '.join(parts)} ¤ {' '.join(marks)} "


async def install(connection: AsyncConnection) -> None:
    """Make the tables and triggers; Files that were there before them are taken in."""
    for statement in _SCHEMA:
        await connection.exec_driver_sql(statement)
    if not (await connection.exec_driver_sql("SELECT EXISTS (SELECT 1 FROM storage_usage)")).scalar_one():
        await connection.exec_driver_sql(
            "INSERT INTO storage_usage SELECT storage_n, count(*), sum(max(size, 0)) FROM files GROUP BY 1"
        )
    empty = "SELECT NOT EXISTS (SELECT 1 FROM entries) AND NOT EXISTS (SELECT 1 FROM folders)"
    if (await connection.exec_driver_sql(empty)).scalar_one():
        await mark_all(connection)


async def mark_all(connection: AsyncConnection) -> None:
    """Have the next `settle` do everything anew."""
    await connection.exec_driver_sql(
        "INSERT INTO search_dirty SELECT n, storage_n, parent, path, size, sha256 FROM files"
    )
    await connection.exec_driver_sql(
        "INSERT INTO search_dirty (storage_n, parent) SELECT n, '' FROM storages"
    )


async def settle(connection: AsyncConnection) -> None:
    """Bring index and folders in line with the Files changed in this transaction. Before each commit."""
    dirty = (await connection.exec_driver_sql("SELECT EXISTS (SELECT 1 FROM search_dirty)")).scalar_one()
    if not dirty:
        return
    await _settle_folders(connection)
    for statement in (*_SETTLE, *_CLEAR):
        await connection.exec_driver_sql(statement)


# --- folders --------------------------------------------------------------------------------------


async def _settle_folders(connection: AsyncConnection) -> None:
    wanted = (await connection.exec_driver_sql(_FOLDERS_WANTED)).all()
    for storage_n, path in wanted:
        await _make_folders(connection, storage_n, path)
    empty = (await connection.exec_driver_sql(_FOLDERS_EMPTY)).all()
    for storage_n, path in empty:
        await _drop_empty(connection, storage_n, path)


async def _make_folders(connection: AsyncConnection, storage_n: int, path: str) -> None:
    """Make the folder and those above it that are not there, the root first."""
    above = path.split("/") if path else []
    for depth in range(len(above) + 1):
        here = "/".join(above[:depth])
        there = "SELECT 1 FROM folders WHERE storage_n = ? AND path = ?"
        if (await connection.exec_driver_sql(there, (storage_n, here))).first():
            continue
        parent, _, name = here.rpartition("/")
        number = await _next_file_number(connection)
        await connection.exec_driver_sql(
            "INSERT INTO folders (n, storage_n, path, parent, name) VALUES (?, ?, ?, ?, ?)",
            (number, storage_n, here, parent if here else None, name),
        )


async def _next_file_number(connection: AsyncConnection) -> int:
    """Folders and Files share their numbers."""
    await connection.exec_driver_sql("INSERT OR IGNORE INTO sequences (kind, last) VALUES ('file', 0)")
    bump = "UPDATE sequences SET last = last + 1 WHERE kind = 'file' RETURNING last"
    return int((await connection.exec_driver_sql(bump)).scalar_one())


async def _drop_empty(connection: AsyncConnection, storage_n: int, path: str) -> None:
    """Remove the folder, and those above it that this leaves empty."""
    busy = """
        SELECT EXISTS (SELECT 1 FROM files WHERE storage_n = ?1 AND parent = ?2
                AND state <> 'TO_BE_DELETED')
            OR EXISTS (SELECT 1 FROM folders WHERE storage_n = ?1 AND parent = ?2)"""
    while path:
        if (await connection.exec_driver_sql(busy, (storage_n, path))).scalar_one():
            return
        drop = "DELETE FROM folders WHERE storage_n = ? AND path = ?"
        await connection.exec_driver_sql(drop, (storage_n, path))
        path = path.rpartition("/")[0]

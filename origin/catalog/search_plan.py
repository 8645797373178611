"""From a SearchQuery to SQL: what the full-text index is asked, what is tested row by row, and from
where candidates can be taken. User text gets into an FTS5 expression only as folded words in quotes."""

# ruff: noqa: S608  (every f-string below joins constants of this file; all values are bound)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from origin.core.marks import Mark
from origin.core.search import Clause, Field, Filter, Range, SearchQuery, Sort
from origin.core.words import CACHED_WORDS, extension_word, volume_word, words

Param = int | str


@dataclass(frozen=True, slots=True)
class Test:
    """A condition on `entries e`, with the parameters of its "?" in order."""

    sql: str
    params: tuple[Param, ...] = ()


@dataclass(frozen=True, slots=True)
class Driver:
    """A way to list candidates: `sql` selects ids; all tests but `covers` remain to be made.

    covers  index into Plan.tests
    index   of `entries`, for the condition that is covered: then candidates need no look-up
    zones   condition on `entry_zones z`, with the same parameters, that zones with candidates fulfil
    """

    sql: str
    params: tuple[Param, ...]
    covers: int | None = None
    index: str | None = None
    zones: str | None = None


@dataclass(slots=True)
class Plan:
    """match: FTS5 expression, None when words ask nothing; texts: the same condition for one row.

    volume  number of a storage that all matches must lie on; None when there is none, or a choice
    extension  that all matches must have; None likewise
    unseen  what the caller may not see fulfils one of these; `tests` have the negation of each
    """

    match: str | None = None
    volume: int | None = None
    extension: str | None = None
    texts: list[Test] = field(default_factory=list)
    tests: list[Test] = field(default_factory=list)
    unseen: list[Test] = field(default_factory=list)
    drivers: list[Driver] = field(default_factory=list)
    nothing: bool = False


def make_plan(
    query: SearchQuery,
    names: Mapping[int, str],
    hidden: Sequence[int],
    closed: Sequence[tuple[int, str]] = (),
) -> Plan:
    """names: storages the caller may see, number → name; hidden: all others, and closed: folders on those,
    (storage's number, path), whose entries (by their primary copy) are left out."""
    plan = Plan(nothing=query.nothing)
    matches: list[str] = []
    for clause in query.clauses:
        _add_clause(plan, matches, clause, names)
    for wanted in query.filters:
        _FILTERS[wanted.field](plan, matches, wanted, names)
    if hidden:
        marks = ",".join("?" * len(hidden))
        plan.unseen.append(Test(f"e.storage_n IN ({marks})", tuple(hidden)))
    for n, path in closed:
        within = "e.storage_n = ? AND e.path > ? AND e.path < ?"  # "0" follows "/"
        plan.unseen.append(Test(within, (n, f"{path}/", f"{path}0")))
    plan.tests += [Test(f"NOT ({test.sql})", test.params) for test in plan.unseen]
    if matches:
        plan.match = " AND ".join(f"({match})" for match in matches)
        plan.drivers.insert(0, Driver(_BY_WORDS, (plan.match,)))
    return plan


_INDEXES = {Sort.SIZE: "entries_size", Sort.MODIFIED: "entries_modified"}


def narrow(plan: Plan, query: SearchQuery, after: Mark) -> None:
    """Of a range of the column that is sorted by, a walk needs only what lies behind its mark. SQLite
    would begin at the near end of the range, and walk up to the mark again on every page."""
    key = after.key
    for i, driver in enumerate(plan.drivers):
        if driver.covers is None or driver.index is None or driver.index != _INDEXES.get(query.sort):
            continue
        assert isinstance(key, int)
        low, high = map(int, driver.params)
        rest = (low, min(high, key)) if query.descending else (max(low, key), high)
        plan.drivers[i] = replace(driver, params=rest)
        plan.tests[driver.covers] = replace(plan.tests[driver.covers], params=rest)


_BY_WORDS = "SELECT rowid AS id FROM entry_search WHERE entry_search MATCH ?"
_ON_VOLUME = "EXISTS (SELECT 1 FROM entry_volumes v WHERE v.id = e.id AND v.storage_n = ?)"


def _any(tests: Sequence[Test]) -> Test:
    """One of several; none of none."""
    if not tests:
        return Test("0")
    joined = " OR ".join(f"({test.sql})" for test in tests)
    return Test(f"({joined})", tuple(param for test in tests for param in test.params))


def _add_clause(plan: Plan, matches: list[str], clause: Clause, names: Mapping[int, str]) -> None:
    phrase = " ".join(clause.words)
    needle = f" {phrase}" if clause.prefix else f" {phrase} "
    options = [f'"{phrase}" *' if clause.prefix else f'"{phrase}"']
    tests = [Test("instr((SELECT w.text FROM entry_words w WHERE w.id = e.id), ?)", (needle,))]
    if clause.key is None:
        # Names of volumes are looked up now, so that renaming a storage touches no entry.
        for n, name in names.items():
            if needle in f" {' '.join(words(name))} ":
                options.append(f'"{volume_word(n)}"')
                tests.append(Test(_ON_VOLUME, (n,)))
    else:
        plan.tests.append(
            Test(
                "instr(folded((SELECT m.value FROM files f, json_each(f.metadata) m"
                " WHERE f.n = e.id AND m.key = ?)), ?)",
                (clause.key, needle),
            )
        )
    matches.append(" OR ".join(options))
    plan.texts.append(_any(tests))


def _add_volumes(plan: Plan, matches: list[str], wanted: Filter, names: Mapping[int, str]) -> None:
    chosen = set()
    known = {name: n for n, name in names.items()}
    for value in wanted.any_of:
        for name in [str(value)] if value in known else str(value).split(","):
            if name in known:
                chosen.add(known[name])
    if not chosen:
        plan.nothing = True
        return
    if len(chosen) == 1:
        plan.volume = min(chosen)
    matches.append(" OR ".join(f'"{volume_word(n)}"' for n in sorted(chosen)))
    plan.texts.append(_any([Test(_ON_VOLUME, (n,)) for n in sorted(chosen)]))


def _add_extensions(plan: Plan, matches: list[str], wanted: Filter, _: Mapping[int, str]) -> None:
    values = [str(value) for value in wanted.any_of]
    if len(values) == 1:
        plan.extension = values[0]
    matches.append(" OR ".join(f'"{extension_word(value)}"' for value in values))
    plan.texts.append(_any([Test("e.extension = ?", (value,)) for value in values]))


def _add_cached(plan: Plan, matches: list[str], wanted: Filter, _: Mapping[int, str]) -> None:
    values = {bool(value) for value in wanted.any_of}
    if len(values) == 1:
        value = values.pop()
        matches.append(f'"{CACHED_WORDS[value]}"')
        plan.texts.append(Test("e.cached_ms IS NOT NULL" if value else "e.cached_ms IS NULL"))


_RANGES = {
    Field.SIZE: ("size", "entries_size", "z.high_size >= ? AND z.low_size <= ?"),
    Field.MODIFIED: ("modified_ms", "entries_modified", "z.high_modified >= ? AND z.low_modified <= ?"),
    Field.CACHED_DATE: ("cached_ms", "entries_cached", None),
}


def _add_range(plan: Plan, _m: list[str], wanted: Filter, _: Mapping[int, str]) -> None:
    column, index, zones = _RANGES[wanted.field]
    tests = []
    for value in wanted.any_of:
        assert isinstance(value, Range)
        low = value.low if value.low is not None else -(2**62)
        high = value.high if value.high is not None else 2**62
        tests.append(Test(f"e.{column} BETWEEN ? AND ?", (low, high)))
    plan.tests.append(_any(tests))
    if len(tests) == 1:
        plan.drivers.append(
            Driver(
                f"SELECT e.id FROM entries e INDEXED BY {index} WHERE {tests[0].sql}",
                tests[0].params,
                len(plan.tests) - 1,
                index,
                zones,
            )
        )


def _add_equal(plan: Plan, tests: Sequence[Test]) -> None:
    """Conditions that an index answers: few rows each."""
    test = _any(tests)
    plan.tests.append(test)
    if tests:
        united = " UNION ".join(f"SELECT e.id FROM entries e WHERE {one.sql}" for one in tests)
        plan.drivers.append(Driver(f"SELECT id FROM ({united})", test.params, len(plan.tests) - 1))
    else:
        plan.nothing = True


def _add_hashes(plan: Plan, _m: list[str], wanted: Filter, _: Mapping[int, str]) -> None:
    values = [str(value) for value in wanted.any_of]
    _add_equal(
        plan, [Test("e.sha1 = ?" if len(value) == 40 else "e.sha256 = ?", (value,)) for value in values]
    )


def _add_names(plan: Plan, _m: list[str], wanted: Filter, _: Mapping[int, str]) -> None:
    _add_equal(plan, [Test("e.base = ?", (str(value),)) for value in wanted.any_of])


def places(path: str, names: Mapping[int, str]) -> list[tuple[int, str]]:
    """Return (storage number, rest of the path) for each storage whose name begins the path; the rest
    is "" for the storage itself. Several, when a storage's name has "/"."""
    found = []
    for n, name in names.items():
        if path == name or path.startswith(name + "/"):
            found.append((n, path[len(name) + 1 :]))
    return found


def _add_paths(plan: Plan, _m: list[str], wanted: Filter, names: Mapping[int, str]) -> None:
    tests = [
        Test("e.storage_n = ? AND e.path = ?", place)
        for value in wanted.any_of
        for place in places(str(value), names)
        if place[1]
    ]
    _add_equal(plan, tests)


def _below(column: str, path: str) -> Test:
    """All below a directory; "0" is the character after "/"."""
    if not path:
        return Test("1")
    return Test(f"{column} > ? AND {column} < ?", (path + "/", path + "0"))


def _add_parents(plan: Plan, _m: list[str], wanted: Filter, names: Mapping[int, str]) -> None:
    tests = []
    for value in wanted.any_of:
        for n, path in places(str(value), names):
            below = _below("e.path", path)
            start = len(path) + 2 if path else 1
            tests.append(
                Test(
                    f"e.storage_n = ? AND {below.sql} AND instr(substr(e.path, ?), '/') = 0",
                    (n, *below.params, start),
                )
            )
    _add_equal(plan, tests)


def _add_under(plan: Plan, _m: list[str], wanted: Filter, names: Mapping[int, str]) -> None:
    tests, drivers = [], []
    params: list[Param] = []
    within = [place for value in wanted.any_of for place in places(str(value), names)]
    if len(within) == 1:
        plan.volume = within[0][0]
    for n, path in within:
        below = _below("v.path", path)
        condition = f"v.storage_n = ? AND {below.sql}"
        tests.append(
            Test(
                f"EXISTS (SELECT 1 FROM entry_volumes v WHERE v.id = e.id AND {condition})",
                (n, *below.params),
            )
        )
        drivers.append(f"SELECT v.id FROM entry_volumes v WHERE {condition}")
        params += (n, *below.params)
    plan.tests.append(_any(tests))
    if drivers:
        united = " UNION ".join(drivers)
        plan.drivers.append(Driver(f"SELECT id FROM ({united})", tuple(params), len(plan.tests) - 1))
    else:
        plan.nothing = True


_PROJECT = (
    "SELECT e.id FROM projects p CROSS JOIN entries e INDEXED BY entries_path"
    " ON e.storage_n = p.storage_n AND e.path > p.id || '/' AND e.path < p.id || '0' WHERE p.id IN ({})"
)
_ASSET = (
    "SELECT e.id FROM assets a JOIN projects p ON p.n = a.project_n"
    " CROSS JOIN entries e INDEXED BY entries_path ON e.storage_n = p.storage_n"
    " AND e.path > p.id || '/' || a.id || '/' AND e.path < p.id || '/' || a.id || '0' WHERE a.id IN ({})"
)
# Tags are those of all copies, where a project and an asset are the primary copy's.
_TAG = (
    "SELECT v.id FROM asset_tags t JOIN assets a ON a.n = t.asset_n JOIN projects p ON p.n = a.project_n"
    " CROSS JOIN entry_volumes v INDEXED BY entry_volumes_path ON v.storage_n = p.storage_n"
    " AND v.path > p.id || '/' || a.id || '/' AND v.path < p.id || '/' || a.id || '0' WHERE t.tag IN ({})"
)


def _add_belonging(plan: Plan, _m: list[str], wanted: Filter, _: Mapping[int, str]) -> None:
    """A project's Files lie in its folder, an asset's in that folder's folder."""
    sql = {Field.PROJECT: _PROJECT, Field.ASSET: _ASSET, Field.TAG: _TAG}[wanted.field]
    values = tuple(str(value) for value in wanted.any_of)
    chosen = sql.format(",".join("?" * len(values)))
    plan.tests.append(Test(f"e.id IN ({chosen})", values))
    distinct = f"SELECT DISTINCT id FROM ({chosen})"
    plan.drivers.append(Driver(distinct, values, len(plan.tests) - 1))


_FILTERS = {
    Field.VOLUME: _add_volumes,
    Field.EXTENSION: _add_extensions,
    Field.CACHED: _add_cached,
    Field.SIZE: _add_range,
    Field.MODIFIED: _add_range,
    Field.CACHED_DATE: _add_range,
    Field.HASH: _add_hashes,
    Field.NAME: _add_names,
    Field.PATH: _add_paths,
    Field.PARENT: _add_parents,
    Field.UNDER: _add_under,
    Field.PROJECT: _add_belonging,
    Field.ASSET: _add_belonging,
    Field.TAG: _add_belonging,
}

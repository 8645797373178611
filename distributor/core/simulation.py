"""What a store of a given size and policy would have kept of a trace of requests. Pure.

The accounts and the policies are those that the store itself uses (`core.eviction`), asked in the
order in which it asks them; there is neither a disk nor time.

A trace is CSV, one request a line: time, id, size. Time is any number that does not go back; only its
order counts. A first line that names the columns, blank lines and lines that begin with # are passed over.

    time,id,size
    0.5,film/part-1.ts,2097152
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from distributor.core.eviction import Account, Accounts, make_policy
from distributor.errors import SpaceExhausted, TooLarge

PolicyName = Literal["lru", "s3-fifo"]


class Access(NamedTuple):
    """One request of a trace: `size` bytes, >= 0, of the asset `key`."""

    key: str
    size: int


class BadTrace(ValueError):
    """A line is not what it should be; the message tells which."""


def read_trace(lines: Iterable[str]) -> Iterator[Access]:
    """The requests of a trace in CSV, one by one. Raises BadTrace."""
    rows = csv.reader(lines)
    latest = -math.inf
    first = True
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise BadTrace(f"line {rows.line_num}: {error}") from None
        if row is None:
            return
        if not row or row[0].lstrip().startswith("#"):
            continue
        cells = [cell.strip() for cell in row]
        if first and cells == ["time", "id", "size"]:
            first = False
            continue
        first = False
        latest, access = _access(cells, latest, rows.line_num)
        yield access


def _access(cells: list[str], latest: float, line: int) -> tuple[float, Access]:
    if len(cells) != 3 or not cells[1]:
        raise BadTrace(f"line {line}: not time,id,size")
    try:
        time, size = float(cells[0]), int(cells[2])
    except ValueError:
        raise BadTrace(f"line {line}: time or size is no number") from None
    if not math.isfinite(time) or time < latest:
        raise BadTrace(f"line {line}: time goes back")
    if size < 0:
        raise BadTrace(f"line {line}: size is below 0")
    return time, Access(cells[1], size)


class Tally(NamedTuple):
    """What became of a trace. Counts of requests and of their bytes.

    stored, evicted    responses that were stored, and that had to leave
    passed             misses that were not stored: too large, or not admitted
    """

    policy: PolicyName
    limit: int
    requests: int
    bytes: int
    missed_requests: int
    missed_bytes: int
    stored: int
    evicted: int
    passed: int

    @property
    def object_miss_ratio(self) -> float:
        """Misses of all requests; 0 for an empty trace."""
        return self.missed_requests / self.requests if self.requests else 0.0

    @property
    def byte_miss_ratio(self) -> float:
        """Missed bytes of all bytes asked for; 0 where none were."""
        return self.missed_bytes / self.bytes if self.bytes else 0.0


class Simulation:
    """One store. Memory grows with what it would hold, not with the trace.

    limit       bytes, >= 1;  max_object: larger ones are passed through, None: as large as the limit
    """

    def __init__(self, policy: PolicyName, limit: int, max_object: int | None = None) -> None:
        self._name: PolicyName = policy
        self._policy = make_policy(policy, limit)
        self._accounts = Accounts(limit, max_object)
        self._held: dict[str, Account] = {}
        self._requests = self._bytes = 0
        self._missed_requests = self._missed_bytes = 0
        self._stored = self._evicted = self._passed = 0

    @property
    def used(self) -> int:
        """Bytes that are stored now, never above the limit."""
        return self._accounts.total

    def request(self, access: Access) -> bool:
        """Take in one request; True: it was a hit. A response of another size is another version: a miss."""
        key, size = access
        self._requests += 1
        self._bytes += size
        account = self._held.get(key)
        if account is not None and account.written == size:
            self._policy.used(key)
            return True
        self._missed_requests += 1
        self._missed_bytes += size
        if account is not None:
            self._leave(key, account)
            self._policy.removed(key)
        if self._make_room(key, size, known=account is not None):
            self._store(key, size)
        else:
            self._passed += 1
        return False

    def _make_room(self, key: str, size: int, *, known: bool) -> bool:
        accounts, policy = self._accounts, self._policy
        try:
            accounts.may_grow(Account(), size)
            if not known and not policy.admits(key, size):
                return False
            victims = accounts.victims(size, policy, self._size_of)
        except (TooLarge, SpaceExhausted):
            return False
        for victim in victims:
            self._leave(victim, self._held[victim])
            policy.evicted(victim)
            self._evicted += 1
        return True

    def _size_of(self, key: str) -> int | None:
        return self._held[key].written

    def _leave(self, key: str, account: Account) -> None:
        del self._held[key]
        self._accounts.close(account)

    def _store(self, key: str, size: int) -> None:
        account = Account()
        self._accounts.reserve(account, size)
        self._accounts.write(account, size)
        self._accounts.commit(account, size)
        self._held[key] = account
        self._policy.added(key, size)
        self._policy.used(key)  # the store notes the use that brought it as well
        self._stored += 1

    def tally(self) -> Tally:
        """What has become of all requests so far."""
        return Tally(
            self._name,
            self._accounts.limit,
            self._requests,
            self._bytes,
            self._missed_requests,
            self._missed_bytes,
            self._stored,
            self._evicted,
            self._passed,
        )


def simulate(trace: Iterable[Access], stores: Iterable[Simulation]) -> list[Tally]:
    """Play `trace`, read once, to all `stores`; their tallies, in order."""
    playing = list(stores)
    for access in trace:
        for store in playing:
            store.request(access)
    return [store.tally() for store in playing]

"""Byte accounts of a store, and who leaves when room is needed.

    Account    what one blob holds: bytes written, bytes promised to it
    Accounts   their sums under a hard limit: complete + partial + reserved + unread <= limit
    LRU        the longest unused leaves first
    S3FIFO     two FIFO queues and a memory of who left (Yang et al., SOSP 2023)

The order of one blob's calls:

    open ─▶ reserve ⇄ write ─▶ give_back ─▶ commit ─▶ close          (close from anywhere)

`Accounts` knows no keys, and a policy knows no more than their order, so that a million stored
responses cost one dictionary slot each here; sizes are asked of the caller, for candidates only.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from itertools import islice
from typing import Literal, Protocol

from distributor.errors import SpaceExhausted, TooLarge

# How many of the oldest keys a queue keeps at hand. A dict whose first keys were deleted is walked
# from its first slot each time it is asked for its first key; so many at a time, the walk is nothing.
_AT_HAND = 1024

# So many of the latest uses are kept apart, so that hits on a hot set move keys in a small dict.
_RECENT = 4096

# A queue in which so many keys in turn were used since their last round gives up one of them all the
# same: the walk for a victim is bounded.
_REPRIEVES = 512

# At most so many departed keys are remembered by S3FIFO, by their hashes: about 100 bytes each.
_GHOSTS = 200_000


class Account:
    """What one blob holds, in bytes. Changed by `Accounts` only."""

    __slots__ = ("complete", "reserved", "written")

    def __init__(self, written: int = 0, complete: bool = False) -> None:
        self.written = written
        self.reserved = 0
        self.complete = complete


class Accounts:
    """Sums over all accounts; never above `limit` by what is reserved here.

    limit        bytes, >= 0
    max_object   largest blob allowed, bytes; None: as large as the limit
    unread       bytes of blobs that a start has counted and not yet looked at
    """

    __slots__ = ("complete", "limit", "max_object", "partial", "reserved", "unread")

    def __init__(self, limit: int, max_object: int | None = None) -> None:
        self.limit = limit
        self.max_object = limit if max_object is None else min(limit, max_object)
        self.complete = 0
        self.partial = 0
        self.reserved = 0
        self.unread = 0

    @property
    def total(self) -> int:
        """Bytes on disk and promised."""
        return self.complete + self.partial + self.reserved + self.unread

    @property
    def room(self) -> int:
        """Bytes that can be reserved without anyone leaving; 0 also when above the limit."""
        return max(0, self.limit - self.total)

    def fits(self, count: int) -> bool:
        """Whether `count` bytes (>= 0) more stay within the limit."""
        return self.total + count <= self.limit

    def adopt(self, written: int, complete: bool) -> Account:
        """The account of a blob that is on disk already; its bytes join the sums."""
        account = Account(written, complete)
        if complete:
            self.complete += written
        else:
            self.partial += written
        return account

    def may_grow(self, account: Account, count: int) -> None:
        """Raise TooLarge when `count` bytes (>= 0) more could not be had even in an empty store."""
        size = account.written + account.reserved + count
        if size > self.max_object:
            raise TooLarge(f"{size} bytes, at most {self.max_object} are allowed")

    def reserve(self, account: Account, count: int) -> None:
        """Promise `count` bytes (>= 0). Raises TooLarge, or SpaceExhausted without room; then no change."""
        self.may_grow(account, count)
        if count > self.room:
            raise SpaceExhausted(f"{count} bytes asked, {self.room} free")
        account.reserved += count
        self.reserved += count

    def write(self, account: Account, count: int) -> None:
        """Reserved bytes are on disk now. Raises SpaceExhausted when fewer were reserved."""
        if count > account.reserved:
            raise SpaceExhausted(f"{count} bytes written, {account.reserved} reserved")
        account.reserved -= count
        self.reserved -= count
        account.written += count
        if account.complete:
            self.complete += count
        else:
            self.partial += count

    def give_back(self, account: Account, *, keep: int = 0) -> None:
        """Take back what was reserved and not written, but for `keep` bytes on their way to the disk."""
        back = max(0, account.reserved - keep)
        self.reserved -= back
        account.reserved -= back

    def commit(self, account: Account, size: int) -> None:
        """The blob is complete at `size` bytes: they change sides, and what was reserved is given back.

        A blob that an earlier process left behind may have been counted too high: what its file took
        and its row did not tell of. That ends here.
        """
        self.give_back(account)
        if not account.complete:
            self.partial -= account.written
            self.complete += size
            account.written, account.complete = size, True

    def close(self, account: Account) -> None:
        """The blob has left the disk. May be repeated."""
        self.give_back(account)
        if account.complete:
            self.complete -= account.written
        else:
            self.partial -= account.written
        account.written = 0

    def victims(
        self, count: int, policy: EvictionPolicy, size_of: Callable[[str], int | None], *, beyond: int = 0
    ) -> list[str]:
        """Who must leave so that `count` bytes can be reserved: keys, first to leave first; may be empty.

        size_of   bytes that a key's leaving frees; None: pinned, passed over
        beyond    bytes that must leave whatever room there is (the disk is fuller than we know)

        Raises SpaceExhausted when all who may leave are too few; then nobody need leave in vain.
        Changes no sum: each victim's account is closed when its blob has gone.
        """
        need = max(self.total + count - self.limit, beyond)
        chosen: list[str] = []
        if need <= 0:
            return chosen
        with closing(policy.victims()) as candidates:
            for key in candidates:
                size = size_of(key)
                if size is None:
                    continue
                chosen.append(key)
                need -= size
                if need <= 0:
                    return chosen
        raise SpaceExhausted(f"{need} bytes short though all who may leave had left")


class EvictionPolicy(Protocol):
    """Chooses who leaves. Keys only; sizes are the accounts' business."""

    def added(self, key: str, size: int) -> None:
        """`key`, unknown till now, is stored."""

    def used(self, key: str) -> None:
        """`key` was used; unknown keys are passed over."""

    def removed(self, key: str) -> None:
        """`key` is stored no longer, for whatever reason; unknown keys are passed over."""

    def evicted(self, key: str) -> None:
        """As removed, because this policy named it."""

    def admits(self, key: str, size: int) -> bool:
        """Whether a response of `size` bytes should be stored at all. Asking notes the wish."""

    def victims(self) -> Generator[str, None, None]:
        """Keys in the order in which they should leave.

        A generator: close it before the policy is told anything.
        """


class _Queue:
    """Keys in order of arrival, each with a small number; the oldest are cheap to find.

    One plain dict: 16 bytes and an index slot a key, where OrderedDict takes 90.
    """

    __slots__ = ("_front", "_keys")

    def __init__(self) -> None:
        self._keys: dict[str, int] = {}
        self._front: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __getitem__(self, key: str) -> int:
        return self._keys[key]

    def set(self, key: str, number: int) -> None:
        """Change the number of a key, not its place."""
        self._keys[key] = number

    def push(self, key: str, number: int = 0) -> None:
        self._keys[key] = number

    def pop(self, key: str) -> int | None:
        self._front.pop(key, None)
        return self._keys.pop(key, None)

    def __iter__(self) -> Generator[str, None, None]:
        if not self._front:
            self._front = dict.fromkeys(islice(self._keys, _AT_HAND))
        yield from self._front
        if len(self._front) < len(self._keys):
            for key in self._keys:
                if key not in self._front:
                    yield key


class LRU:
    """Least recently used first, exactly."""

    def __init__(self) -> None:
        self._old = _Queue()
        self._recent: dict[str, None] = {}

    def added(self, key: str, size: int) -> None:
        recent = self._recent
        recent[key] = None
        if len(recent) > _RECENT:
            for old in list(islice(recent, _RECENT // 2)):
                del recent[old]
                self._old.push(old)

    def used(self, key: str) -> None:
        recent = self._recent
        if key in recent:
            del recent[key]
            recent[key] = None
        elif self._old.pop(key) is not None:
            self.added(key, 0)

    def removed(self, key: str) -> None:
        if self._old.pop(key) is None:
            self._recent.pop(key, None)

    def evicted(self, key: str) -> None:
        self.removed(key)

    def admits(self, key: str, size: int) -> bool:
        return True

    def victims(self) -> Generator[str, None, None]:
        yield from self._old
        yield from self._recent


class S3FIFO:
    """A small queue on probation, a main queue, and ghosts of those who left.

    limit  bytes of the whole store; the small queue has a tenth

    A new key waits in the small queue. Who was used there twice moves on to the main queue when its
    turn to leave comes, others leave and are remembered; a remembered key that returns goes to the
    main queue at once. The main queue gives another round to whoever was used since its last one.
    What is larger than the small queue would wash it out: it is admitted only when it was wished
    for before.
    """

    def __init__(self, limit: int) -> None:
        self._share = limit // 10
        self._small = _Queue()  # number: size * 4 + uses, uses 0..3
        self._small_bytes = 0
        self._main = _Queue()  # number: uses, 0..3
        self._ghosts: dict[int, None] = {}

    def added(self, key: str, size: int) -> None:
        if self._ghosts.pop(hash(key), self) is None or size > self._share:
            self._main.push(key)
        else:
            self._small.push(key, size * 4)
            self._small_bytes += size

    def used(self, key: str) -> None:
        if key in self._main:
            self._main.set(key, min(3, self._main[key] + 1))
        elif key in self._small:
            number = self._small[key]
            self._small.set(key, number + (number % 4 < 3))

    def removed(self, key: str) -> None:
        number = self._small.pop(key)
        if number is None:
            self._main.pop(key)
        else:
            self._small_bytes -= number // 4

    def evicted(self, key: str) -> None:
        if key in self._small:
            self._remember(key)
        self.removed(key)

    def admits(self, key: str, size: int) -> bool:
        if size <= self._share or hash(key) in self._ghosts:
            return True
        self._remember(key)
        return False

    def victims(self) -> Generator[str, None, None]:
        promoted: list[str] = []
        again: list[str] = []
        small_bytes = self._small_bytes
        small, main = iter(self._small), iter(self._main)
        try:
            while small_bytes > self._share and (key := next(small, None)) is not None:
                number = self._small[key]
                small_bytes -= number // 4
                if number % 4 > 1:
                    promoted.append(key)
                else:
                    yield key
            for key in main:
                if not self._main[key]:
                    yield key
                    continue
                again.append(key)
                if len(again) == _REPRIEVES:
                    break
            yield from sorted(again, key=self._main.__getitem__)
            yield from small
            yield from promoted
            yield from main
        finally:
            small.close()
            main.close()
            self._rotate(promoted, again)

    def _rotate(self, promoted: list[str], again: list[str]) -> None:
        for key in promoted:
            number = self._small.pop(key)
            if number is not None:
                self._small_bytes -= number // 4
                self._main.push(key)
        for key in again:
            uses = self._main.pop(key)
            if uses is not None:
                self._main.push(key, max(0, uses - 1))

    def _remember(self, key: str) -> None:
        self._ghosts[hash(key)] = None
        most = min(_GHOSTS, max(1000, len(self._main) + len(self._small)))
        if len(self._ghosts) > most + _AT_HAND:
            for ghost in list(islice(self._ghosts, _AT_HAND)):
                del self._ghosts[ghost]


def make_policy(name: Literal["lru", "s3-fifo"], limit: int) -> LRU | S3FIFO:
    """The policy that the setting `cache.eviction` names, for a store of `limit` bytes."""
    return S3FIFO(limit) if name == "s3-fifo" else LRU()

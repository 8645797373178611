from __future__ import annotations

import time
from collections import OrderedDict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from distributor.core import eviction
from distributor.core.eviction import LRU, S3FIFO, Account, Accounts, EvictionPolicy, make_policy
from distributor.errors import SpaceExhausted, TooLarge

KEYS = st.sampled_from([f"k{n}" for n in range(12)])
SIZES = st.integers(0, 120)
LIMIT = 200


class AStoreInMiniature(RuleBasedStateMachine):
    """Fills, commits, evicts and removes through the accounts; the disk is a dict of sizes."""

    @initialize(name=st.sampled_from(["lru", "s3-fifo"]), largest=st.sampled_from([None, 100]))
    def begin(self, name: str, largest: int | None) -> None:
        self.accounts = Accounts(LIMIT, largest)
        self.policy: EvictionPolicy = make_policy(name, LIMIT)  # type: ignore[arg-type]
        self.held: dict[str, Account] = {}
        self.pinned: set[str] = set()

    def size_of(self, key: str) -> int | None:
        return None if key in self.pinned else self.held[key].written

    def leave(self, key: str) -> None:
        self.accounts.close(self.held.pop(key))
        self.pinned.discard(key)

    @rule(key=KEYS, size=SIZES)
    def fill(self, key: str, size: int) -> None:
        if key in self.held:
            return
        account = Account()
        before = self.accounts.total
        free = LIMIT - before + sum(a.written for k, a in self.held.items() if k not in self.pinned)
        try:
            self.accounts.may_grow(account, size)
            victims = self.accounts.victims(size, self.policy, self.size_of)
        except TooLarge:
            assert size > self.accounts.max_object
            return
        except SpaceExhausted:
            assert size > free
            assert self.accounts.total == before
            return
        assert size <= free
        assert len(set(victims)) == len(victims)
        assert not self.pinned & set(victims)
        for n, victim in enumerate(victims):
            assert self.accounts.room < size, f"{victims[n:]} left in vain"
            self.policy.evicted(victim)
            self.leave(victim)
        self.accounts.reserve(account, size)
        self.held[key] = account
        self.pinned.add(key)
        self.policy.added(key, size)

    @rule(key=KEYS, count=st.integers(0, 60))
    def write(self, key: str, count: int) -> None:
        account = self.held.get(key)
        if account is None:
            return
        if count > account.reserved:
            with pytest.raises(SpaceExhausted):
                self.accounts.write(account, count)
        else:
            self.accounts.write(account, count)

    @rule(key=KEYS, how=st.sampled_from(["commit", "give back", "unpin", "use", "remove"]))
    def end(self, key: str, how: str) -> None:
        if key not in self.held:
            self.policy.used(key)
            self.policy.removed(key)
        elif how == "commit":
            self.accounts.commit(self.held[key], self.held[key].written)
            self.pinned.discard(key)
        elif how == "give back":
            self.accounts.give_back(self.held[key])
        elif how == "unpin" and not self.held[key].reserved:
            self.pinned.discard(key)
        elif how == "use":
            self.policy.used(key)
        elif how == "remove":
            self.policy.removed(key)
            self.leave(key)

    @invariant()
    def sums_hold(self) -> None:
        a = self.accounts
        accounts = self.held.values()
        assert a.complete == sum(x.written for x in accounts if x.complete)
        assert a.partial == sum(x.written for x in accounts if not x.complete)
        assert a.reserved == sum(x.reserved for x in accounts)
        assert a.total <= LIMIT

    @invariant()
    def the_policy_names_everybody_once(self) -> None:
        named = self.policy.victims()
        assert sorted(named) == sorted(self.held)


TestAStoreInMiniature = AStoreInMiniature.TestCase
TestAStoreInMiniature.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


class LRUAgainstAnOrderedDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.saved = (eviction._RECENT, eviction._AT_HAND)
        eviction._RECENT, eviction._AT_HAND = 4, 3
        self.lru = LRU()
        self.model: OrderedDict[str, None] = OrderedDict()

    def teardown(self) -> None:
        eviction._RECENT, eviction._AT_HAND = self.saved

    @rule(key=KEYS)
    def add_or_use(self, key: str) -> None:
        if key in self.model:
            self.lru.used(key)
            self.model.move_to_end(key)
        else:
            self.lru.used(key)
            self.lru.added(key, 1)
            self.model[key] = None

    @rule(key=KEYS)
    def remove(self, key: str) -> None:
        self.lru.removed(key)
        self.model.pop(key, None)

    @rule(count=st.integers(0, 5))
    def evict(self, count: int) -> None:
        candidates = self.lru.victims()
        chosen = [key for key, _ in zip(candidates, range(count), strict=False)]
        candidates.close()
        for key in chosen:
            self.lru.evicted(key)
            del self.model[key]

    @invariant()
    def same_order(self) -> None:
        assert list(self.lru.victims()) == list(self.model)


TestLRUAgainstAnOrderedDict = LRUAgainstAnOrderedDict.TestCase
TestLRUAgainstAnOrderedDict.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def evict_one(policy: S3FIFO) -> str:
    candidates = policy.victims()
    key = next(candidates)
    candidates.close()
    policy.evicted(key)
    return key


def test_s3_fifo_lets_a_scan_leave_before_what_was_used_twice() -> None:
    policy = S3FIFO(100)
    policy.added("film", 8)
    policy.used("film")
    policy.used("film")
    for n in range(20):
        policy.added(f"scan{n}", 5)
    assert [evict_one(policy) for _ in range(18)] == [f"scan{n}" for n in range(18)]
    assert evict_one(policy) == "film"


def test_s3_fifo_takes_a_key_that_returns_straight_into_the_main_queue() -> None:
    policy = S3FIFO(100)
    for key in ("a", "b", "c"):
        policy.added(key, 9)
    assert evict_one(policy) == "a"
    policy.added("a", 9)
    policy.added("d", 9)
    policy.added("e", 9)
    assert [evict_one(policy) for _ in range(3)] == ["b", "c", "d"]


def test_s3_fifo_admits_a_large_object_only_when_it_was_wished_for_before() -> None:
    policy = S3FIFO(1000)
    assert policy.admits("small", 100)
    assert not policy.admits("large", 101)
    assert policy.admits("large", 101)


def test_s3_fifo_gives_up_the_least_used_of_a_main_queue_where_all_were_used() -> None:
    policy = S3FIFO(100_000)
    for n in range(2 * eviction._REPRIEVES):
        key = f"k{n}"
        assert policy.admits(key, 20_000) or policy.admits(key, 20_000)
        policy.added(key, 20_000)
        policy.used(key)
        if n != 7:
            policy.used(key)
    assert evict_one(policy) == "k7"


def test_s3_fifo_remembers_a_bounded_number_of_ghosts() -> None:
    policy = S3FIFO(1000)
    for n in range(20_000):
        policy.admits(f"k{n}", 500)
    assert len(policy._ghosts) <= 1000 + eviction._AT_HAND


def test_room_is_made_for_bytes_that_the_disk_lacks_though_the_accounts_have_room() -> None:
    accounts = Accounts(1000)
    policy = LRU()
    account = accounts.adopt(100, complete=True)
    policy.added("a", 100)
    assert accounts.victims(10, policy, lambda key: account.written, beyond=10) == ["a"]


def test_an_object_larger_than_allowed_is_refused_whatever_the_room() -> None:
    accounts = Accounts(1000, 300)
    account = Account()
    accounts.reserve(account, 200)
    with pytest.raises(TooLarge):
        accounts.reserve(account, 101)
    assert (account.reserved, accounts.reserved) == (200, 200)


def test_bytes_not_looked_at_since_the_start_take_room() -> None:
    accounts = Accounts(100)
    accounts.unread = 90
    with pytest.raises(SpaceExhausted):
        accounts.reserve(Account(), 11)
    accounts.reserve(Account(), 10)


@pytest.mark.parametrize("name", ["lru", "s3-fifo"])
def test_evicting_from_many_keys_stays_cheap(name: str) -> None:
    policy = make_policy(name, 1 << 40)  # type: ignore[arg-type]
    for n in range(100_000):
        policy.added(f"k{n}", 1 << 30)
    begun = time.perf_counter()
    for n in range(20_000):
        candidates = policy.victims()
        key = next(candidates)
        candidates.close()
        policy.evicted(key)
        policy.added(f"new{n}", 1 << 30)
    assert time.perf_counter() - begun < 5.0

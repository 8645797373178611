"""The states of a node, and what operators set."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from distributor.delivery.node import TRANSITIONS, Command, Node, NodeState
from distributor.errors import Conflict, DiskFailed
from distributor.store.overrides import Overrides, load_overrides, save_overrides

S, C = NodeState, Command

# Every state × command; None: refused. Contract §8.
LIFE: dict[tuple[NodeState, Command], NodeState | None] = {
    (S.STARTING, C.READY): S.SERVING,
    (S.STARTING, C.STOP_API): S.STOPPED,
    (S.STARTING, C.START_API): None,
    (S.STARTING, C.DRAIN): None,
    (S.STARTING, C.SHUTDOWN): S.STOPPING,
    (S.SERVING, C.READY): None,
    (S.SERVING, C.STOP_API): S.STOPPED,
    (S.SERVING, C.START_API): None,
    (S.SERVING, C.DRAIN): S.DRAINING,
    (S.SERVING, C.SHUTDOWN): S.STOPPING,
    (S.DRAINING, C.READY): None,
    (S.DRAINING, C.STOP_API): S.STOPPED,
    (S.DRAINING, C.START_API): S.SERVING,
    (S.DRAINING, C.DRAIN): None,
    (S.DRAINING, C.SHUTDOWN): S.STOPPING,
    (S.STOPPED, C.READY): None,
    (S.STOPPED, C.STOP_API): None,
    (S.STOPPED, C.START_API): S.SERVING,
    (S.STOPPED, C.DRAIN): None,
    (S.STOPPED, C.SHUTDOWN): S.STOPPING,
    (S.STOPPING, C.READY): None,
    (S.STOPPING, C.STOP_API): None,
    (S.STOPPING, C.START_API): None,
    (S.STOPPING, C.DRAIN): None,
    (S.STOPPING, C.SHUTDOWN): None,
}


def node(
    overrides: Overrides | None = None, *, buckets: object = "all", saved: list[Overrides] | None = None
) -> Node:
    async def save(wanted: Overrides) -> None:
        if saved is not None:
            await asyncio.sleep(0)
            saved.append(wanted)

    return Node("edge-1", "0.1.0", buckets, None, overrides or Overrides(), save)  # type: ignore[arg-type]


@pytest.mark.parametrize(("state", "command"), LIFE, ids=[f"{s}-{c.value}" for s, c in LIFE])
def test_a_command_leads_to_its_state_or_is_refused(state: NodeState, command: Command) -> None:
    it = node()
    it.state = state
    expected = LIFE[state, command]
    if expected is None:
        with pytest.raises(Conflict):
            it.change(command)
        assert it.state is state
    else:
        assert it.change(command) is it.state is expected


def test_the_table_is_whole() -> None:
    assert set(TRANSITIONS) == set(Command)
    assert set(LIFE) == {(state, command) for state in NodeState for command in Command}


async def test_what_operators_set_is_stronger_than_the_settings_and_all_is_something_to_set() -> None:
    saved: list[Overrides] = []
    it = node(buckets=("a", "b"), saved=saved)
    assert it.distributes("a") and not it.distributes("c")
    await it.set_buckets(("c",))
    assert it.buckets == ("c",) and it.distributes("c") and not it.distributes("a")
    await it.set_buckets(None)
    assert it.buckets is None and it.distributes("anything")
    again = node(saved[-1], buckets=("a", "b"))
    assert again.buckets is None


async def test_nothing_is_in_force_that_is_not_on_disk() -> None:
    async def failing(_: Overrides) -> None:
        raise DiskFailed("write")

    it = Node("edge-1", "0.1.0", "all", 3, Overrides(), failing)
    with pytest.raises(DiskFailed):
        await it.set_buckets(("a",))
    with pytest.raises(DiskFailed):
        await it.set_worker(4)
    assert it.buckets is None and it.worker_id == 3


async def test_two_who_set_at_once_lose_nothing_of_each_other() -> None:
    saved: list[Overrides] = []
    it = node(saved=saved)
    await asyncio.gather(it.set_worker(5), it.set_buckets(("a",)))
    assert saved[-1] == Overrides(buckets=("a",), worker_id=5)
    assert (it.worker_id, it.buckets) == (5, ("a",))


# On disk


@pytest.mark.parametrize(
    "overrides",
    [Overrides(), Overrides(buckets="all"), Overrides(buckets=("a", "b:1"), worker_id=0)],
)
def test_what_is_saved_is_loaded(tmp_path: Path, overrides: Overrides) -> None:
    save_overrides(tmp_path, Overrides(buckets=("old",)))
    save_overrides(tmp_path, overrides)
    assert load_overrides(tmp_path) == overrides
    assert [path.name for path in tmp_path.iterdir()] == ["operator-state.json"]
    assert (tmp_path / "operator-state.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b'{"buckets": 7}', b'{"more": 1}', b"\xff"])
def test_a_damaged_file_is_put_aside_and_the_settings_hold(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "operator-state.json").write_bytes(content)
    assert load_overrides(tmp_path) == Overrides()
    assert (tmp_path / "operator-state.damaged").read_bytes() == content
    assert load_overrides(tmp_path) == Overrides()


def test_a_disk_that_refuses_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_overrides(tmp_path, Overrides(worker_id=1))

    def refuse(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr("distributor.store.overrides.os.fsync", refuse)
    with pytest.raises(DiskFailed):
        save_overrides(tmp_path, Overrides(worker_id=2))
    assert load_overrides(tmp_path) == Overrides(worker_id=1)
    assert len(list(tmp_path.iterdir())) == 1

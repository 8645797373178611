"""The settings machinery, on a small tree of its own."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from distributor import settings
from distributor.settings import (
    DURATION,
    MAP,
    PATH,
    SIZE,
    SWITCH,
    TEXTS,
    WHOLE,
    Settings,
    SettingsError,
    read_or_make_secret,
    section,
    sections,
    setting,
)


class Door(Settings, frozen=True):
    """A way in."""

    port: int = setting(80, kind=WHOLE, ge=1, le=65535, help="Its number.")
    open: bool = setting(True, kind=SWITCH, help="Whether it is.")


class Wall(Settings, frozen=True):
    """Something that holds."""

    name: str = setting(required=True, help="Its name.")
    colour: str = setting("white", choices=("white", "grey"), help="Its colour.")


class Quota(Settings, frozen=True):
    """A bound, if any."""

    count: int = setting(5, kind=WHOLE, ge=1, help="How many.")


class House(Settings, frozen=True):
    """A house."""

    name: str = setting("home", help="Its name.")
    size: int = setting("10G", kind=SIZE, ge="1M", help="Its size.")
    rest: float = setting("60s", kind=DURATION, ge="1s", help="A pause.")
    cellar: Path = setting("./cellar", kind=PATH, help="Where the wine is.")
    tags: tuple[str, ...] = setting(["a"], kind=TEXTS, le=3, help="Words.")
    key: str | None = setting(secret=True, help="Opens the door.")
    labels: dict[str, str] = setting({}, kind=MAP, help="Notes.")
    door: Door = section(Door)
    quota: Quota | None = section(Quota, optional=True)
    walls: tuple[Wall, ...] = sections(Wall, [Wall(name="north"), Wall(name="south")], ge=1)

    def problems(self) -> Iterable[tuple[str, str]]:
        if self.name == "castle" and self.size < (1 << 40):
            yield "size", "is too small for a castle"


def load(
    file: str | None = None, *overrides: str, environ: dict[str, str] | None = None, at: Path | None = None
) -> House:
    if file is not None:
        assert at is not None
        (at / "house.yaml").write_text(file, encoding="utf-8")
    path = at / "house.yaml" if file is not None and at is not None else None
    return settings.load(House, path=path, overrides=overrides, environ=environ or {}, prefix="HOUSE__")


def problems(*args: Any, **more: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(*args, **more)
    return caught.value.problems


def test_nothing_given_is_the_defaults() -> None:
    assert load() == House()
    assert House().size == 10 << 30
    assert House().rest == 60.0
    assert House().cellar == Path("cellar")
    assert House().quota is None


def test_set_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    environ = {"HOUSE__DOOR__PORT": "82", "HOUSE__REST": "2m", "UNRELATED": "1"}
    house = load("size: 2M\nrest: 5s\ndoor: {port: 81}", "door.port=83", environ=environ, at=tmp_path)
    assert (house.size, house.rest, house.door.port, house.door.open) == (2 << 20, 120.0, 83, True)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("name=007", "name", "007"),
        ("name=null", "name", "null"),
        ("name=a=b", "name", "a=b"),
        ("door.open=false", "door", Door(open=False)),
        ("door={port: 9}", "door", Door(port=9)),
        ("tags=x, y", "tags", ("x", "y")),
        ("tags=[x]", "tags", ("x",)),
        ("tags=", "tags", ()),
        ("key=12345", "key", "12345"),
        ("key=null", "key", None),
        ("quota.count=7", "quota", Quota(count=7)),
        ("quota={}", "quota", Quota()),
        ("quota=null", "quota", None),
        ("labels={a: b}", "labels", {"a": "b"}),
        ("walls.1.colour=grey", "walls", (Wall(name="north"), Wall(name="south", colour="grey"))),
        ("walls.2.name=east", "walls", (Wall(name="north"), Wall(name="south"), Wall(name="east"))),
        ("walls=[{name: only}]", "walls", (Wall(name="only"),)),
    ],
)
def test_override_text_is_read_as_its_setting_wants(override: str, key: str, value: object) -> None:
    assert getattr(load(None, override), key) == value


def test_every_problem_is_reported_at_once_and_begins_with_its_key(tmp_path: Path) -> None:
    file = "size: 1K\ndoor: {port: 0, open: perhaps}\nwalls: [{colour: red}, {name: 1}]\ncelar: x\n"
    assert problems(file, "rest=soon", "noequals", environ={"HOUSE__QUOTA__COUNT": "0"}, at=tmp_path) == [
        "noequals: --set needs key.path=value",
        "size: must be at least 1M, not 1K",
        "rest: must be a duration such as 60s (ms, s, m, h, d), not 'soon' (--set)",
        "door.port: must be at least 1, not 0",
        "door.open: must be true or false, not 'perhaps'",
        "quota.count: must be at least 1, not 0 (environment HOUSE__QUOTA__COUNT)",
        "walls.0.name: must be given",
        "walls.0.colour: must be one of white, grey, not 'red'",
        "walls.1.name: must be text (put it in quotes), not 1",
        "celar: unknown setting; did you mean cellar?",
    ]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("door.prot=1", "door.prot: unknown setting; did you mean door.port? (--set)"),
        ("port=1", "port: unknown setting; did you mean door.port? (--set)"),
        ("zzz.yyy=1", "zzz: unknown setting (--set)"),
        ("walls.9.name=x", "walls.9.name: there is no member 9 (--set)"),
        ("walls=[]", "walls: must have at least 1 member"),
        ("tags=a,b,c,d", "tags: must have a length of at most 3, not 4 (--set)"),
        ("door=5", "door: must be a mapping of settings (--set)"),
        (
            "size=null",
            "size: must be a size such as 500G (K, M, G, T are powers of 1024), not 'null' (--set)",
        ),
        ("name=castle", "size: is too small for a castle"),
        ("name.first=x", "name: must be text (put it in quotes), not {'first': 'x'} (--set)"),
        ("=x", "--set: --set needs key.path=value"),
    ],
)
def test_problem_names_the_key(override: str, problem: str) -> None:
    assert problems(None, override) == [problem]


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("a: [", ":1:5: is no valid YAML: "),
        ("- a", ": must be a mapping of settings"),
        ("size: 1G\nsize: 2G", ":2:1: is no valid YAML: the key size is given twice"),
        ("door: {port: 1, port: 2}", ":1:17: is no valid YAML: the key port is given twice"),
        ("!!python/object:os.system {}", ":1:1: is no valid YAML: "),
        ("? [a]\n: b", ":1:3: is no valid YAML: a key must be text"),
    ],
)
def test_file_that_is_no_settings_file_is_refused(tmp_path: Path, file: str, problem: str) -> None:
    (found,) = problems(file, at=tmp_path)
    assert found.startswith(f"{tmp_path / 'house.yaml'}{problem}")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.yaml: cannot be read: No such file"):
        settings.load(House, path=tmp_path / "absent.yaml", overrides=[], environ={}, prefix="HOUSE__")


@pytest.mark.parametrize("file", ["", "# nothing\n", "door:\nquota:\n"])
def test_empty_file_or_group_is_the_defaults(tmp_path: Path, file: str) -> None:
    assert load(file, at=tmp_path) == House()


def test_secret_is_read_from_the_file_named(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("open sesame\n", encoding="utf-8")
    assert load(None, f"key_file={tmp_path / 'key'}").key == "open sesame"


def test_secret_given_twice_at_one_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x", encoding="utf-8")
    assert problems(f"key: y\nkey_file: {tmp_path / 'key'}", at=tmp_path) == [
        "key: give either this or key_file, not both"
    ]


def test_stronger_place_wins_between_a_secret_and_its_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from file", encoding="utf-8")
    by_file = f"key_file: {tmp_path / 'key'}"
    assert load(by_file, environ={"HOUSE__KEY": "from environment"}, at=tmp_path).key == "from environment"
    assert load("key: y", f"key_file={tmp_path / 'key'}", at=tmp_path).key == "from file"


def test_unreadable_secret_file_is_named(tmp_path: Path) -> None:
    (problem,) = problems(None, f"key_file={tmp_path / 'absent'}")
    assert problem == f"key_file: {tmp_path / 'absent'} cannot be read: No such file or directory (--set)"


def test_secret_is_neither_dumped_nor_echoed(tmp_path: Path) -> None:
    assert "hunter2" not in settings.dump(load(None, "key=hunter2"))
    assert problems("key: [hunter2]", at=tmp_path) == ["key: must be text"]


def test_dump_loads_as_the_same_settings(tmp_path: Path) -> None:
    house = load(
        None, "size=3M", "rest=90s", "quota.count=2", "labels={a: b}", "walls.0.colour=grey", "tags="
    )
    assert load(settings.dump(house), at=tmp_path) == house


def test_sample_loads_as_the_defaults_and_names_every_setting(tmp_path: Path) -> None:
    text = settings.sample(House, {"quota": {"count": 3}})
    assert load(text, at=tmp_path) == House()
    assert "# quota: {count: 3}" in text
    plain = yaml.safe_load(text)
    assert set(plain) == set(House.__struct_fields__)
    assert set(plain["door"]) == set(Door.__struct_fields__)


def test_description_has_a_row_for_every_setting_and_group() -> None:
    rows = {row.key: row for row in settings.describe(House)}
    assert list(rows) == [
        *("name", "size", "rest", "cellar", "tags", "key", "labels"),
        *(
            "door",
            "door.port",
            "door.open",
            "quota",
            "quota.count",
            "walls[]",
            "walls[].name",
            "walls[].colour",
        ),
    ]
    assert rows["door.port"][1:] == ("whole number; 1 to 65535", "80", "Its number.", False)
    assert rows["key"].kind == "text; or null; secret"
    assert rows["walls[].name"].default == "required"


def test_groups_are_frozen_and_refuse_unknown_names() -> None:
    with pytest.raises(AttributeError):
        House().name = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        House(nmae="x")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Wall()


def test_made_secret_is_private_kept_and_the_same_for_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "token"
    text, made = read_or_make_secret(path)
    assert made
    assert len(text) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_make_secret(path) == (text, False)
    assert [entry.name for entry in path.parent.iterdir()] == ["token"]


def test_empty_or_unreachable_secret_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="empty: is empty"):
        read_or_make_secret(tmp_path / "empty")
    with pytest.raises(SettingsError, match="cannot be read or made"):
        read_or_make_secret(tmp_path / "empty" / "below")

"""Filters and orders of lists, as SQL: the same rules as `origin.core.conditions` has for values at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from origin.core.conditions import Condition, Order, Sign

_SIGNS = {Sign.EQUAL: "=", Sign.AT_LEAST: ">=", Sign.AT_MOST: "<=", Sign.ABOVE: ">", Sign.BELOW: "<"}


def where(conditions: Sequence[Condition], columns: Mapping[str, str], given: dict[str, Any]) -> str:
    """Return " AND …" for each condition; its values are added to `given`, by name.

    columns  field → SQL expression; a field without one is null for all rows
    """
    return "".join(f" AND {_test(one, columns, i, given)}" for i, one in enumerate(conditions))


def _test(condition: Condition, columns: Mapping[str, str], place: int, given: dict[str, Any]) -> str:
    column = columns.get(condition.field, "NULL")
    names = []
    for i, value in enumerate(condition.values):
        given[f"c{place}_{i}"] = value
        names.append(f":c{place}_{i}")
    sign = condition.sign
    if sign in (Sign.IN, Sign.NOT_IN):
        test = f"{column} IN ({', '.join(names)})"
    elif sign in (Sign.LIKE, Sign.NOT_LIKE):
        test = f"{column} LIKE {names[0]}"
    elif sign is Sign.NOT_EQUAL:
        test = f"{column} = {names[0]}"
    else:
        return f"coalesce({column} {_SIGNS[sign]} {names[0]}, 0)"
    negative = sign in (Sign.NOT_IN, Sign.NOT_LIKE, Sign.NOT_EQUAL)
    return f"NOT coalesce({test}, 0)" if negative else f"coalesce({test}, 0)"


def order_by(order: Sequence[Order], columns: Mapping[str, str]) -> list[str]:
    """Return a key for each, nulls last either way."""
    keys = []
    for one in order:
        column = columns.get(one.field, "NULL")
        keys.append(f"{column} IS NULL, {column}{' DESC' if one.descending else ''}")
    return keys

"""The database's code on the nodes of a Citus cluster, for `verify`.

A distributed log has another shape: no guard triggers, functions that plan for each call, and another index for
the feed. That it is distributed is for Citus's own tables to say: a log on one server that has lost its triggers stays
a problem.

Each node has the functions, the log's tables, and shards: tables in which it stores their rows. An administrator of one
node may change these there alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.distribution import COPIED, DISTRIBUTED

__all__ = ["Distribution", "Node", "distributed_code", "read_distribution", "read_nodes"]

#: What Citus does not allow on a distributed table or with a distributed function; `setup(citus=True)` drops it.
_GUARDS = ("trigger events_immutable on ", "trigger events_not_truncated on ", "trigger streams_lost on ")

#: The setting that a function with settings has there, and the one that it has in place of on one server.
_PLANS, _GENERIC_PLANS = "plan_cache_mode=force_custom_plan", "plan_cache_mode=force_generic_plan"

#: A function's facts, cut behind its settings.
_FUNCTION = re.compile(r"(language .*?)(, (?:arguments|returns) .*)")


@dataclass(frozen=True, slots=True)
class Distribution:
    """How the log is distributed."""

    shards: dict[str, str]
    """The log's tables by the names of their shards."""
    problems: list[str]
    """Tables that are not distributed as they should be."""


class Node(NamedTuple):
    """A node's code."""

    name: str
    """Host and port."""
    is_here: bool
    """Whether it is the node that the client is connected to."""
    rows: list[list[Any]]
    """As the statement `verify_code` returns them."""
    error: str | None
    """Why it did not say."""


def distributed_code(always: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """The facts of a distributed log's objects, from those of a log on one server."""
    found = {key: {"facts": _planned(each["facts"])} for key, each in always.items() if not key.startswith(_GUARDS)}
    # The feed's index: a transaction id belongs to the node that a position's highest bits name.
    del found["index events_tail_idx on events"]
    return found | {"index events_origin_idx on events": {"facts": 'btree, of ("position" >> 48) xid "position"'}}


def _planned(facts: str) -> str:
    """The facts of a function that plans for each call."""
    match = _FUNCTION.fullmatch(facts)
    if match is None:
        return facts
    before, after = match.groups()
    if _GENERIC_PLANS in before:
        return before.replace(_GENERIC_PLANS, _PLANS) + after
    return f"{before}, {_PLANS}{after}" if "=" in before else facts


def read_distribution(statements: Statements) -> Op[Distribution | None]:
    """How the log is distributed; None: it is not."""
    if not (yield Query(statements["citus_version"])):
        return None
    methods = {name: method for name, method, *_ in (yield Query(statements["citus_tables"], (statements.schema,)))}
    if not any(methods.get(name) for name in DISTRIBUTED):
        return None
    expected = {**dict.fromkeys(DISTRIBUTED, "h"), **dict.fromkeys(COPIED, "n")}
    problems = [
        f"table {name} is not distributed {'by thread' if method == 'h' else 'to all nodes'}"
        for name, method in expected.items()
        if name in methods and methods[name] != method
    ]
    return Distribution({shard: name for name, shard in (yield Query(statements["verify_shards"]))}, problems)


def read_nodes(statements: Statements) -> Op[list[Node]]:
    """The code of all nodes."""
    rows = yield Query(statements["verify_nodes"], (statements["verify_code"].decode(),))
    return [
        Node(
            name,
            is_here,
            [list(each.values()) for each in json.loads(said)] if is_read else [],
            None if is_read else said,
        )
        for name, is_read, said, is_here in rows
    ]

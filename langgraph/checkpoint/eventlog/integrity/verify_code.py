"""Verifying the database's own code: functions, triggers, tables and row security must be those of this version.

Digests do not cover the function with which a saver reads. An owner who replaces it, hides a table by row security or
puts a view in its place shows readers another log. ``sql/code.json`` lists the objects that `setup()` makes, without
the sources of functions, which are in their scripts; `make schema` writes it, and a test compares it.

The catalogue is read through the server. If you do not trust its administrator, verify a restored base backup on your
own server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements, sql_root
from langgraph.checkpoint.eventlog.integrity.chain import Problem
from langgraph.checkpoint.eventlog.integrity.verify_nodes import distributed_code, read_distribution, read_nodes

__all__ = ["OTHER_VERSION", "PARTITION", "verify_code"]

#: The name under which facts of partitions are compared: all partitions are alike.
PARTITION = "a partition"

OTHER_VERSION = (
    "the database's code: another version of this package set it up, so it was not compared: verify with that version, "
    "or run setup()"
)

_SOURCE = re.compile(
    r'create (?:or replace )?function "(?:[^"]|"")+"\.(\w+)\s*\(.*?as \$function\$(.*?)\$function\$', re.DOTALL
)


@cache
def _expected() -> dict[str, dict[str, dict[str, str]]]:
    """Facts by kind and name: under ``always``, and under ``subscriber`` those that only a subscriber has."""
    found: dict[str, dict[str, dict[str, str]]] = json.loads(
        sql_root().joinpath("code.json").read_text(encoding="utf-8")
    )
    return found


def _sources(statements: Statements) -> dict[str, str]:
    """The source of each function, by name."""
    return {name: source for script in statements.scripts for name, source in _SOURCE.findall(script.text)}


def verify_code(statements: Statements) -> Op[list[Problem]]:
    """Differences from the objects of this version. Another version's code is not compared, which is a problem too."""
    applied = {name: checksum for name, checksum, _ in (yield Query(statements["applied_scripts"]))}
    if applied != {script.name: script.checksum for script in statements.scripts}:
        return [Problem("", "", 0, OTHER_VERSION)]
    distribution = yield from read_distribution(statements)
    always, subscriber = _expected()["always"], _expected()["subscriber"]
    if distribution is not None:
        always = distributed_code(always)
    rows = yield Query(statements["verify_code"])
    problems = _compare(statements, rows, always, subscriber)
    if distribution is not None:
        problems += distribution.problems
        for node in (yield from read_nodes(statements)):
            if node.error is not None:
                problems.append(f"node {node.name} does not say what it has: {node.error}")
                continue
            shards = {own_name for _, _, own_name, _, _ in node.rows} & distribution.shards.keys()
            found = _compare_shards([row for row in node.rows if row[2] in shards], distribution.shards, always)
            if not node.is_here:
                found += _compare(statements, [row for row in node.rows if row[2] not in shards], always, subscriber)
            problems += [f"{each} (on node {node.name})" for each in found]
    return [Problem("", "", 0, f"the database's code: {each}") for each in sorted(problems)]


def _compare(
    statements: Statements,
    rows: Iterable[Sequence[Any]],
    always: Mapping[str, Mapping[str, str]],
    subscriber: Mapping[str, Mapping[str, str]],
) -> list[str]:
    sources = _sources(statements)
    problems: list[str] = []
    found: dict[tuple[str, str], set[str | None]] = {}
    for kind, name, own_name, facts, source in rows:
        # A subscriber's partitions have its table's trigger.
        of_table = f"{kind} {name.replace(PARTITION, 'events')}"
        expected = always.get(f"{kind} {name}") or subscriber.get(f"{kind} {name}") or subscriber.get(of_table)
        shown = name.replace(PARTITION, own_name) if own_name else name
        is_again = (own_name if PARTITION in name else None) in found.setdefault((kind, name), set())
        found[kind, name].add(own_name if PARTITION in name else None)
        if expected is None or is_again:
            if not _changes_nothing(kind, name, facts, always):
                problems.append(f"{kind} {shown} was not made by this version")
        elif facts != expected["facts"]:
            problems.append(f"{kind} {shown} was altered: {_difference(expected['facts'], facts)}")
        elif kind == "function" and source != sources.get(name):
            problems.append(f"function {shown} was altered: its source is another one")
    partitions = found.get(("relation", PARTITION), set())
    for key in always:
        kind, _, name = key.partition(" ")
        there = found.get((kind, name), set())
        if kind == "trigger" and PARTITION in name:
            problems += [
                f"trigger {name.replace(PARTITION, str(each))} is missing"
                for each in sorted(map(str, partitions - there))
            ]
        elif not there and name != PARTITION:
            problems.append(f"{kind} {name} is missing")
    return problems


def _compare_shards(
    rows: Iterable[Sequence[Any]], shards: Mapping[str, str], always: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Compare the tables in which a node stores rows with the log's tables: they are alike but for their names."""
    problems: list[str] = []
    found: dict[str, set[str]] = {}
    for kind, name, shard, facts, _ in rows:
        table = shards[shard]
        base = table if f"relation {table}" in always else PARTITION
        if kind == "table":
            # The shards of partitions.
            if base != "events" or name.partition(" inheriting from ")[0].rpartition(".")[2] not in shards:
                problems.append(f"{kind} {name} was not made by this version")
            continue
        key = f"{kind} {base}"
        if kind != "relation":
            key = f"{kind} {name.rpartition(' on ')[0].removesuffix(shard.removeprefix(table))} on {base}"
        found.setdefault(shard, set()).add(key)
        shown = name.replace(PARTITION, shard)
        # What numbers the events is with the log's table.
        expected = always[key]["facts"].replace(" identity a", "") if key in always else None
        if expected is None:
            if not _changes_nothing(kind, key.partition(" ")[2], facts, always):
                problems.append(f"{kind} {shown} was not made by this version")
        elif facts != expected:
            problems.append(f"{kind} {shown} was altered: {_difference(expected, facts)}")
    for shard, keys in found.items():
        needed = {key for key in always if key.endswith(f" on {shards[shard]}")}
        problems += [f"{key} is missing for its shard {shard}" for key in sorted(needed - keys)]
    return problems


def _changes_nothing(kind: str, name: str, facts: str, always: Mapping[str, object]) -> bool:
    """Whether an object that this version does not make leaves the log's reads and writes unchanged.

    Every name in the log's code is qualified. So a table or view of the user's own changes nothing, nor do the objects
    on it. An index that refuses no row changes nothing either, nor does a function of an extension in the same schema,
    unless it has the name of one of the log's functions.
    """
    if kind == "relation":
        return True
    if kind == "function":
        return "of extension " in facts and f"function {name}" not in always
    if kind == "table":
        return f"relation {name.split(' inheriting from ')[1]}" not in always
    is_of_ours = f"relation {name.rsplit(' on ', 1)[1]}" in always
    return not is_of_ours or (kind == "index" and not facts.startswith("unique"))


def _difference(expected: str, found: str) -> str:
    """The facts that differ from the expected ones."""
    before, after = expected.split(", "), found.split(", ")
    more = [each for each in after if each not in before] or [f"not {each}" for each in before if each not in after]
    return ", ".join(more)

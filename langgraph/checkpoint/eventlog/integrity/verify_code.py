"""Verifying the database's own code: that functions, triggers, tables and what hides rows are those of this version.

Digests say nothing of the function that a saver reads with: an owner who replaces it, hides a table by row security or
puts a view in its place shows readers another log. ``sql/code.json`` has what `setup()` makes, without the sources of
functions, which are in their scripts; `make schema` writes it, and a test compares it.

The catalogue is read through the server. Where its administrator is not to be trusted, verify a restored base backup on
a server of one's own.
"""

from __future__ import annotations

import json
import re
from functools import cache

from eventlog.db import statements as _scripts
from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from langgraph.checkpoint.eventlog.integrity.chain import Problem

__all__ = ["OTHER_VERSION", "PARTITION", "verify_code"]

#: What the facts of partitions are called: these are all alike.
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
    """Facts by kind and name, under ``always`` and, of what a subscriber has besides, under ``replica``."""
    found: dict[str, dict[str, dict[str, str]]] = json.loads(
        _scripts._root().joinpath("code.json").read_text(encoding="utf-8")
    )
    return found


def _sources(statements: Statements) -> dict[str, str]:
    """The source of each function, by name."""
    return {name: source for script in statements.scripts for name, source in _SOURCE.findall(script.text)}


def verify_code(statements: Statements) -> Op[list[Problem]]:
    """What differs from what this version ships. Another version's code is not compared, which is a problem too."""
    applied = {name: checksum for name, checksum, _ in (yield Query(statements["applied_scripts"]))}
    if applied != {script.name: script.checksum for script in statements.scripts}:
        return [Problem("", "", 0, OTHER_VERSION)]
    rows = yield Query(statements["verify_code"], {"schema": statements.schema})
    always, replica, sources = _expected()["always"], _expected()["replica"], _sources(statements)
    problems: list[str] = []
    found: dict[tuple[str, str], set[str | None]] = {}
    for kind, name, own_name, facts, source in rows:
        # A subscriber's partitions have its table's trigger.
        of_table = f"{kind} {name.replace(PARTITION, 'events')}"
        expected = always.get(f"{kind} {name}") or replica.get(f"{kind} {name}") or replica.get(of_table)
        shown = name.replace(PARTITION, own_name) if own_name else name
        is_again = (own_name if PARTITION in name else None) in found.setdefault((kind, name), set())
        found[kind, name].add(own_name if PARTITION in name else None)
        if expected is None or is_again:
            # A table of the user's own changes nothing: every name in the log's code says which one it means.
            if kind != "relation":
                problems.append(f"{kind} {shown} is none that this version makes")
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
    return [Problem("", "", 0, f"the database's code: {each}") for each in sorted(problems)]


def _difference(expected: str, found: str) -> str:
    """The facts that are not the expected ones."""
    before, after = expected.split(", "), found.split(", ")
    more = [each for each in after if each not in before] or [f"not {each}" for each in before if each not in after]
    return ", ".join(more)

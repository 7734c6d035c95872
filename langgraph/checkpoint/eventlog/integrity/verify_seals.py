"""Verifying the seals: each seal's digest, its place in the chain, the changes that it names.

`langgraph.checkpoint.eventlog.integrity.verify_streams` compares each stream's events with the seals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError, ProofError
from eventlog.seals import NO_DIGEST, Seal, SignedSeal, digest_of, read_changes, read_root
from eventlog.streams import Stream
from langgraph.checkpoint.eventlog.integrity.chain import MOST_PROBLEMS, Problem
from langgraph.checkpoint.eventlog.integrity.signed import read_signed_seal
from langgraph.checkpoint.eventlog.integrity.verify_ends import verify_ends
from langgraph.checkpoint.eventlog.integrity.verify_streams import successor

__all__ = ["Anchor", "anchor_of", "verify_names", "verify_seals"]

#: Seals that are in memory at a time.
PAGE = 500

_ANCHOR = re.compile("(?:([0-9]{1,18}):)?([0-9a-fA-F]{64})")


class Anchor(NamedTuple):
    """A seal that was kept elsewhere."""

    number: int | None
    """Its number, if that was kept too."""
    digest: bytes
    document: SignedSeal | None = None
    """The content of its document, if it is signed."""


def anchor_of(value: Any, public_key: Any = None) -> Anchor:
    """A seal's digest in hex, or its number and digest with a colon between, or a signed document with its key.

    Raises:
        InvalidInputError: for anything else.
        ProofError: when the document was altered, or is of another key.
    """
    if isinstance(value, (bytes, Mapping)) or (isinstance(value, str) and value.lstrip().startswith("{")):
        if public_key is None:
            raise InvalidInputError("a signed seal needs public_key, the key of its signer, to be checked")
        document = read_signed_seal(value, public_key)
        return Anchor(document.number, document.digest, document)
    if public_key is not None:
        raise InvalidInputError("public_key is for a signed seal: give its document as seal")
    match = _ANCHOR.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise InvalidInputError(
            "seal must be a seal's digest, 64 characters in hex, its number and its digest, '12:5f0c…', or a signed "
            "seal, a JSON object"
        )
    return Anchor(None if match[1] is None else int(match[1]), bytes.fromhex(match[2]))


def check_log(statements: Statements, anchor: Anchor) -> Op[None]:
    """Check that a signed seal is of this log. Raises ProofError."""
    if anchor.document is not None:
        names = [bytes(log_id) for (log_id,) in (yield Query(statements["log_id"]))]
        if names != [anchor.document.log_id]:
            found = ", ".join(each.hex() for each in names) or "no id"
            raise ProofError(
                f"the seal is of log {anchor.document.log_id.hex()}, and this one is {found}: connect to that log, or "
                "give a seal of this one"
            )


def verify_seals(statements: Statements, anchor: Anchor | None) -> Op[tuple[int, list[Problem]]]:
    """Verify all seals; returns their number and the problems.

    The tree over all streams is computed again for the last seal and for the anchor; the tree over changes for each.

    Args:
        anchor: a seal that was kept elsewhere, which must be one of them.
    """
    problems: list[Problem] = []
    last: Seal | None = None
    count = 0
    is_found = False
    partitions, wrong = yield from _verify_partitions(statements)
    problems += wrong
    while True:
        rows = yield Query(statements["verify_seals"], {"after": last.number if last else -(1 << 63), "rows": PAGE})
        for row in rows:
            seal = Seal(row[0], row[-1], *row[1:-1])
            problems += yield from _verify(statements, seal, last)
            problems += _compare_partitions(seal, partitions)
            if anchor is not None and seal.digest == anchor.digest and seal.number == (anchor.number or seal.number):
                is_found = True
                if anchor.document is not None and anchor.document[1:] != tuple(
                    getattr(seal, name) for name in SignedSeal._fields[1:]
                ):
                    problems.append(_problem("its row in `seals` is not what its signed document says", seal.number))
                problems += yield from _verify_root(statements, seal)
            last = seal
            count += 1
        if len(rows) < PAGE:
            break
    if last is not None:
        problems += yield from _verify_root(statements, last)
    if anchor is not None and not is_found:
        number, digest, _ = anchor
        what = "the log does not have it: the log was replaced, or its seals were"
        problems.append(_problem(f"seal {'' if number is None else number}:{digest.hex()}: {what}", number))
    problems += yield from verify_ends(statements)
    return count, list(dict.fromkeys(problems))


def _verify(statements: Statements, seal: Seal, last: Seal | None) -> Op[list[Problem]]:
    problems = []
    if seal.number != (last.number if last else 0) + 1:
        problems.append(_problem("the seal before it is missing", seal.number))
    elif seal.previous != (last.digest if last else NO_DIGEST):
        problems.append(_problem("its previous digest is not that of the seal before it", seal.number))
    if digest_of(seal) != seal.digest:
        problems.append(_problem("the seal was altered", seal.number))
    changes = yield from read_changes(statements, seal.number)
    if (changes.size, changes.root()) != (seal.changed, seal.changes):
        problems.append(_problem("the list of streams that had changed was altered", seal.number))
    return problems


#: Partitions by name, as in seals: beginning, end, the times when it was made and dropped, its archive.
_Partitions: TypeAlias = "dict[str, tuple[str, str, str, str, str]]"


def _verify_partitions(statements: Statements) -> Op[tuple[_Partitions, list[Problem]]]:
    """The partitions by their rows, and the rows that differ from the database's tables."""
    partitions: _Partitions = {}
    problems = []
    for name, *times, dropped_at, archive, is_there, overlapping in (yield Query(statements["verify_partitions"])):
        partitions[name] = (*times, dropped_at, archive)
        if is_there and dropped_at != "-":
            problems.append(_problem(f"`partitions` says that {name} was dropped, and it is there", None))
        elif not is_there and dropped_at == "-":
            problems.append(
                _problem(f"partition {name} is gone, and `partitions` does not say that it was dropped", None)
            )
        if overlapping is not None:
            problems.append(_problem(f"`partitions` has {name} and {overlapping} for the same time", None))
    return partitions, problems


def _compare_partitions(seal: Seal, partitions: _Partitions) -> list[Problem]:
    problems = []
    for line in seal.partitions.splitlines():
        if line.count(" ") < 5:
            continue  # It was altered, as the seal's digest shows.
        name, *times, dropped_at, archive = line.rsplit(" ", 5)
        found = partitions.get(name)
        if found is None:
            problems.append(_problem(f"`partitions` has no row for {name}, which was sealed", seal.number))
        elif found[:3] != tuple(times) or (dropped_at, archive) not in (("-", "-"), found[3:]):
            problems.append(_problem(f"`partitions` has another row for {name} than was sealed", seal.number))
    return problems


def _verify_root(statements: Statements, seal: Seal) -> Op[list[Problem]]:
    tree = yield from read_root(statements, seal.number)
    if (tree.size, tree.root()) == (seal.streams, seal.root):
        return []
    return [_problem("the list of sealed streams was altered", seal.number)]


def _problem(what: str, seal: int | None) -> Problem:
    return Problem("", "", 0, what, seal)


def verify_names(statements: Statements, threads: list[str] | None) -> Op[list[Problem]]:
    """Streams that share a name.

    Args:
        threads: only their streams, and also those that were sealed under another name; None: all.
    """
    rows = yield Query(statements["verify_names"], {"threads": threads, "rows": MOST_PROBLEMS})
    problems = [Problem(*row) for row in rows]
    for thread_id in threads or ():
        ns = ""
        while True:
            rows = yield Query(statements["verify_named"], {"thread": thread_id, "ns": ns, "rows": PAGE})
            for _, ns, seq, name in rows:
                ((sealed,),) = yield Query(statements["find_stream_name"], (thread_id, ns))
                if sealed not in (None, name) and len(problems) < MOST_PROBLEMS:
                    problems.append(Problem(thread_id, ns, seq, "it was sealed under another name"))
            if len(rows) < PAGE:
                break
            ns = successor(Stream(thread_id, ns)).checkpoint_ns
    return sorted(problems, key=lambda each: each[:2])

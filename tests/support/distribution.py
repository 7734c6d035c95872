"""The rules that keep the log distributable by thread, as Citus does it: what a statement may do, told from its text.

A function on one thread runs whole on the node that has the thread, if each of its statements says which thread; a
statement over many threads is split into one for each shard, if that gives the same. Each rule is an error that Citus
13.2 gave for an earlier version of a statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pglast import ast, enums, parse_plpgsql, parse_sql
from pglast.parser import ParseError
from pglast.visitors import Visitor

__all__ = ["DISTRIBUTED", "function_problems", "problems", "query_text"]

#: The tables that are distributed by thread.
DISTRIBUTED = frozenset({"checkpoints", "events", "snapshots", "streams"})

#: The clauses of a modifying statement in which a function must be immutable.
_CLAUSES = ("targetList", "whereClause", "returningClause", "onConflictClause")
#: Named as functions that are not immutable for each of their types, but for those of the log's columns.
_IMMUTABLE = frozenset({"lower", "upper", "max", "min", "text"})

_PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[sbt]")
#: The parser knows the types of pg_catalog alone.
_TYPE = re.compile(r'"?\b(\w+)"?\.(append_call\b(\[\])?|event_kind\b)')


def query_text(text: str) -> str:
    """A query of ``sql/queries`` as PostgreSQL's parser takes it: with numbered parameters."""
    numbers = iter(range(1, 1000))
    numbered = _PLACEHOLDER.sub(lambda _: f"${next(numbers)}", text)
    return re.sub(
        r"\{(\w+)\}",
        lambda part: "true" if part[1] == "where" else f"a_{part[1]}",
        numbered.replace("%%", "%").replace("{{", "{").replace("}}", "}"),
    )


def function_problems(definition: str, volatile: frozenset[str]) -> Iterator[str]:
    """What stands in the way in a PL/pgSQL function on one thread, or on the log."""
    tree = parse_plpgsql(
        _TYPE.sub(lambda each: "text[]" if each[3] else "smallint" if "kind" in each[2] else "record", definition)
    )
    for statement in _statements(tree):
        yield from problems(
            statement, volatile, is_on_thread=re.search(r"\(p_thread_id text\b", definition) is not None
        )


def problems(text: str, volatile: frozenset[str], *, is_on_thread: bool = False) -> Iterator[str]:
    """What stands in the way in one statement.

    Args:
        volatile: the names of functions that are not immutable.
        is_on_thread: whether it must say which thread it is about.
    """
    found = _Found()
    for statement in parse_sql(text):
        found(statement)
    tables = sorted(found.tables & DISTRIBUTED)
    if not tables:
        return
    if is_on_thread and not found.is_on_thread:
        yield f"reads {', '.join(tables)} of all threads"
    if catalogs := sorted(name for name in found.tables if name.startswith("pg_")):
        yield f"joins {', '.join(tables)} with {', '.join(catalogs)}, which each node has for itself"
    if found.locks and not found.is_on_thread:
        yield "locks rows of many threads"
    if found.is_recursive and not found.is_on_thread:
        yield "is recursive over many threads"
    for statement in found.changes:
        if statement.relation.relname in DISTRIBUTED:
            for clause in _CLAUSES:
                for name in sorted(_called(getattr(statement, clause, None)) & volatile - _IMMUTABLE):
                    yield f"calls {name}, which is not immutable, in its {clause}"


def _statements(node: Any) -> Iterator[str]:
    """The statements of a PL/pgSQL function that read or write tables."""
    if isinstance(node, dict):
        if "PLpgSQL_expr" in node:
            text = node["PLpgSQL_expr"]["query"]
            try:
                parse_sql(text)
            except ParseError:
                # An expression, or the assignment of one.
                text = f"select {text.partition(':=')[2] or text}"
            yield text
        else:
            yield from _each(node.values())
    elif isinstance(node, list):
        yield from _each(node)


def _each(nodes: Iterable[Any]) -> Iterator[str]:
    for node in nodes:
        yield from _statements(node)


def _called(node: Any) -> set[str]:
    if node is None:
        return set()
    found = _Found()
    found(node)
    return found.functions


def _is_value(node: Any) -> bool:
    """Whether a value is known before the statement runs: a parameter or a variable."""
    if isinstance(node, ast.TypeCast):
        return _is_value(node.arg)
    if isinstance(node, ast.ColumnRef):
        return len(node.fields) == 1 or node.fields[0].sval.startswith("v_")
    return isinstance(node, ast.ParamRef)


class _Found(Visitor):  # type: ignore[misc]
    """What a statement has."""

    def __init__(self) -> None:
        self.tables: set[str] = set()
        self.functions: set[str] = set()
        self.changes: list[Any] = []
        self.locks = self.is_recursive = self.is_on_thread = False

    def visit_RangeVar(self, _: Any, node: Any) -> None:
        self.tables.add(node.relname)

    def visit_FuncCall(self, _: Any, node: Any) -> None:
        self.functions.add(node.funcname[-1].sval)

    def visit_SQLValueFunction(self, _: Any, node: Any) -> None:
        self.functions.add("session_user")

    def visit_LockingClause(self, _: Any, node: Any) -> None:
        self.locks = True

    def visit_WithClause(self, _: Any, node: Any) -> None:
        self.is_recursive = self.is_recursive or bool(node.recursive)

    def visit_UpdateStmt(self, _: Any, node: Any) -> None:
        self.changes.append(node)

    def visit_DeleteStmt(self, _: Any, node: Any) -> None:
        self.changes.append(node)

    def visit_InsertStmt(self, _: Any, node: Any) -> None:
        self.changes.append(node)
        names = [column.name for column in node.cols or ()]
        if "thread_id" in names and node.selectStmt is not None:
            place = names.index("thread_id")
            chosen = node.selectStmt.valuesLists or [[each.val for each in node.selectStmt.targetList]]
            self.is_on_thread = self.is_on_thread or all(_is_value(row[place]) for row in chosen)

    def visit_A_Expr(self, _: Any, node: Any) -> None:
        if node.kind == enums.A_Expr_Kind.AEXPR_OP and node.name[-1].sval == "=":
            for column, value in ((node.lexpr, node.rexpr), (node.rexpr, node.lexpr)):
                if isinstance(column, ast.ColumnRef) and column.fields[-1].sval == "thread_id" and _is_value(value):
                    self.is_on_thread = True

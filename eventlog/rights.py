"""Sets of rights: what a database role may do with the log.

Only the log's owner may insert, update or delete in its tables. A set of rights grants a role functions, which run with
the owner's rights, and tables to read. Setup creates no roles. The log remembers which role was granted which set, so
that a new version's functions reach the roles that hold the set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, get_args

from psycopg import errors as pg
from psycopg import sql

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError, MissingGrantError
from eventlog.logger import logger
from eventlog.partitions import check_owner

__all__ = ["Rights", "check_grants", "grant_rights", "renew_grants", "warn_of_open_schemas"]

Rights: TypeAlias = Literal["writer", "eraser", "sealer", "auditor", "projector", "importer"]


def check_grants(grant: Any) -> list[tuple[Rights, str]]:
    """Validate the argument of `setup(grant=…)`: for each set of rights a role, or several.

    Raises InvalidInputError, naming the sets that exist.
    """
    if not isinstance(grant, Mapping):
        raise InvalidInputError(f"grant must map sets of rights to roles, not {grant!r}")
    checked = []
    for rights, roles in grant.items():
        if rights not in get_args(Rights):
            raise InvalidInputError(f"there is no set of rights {rights!r}: {', '.join(get_args(Rights))}")
        for role in [roles] if isinstance(roles, str) else roles if isinstance(roles, Iterable) else [None]:
            if not isinstance(role, str) or not role or "\0" in role:
                raise InvalidInputError(f"grant[{rights!r}] must be the name of a role, or a list of names: {roles!r}")
            checked.append((rights, role))
    return checked


def grant_rights(statements: Statements, rights: Rights, role: str, views_schema: str) -> Op[None]:
    """Grant a set of rights to a role, and remember it. Run it in one transaction.

    Raises InvalidInputError if the role does not exist, MissingGrantError as `EventLog.grant`.
    """
    owner = yield from check_owner(statements, "grant rights on it")
    try:
        yield from _grant(statements, owner, rights, role, views_schema)
    except pg.UndefinedObject as exc:
        raise InvalidInputError(f"role {role!r} does not exist: an administrator has to create it first") from exc
    logger.info("eventlog.granted", rights=rights, role=role, schema=statements.schema)


def renew_grants(statements: Statements, views_schema: str) -> Op[None]:
    """Repeat the remembered grants that are missing, after an upgrade or a restore. Only the owner's setup does.

    Raises MissingGrantError if the user may not create the schema of the projections' views.
    """
    ((is_owner, owner),) = yield Query(statements["owner"])
    if is_owner:
        yield from _grant(statements, owner, None, None, views_schema)


def _grant(statements: Statements, owner: str, rights: Rights | None, role: str | None, views_schema: str) -> Op[None]:
    try:
        yield Query(statements["grant_rights"], (rights, role, views_schema))
    except pg.InsufficientPrivilege as exc:
        views = sql.Identifier(views_schema).as_string(None)
        raise MissingGrantError(
            f"the log's owner may not create or grant schema {views}, for the views of projections. Let an "
            f'administrator run: create schema {views} authorization "{owner}"'
        ) from exc


def warn_of_open_schemas(statements: Statements) -> Op[None]:
    """Warn about schemas on the search path in which every user may create functions and operators."""
    for schema, is_first in (yield Query(statements["open_schemas"])):
        logger.warning(
            "eventlog.open_schema",
            schema=schema,
            is_before_pg_catalog=is_first,
            advice=f"revoke create on schema {sql.Identifier(schema).as_string(None)} from public",
        )

"""docs/explanation/tour.md is true today: the two calls pass through the functions that it names, in that order."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from psycopg_pool import ConnectionPool

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.project.test_docs import CHECKOUT, DOCS
from tests.saver.test_call_paths import converse
from tests.support.checkpoints import config_of
from tests.support.tracer import Trace, trace

PAGE = (DOCS / "explanation" / "tour.md").read_text()

#: Where a call passes on its way everywhere, and which the page need not name.
PASSED = {"eventlog/streams.py"}


def stations(heading: str) -> list[tuple[str, str]]:
    """File and function of each row of a section's table, in order."""
    (section,) = (each for each in PAGE.split("\n## ") if each.startswith(heading))
    return re.findall(r"^\| \d+ \| `([\w/]+\.py)` \| `(\w+)` \|", section, re.MULTILINE)


@pytest.fixture
def uri(database_uri: str) -> str:
    return database_uri


@pytest.fixture
def saver(uri: str) -> Iterator[EventLogSaver]:
    with ConnectionPool(uri, min_size=1, kwargs={"autocommit": True}) as pool:
        yield EventLogSaver(pool)


def assert_leads_through(named: list[tuple[str, str]], way: Trace) -> None:
    assert len(named) > 10
    passed = [(file, name) for file, name, _ in way.functions]
    assert [each for each in named if each not in passed] == [], way
    order = [passed.index(each) for each in named]
    assert order == sorted(order), way
    assert set(way.files) - {file for file, _ in named} - PASSED == set(), way


def test_a_put_leads_through_what_the_tour_names(saver: EventLogSaver) -> None:
    assert_leads_through(stations("One `put`"), converse(saver, 20))


def test_a_get_tuple_leads_through_what_the_tour_names(saver: EventLogSaver, uri: str) -> None:
    """By a saver that does not know the thread, as after a restart."""
    converse(saver, 20)
    with ConnectionPool(uri, min_size=1, kwargs={"autocommit": True}) as pool:
        reader = EventLogSaver(pool)
        reader.get_tuple(config_of("another"))  # The first call composes the statement.
        way = trace(lambda: reader.get_tuple(config_of()))
    assert_leads_through(stations("One `get_tuple`"), way)


@pytest.mark.lint
def test_the_map_shows_what_is_there() -> None:
    """No folder and no module that is not there, and all packages."""
    shown = dict(re.findall(r"^\| `([\w/]+/)` \| (.+?) \|", PAGE.partition("## The map")[2], re.MULTILINE))
    packages = ("eventlog", "snapshots", "projections", "langgraph/checkpoint/eventlog")
    folders: dict[str, set[str]] = {}
    for package in packages:
        for path in (CHECKOUT / package).rglob("*.py"):
            if path.name not in ("__init__.py", "__main__.py"):
                folders.setdefault(f"{path.parent.relative_to(CHECKOUT)}/", set()).add(path.stem)
    assert {f"{package}/" for package in packages} <= shown.keys() <= folders.keys()
    for folder, modules in shown.items():
        assert set(re.findall(r"`(\w+)`", modules)) <= folders[folder], folder

"""`examples/fastapi`, with two uvicorn workers, driven over HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from langgraph.checkpoint.eventlog import EventLog
from tests.examples.servers import EXAMPLES, PATIENCE, free_port, running_server
from tests.support.server import Server

ADA, BOB = {"X-User": "Ada"}, {"X-User": "Bob"}
PAID = {"pay": {"outcome": "20 euros paid"}}


@pytest.fixture(scope="module")
def service(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URL of the service, and the connection string of its database, which is empty at first."""
    name = server.create_database(prefix="fastapi")
    uri = server.saver_uri(name)
    port, log = free_port(), tmp_path_factory.mktemp("fastapi") / "server.log"
    command = [sys.executable, "-m", "uvicorn", "app:app", "--workers", "2", "--host", "127.0.0.1", "--port", str(port)]
    with running_server(
        command, port, "/health", folder=EXAMPLES / "fastapi", log=log, env={"EVENTLOG_DSN": uri}
    ) as url:
        yield url, uri
    server.drop_database(name)


@pytest.fixture
async def client(service: tuple[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """Each request has a connection of its own, so that any worker may get it."""
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=service[0], timeout=PATIENCE, limits=limits) as opened:
        yield opened


@pytest.fixture
def log(service: tuple[str, str]) -> Iterator[EventLog]:
    with EventLog.from_conn_string(service[1]) as opened:
        yield opened


async def run(client: httpx.AsyncClient, path: str, headers: dict[str, str], **body: Any) -> list[tuple[str, Any]]:
    """The events of a run."""
    async with client.stream("POST", path, headers=headers, json=body or None) as response:
        return await events_of(response)


async def events_of(response: httpx.Response) -> list[tuple[str, Any]]:
    """The name and the data of each, up to the end of the stream."""
    response.raise_for_status()
    assert response.headers["content-type"].startswith("text/event-stream")
    text = (await response.aread()).decode()
    events = [dict(line.split(": ", 1) for line in event.splitlines()) for event in text.split("\n\n") if event]
    return [(event["event"], json.loads(event["data"])) for event in events]


async def asked(client: httpx.AsyncClient, thread_id: str) -> list[tuple[str, Any]]:
    """A thread that waits for an answer."""
    return await run(client, f"/threads/{thread_id}/refund", ADA, order="17")


async def get(client: httpx.AsyncClient, path: str) -> Any:
    response = await client.get(path)
    response.raise_for_status()
    return response.json()


async def test_a_run_streams_and_waits_for_a_named_person(client: httpx.AsyncClient, log: EventLog) -> None:
    question = {"question": "Refund 20 euros for order 17?"}
    assert await asked(client, "named") == [
        ("progress", "looking up order 17"),
        ("update", {"assess": {"euros": 20}}),
        ("question", question),
        ("end", None),
    ]
    assert await get(client, "/threads/named") == {
        "values": {"order": "17", "euros": 20},
        "next": ["approve"],
        "questions": [question],
    }

    assert await run(client, "/threads/named/answer", BOB, approved=True) == [
        ("update", {"approve": {"approved": True}}),
        ("update", PAID),
        ("end", None),
    ]
    history = await get(client, "/threads/named/history")
    assert [each["by"] for each in history] == ["Bob", "Bob", "Ada", "Ada", "Ada"]
    assert [entry.actor for entry in log.history("named", kinds=["checkpoint"])] == ["Ada"] * 3 + ["Bob"] * 2


async def test_two_workers_share_the_threads(client: httpx.AsyncClient, service: tuple[str, str]) -> None:
    """Both serve, and what runs through either is there for the other."""
    workers: set[int] = set()
    until = time.monotonic() + PATIENCE
    while len(workers) < 2:
        assert time.monotonic() < until, "one worker gets all requests"
        found = await asyncio.gather(*(get(client, "/health") for _ in range(16)))
        workers |= {each["worker"] for each in found}

    names = [f"shared {number}" for number in range(16)]
    await asyncio.gather(*(asked(client, name) for name in names))
    done = await asyncio.gather(*(run(client, f"/threads/{name}/answer", BOB, approved=True) for name in names))
    assert all(events[-2] == ("update", PAID) for events in done)
    states = await asyncio.gather(*(get(client, f"/threads/{name}") for name in names for _ in range(2)))
    assert {state["values"]["outcome"] for state in states} == {"20 euros paid"}


async def test_one_answer_counts_however_many_are_given(client: httpx.AsyncClient, log: EventLog) -> None:
    """At once, through both workers. The others are refused before they run or while they do, or find nothing to do.

    A run that starts after the first run's `pay` takes its saved writes, and may be the one that ends: LangGraph marks
    them as cached.
    """
    await asked(client, "once")

    async def answer() -> list[tuple[str, Any]]:
        async with client.stream("POST", "/threads/once/answer", headers=BOB, json={"approved": True}) as response:
            if response.status_code == 409:
                return [("refused", None)]
            return await events_of(response)

    done = await asyncio.gather(*(answer() for _ in range(8)))
    assert {events[-1][0] for events in done} <= {"end", "conflict", "refused"}
    ended = [events for events in done if events[-1][0] == "end"]
    paid = [data for events in ended for name, data in events if name == "update" and "pay" in data]
    assert paid in ([PAID], [{**PAID, "__metadata__": {"cached": True}}])
    saved = list(log.history("once", kinds=["checkpoint"]))
    assert len(saved) == 5
    assert not any(entry.fork for entry in saved)


async def test_time_travel_starts_a_branch(client: httpx.AsyncClient) -> None:
    await asked(client, "travel")
    await run(client, "/threads/travel/answer", BOB, approved=True)
    before = await get(client, "/threads/travel/history")
    (past,) = [each for each in before if each["next"] == ["approve"]]

    response = await client.post(
        "/threads/travel/fork", headers=ADA, json={"checkpoint_id": past["checkpoint_id"], "euros": 5}
    )
    assert response.status_code == 200
    events = await run(client, "/threads/travel/continue", ADA)
    assert events[0] == ("question", {"question": "Refund 5 euros for order 17?"})
    events = await run(client, "/threads/travel/answer", BOB, approved=False)
    assert events[-2] == ("update", {"pay": {"outcome": "declined"}})

    after = await get(client, "/threads/travel/history")
    assert [each for each in after if each in before] == before
    assert after[0]["values"]["outcome"] == "declined"


async def test_threads_are_listed_page_by_page(client: httpx.AsyncClient) -> None:
    for number in range(3):
        await asked(client, f"listed {number}")
    first = await get(client, "/threads?limit=2")
    assert [each["thread_id"] for each in first] == ["listed 2", "listed 1"]
    second = (await client.get("/threads", params={"limit": 1, "before": first[-1]["active_at"]})).json()
    assert [each["thread_id"] for each in second] == ["listed 0"]


async def test_a_deleted_thread_leaves_who_deleted_it(client: httpx.AsyncClient, log: EventLog) -> None:
    await asked(client, "deleted")
    assert (await client.delete("/threads/deleted", headers=BOB)).status_code == 204
    assert (await client.get("/threads/deleted")).status_code == 404
    assert "deleted" not in [each["thread_id"] for each in await get(client, "/threads?limit=100")]
    (record,) = log.history("deleted")
    assert (record.kind, record.actor) == ("deleted", "Bob")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/threads/never/answer", {"approved": True}, 404),
        ("/threads/never/continue", None, 404),
        ("/threads/never/fork", {"checkpoint_id": "1", "euros": 1}, 404),
        ("/threads/asked/refund", {"order": "18"}, 409),
        ("/threads/asked/answer", {"approved": "perhaps"}, 422),
        (f"/threads/{'long' * 700}/refund", {"order": "18"}, 422),
    ],
    ids=["no thread", "nothing to continue", "no checkpoint", "begun", "no answer", "no id"],
)
async def test_a_request_that_cannot_be_met_is_refused(
    client: httpx.AsyncClient, path: str, body: Any, status: int
) -> None:
    if (await client.get("/threads/asked")).status_code == 404:
        await asked(client, "asked")
    assert (await client.post(path, headers=ADA, json=body)).status_code == status
    assert (await client.post(path, json=body)).status_code == 422  # the user is missing


def test_the_log_is_sound(log: EventLog) -> None:
    """After all of this."""
    found = log.verify(states=True)
    assert found.events > 0
    assert found.problems == []


def test_the_readme_names_each_route() -> None:
    readme = Path(EXAMPLES / "fastapi" / "README.md").read_text()
    source = (EXAMPLES / "fastapi" / "app.py").read_text()
    routes = [line.split('"')[1] for line in source.splitlines() if line.startswith("@app.") and '"' in line]
    assert len(routes) == 9
    assert [route for route in routes if f"{route}`" not in readme] == []

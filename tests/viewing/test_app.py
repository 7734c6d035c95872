"""The web application, over HTTP: its pages and their JSON, its errors, its protection, mounted or not."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from langgraph.checkpoint.eventlog import EventLog, EventLogSaver, InvalidInputError, RetryPolicy
from langgraph.checkpoint.eventlog.ui import app as app_module
from langgraph.checkpoint.eventlog.ui import eventlog_ui
from langgraph.checkpoint.eventlog.ui.guard import HEADERS
from langgraph.checkpoint.eventlog.ui.values import TextDifferences
from langgraph.checkpoint.eventlog.viewing import verify
from tests.database.test_rights import as_role, role
from tests.viewing.world import ODD, ask, human, line, opened, world

__all__ = ["role", "world"]  # fixtures

TOKEN = "correct-horse-battery"
ENCODED = quote(ODD, safe="").replace(".json", "%2Ejson")


@asynccontextmanager
async def browsing(app: Any, base: str = "http://localhost:8765", **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application, which raises its failures."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=base, **options) as client:
        yield client


@pytest.fixture(params=["sync", "async"])
async def client(request: pytest.FixtureRequest, world: str) -> AsyncIterator[httpx.AsyncClient]:
    async with opened(world, request.param) as log, browsing(eventlog_ui(log)) as made:
        yield made


def assert_sealed(answer: httpx.Response) -> None:
    """Each answer has the headers that keep a browser from doing harm."""
    for name, value in HEADERS.items():
        assert answer.headers.get_list(name) == [value], name


async def document(client: httpx.AsyncClient, path: str, **query: Any) -> dict[str, Any]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert_sealed(answer)
    found: dict[str, Any] = answer.json()
    return found


# --- pages


PATHS = {
    "/threads": "threads",
    "/threads/waiting": "thread",
    "/threads/waiting/diff": "diff",
    "/threads/waiting/at": "at",
    "/threads/waiting/proof": "proof",
    f"/threads/{ENCODED}": "thread",
    "/log": "log",
}


@pytest.mark.parametrize("path", PATHS)
async def test_each_page_is_html_and_json(client: httpx.AsyncClient, path: str) -> None:
    found = await document(client, f"{path}.json")
    assert found
    page = await client.get(path)
    assert page.status_code == 200, page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert_sealed(page)
    assert "<script>" not in page.text
    assert not re.search(r"\son\w+=|style=|javascript:", page.text)


async def test_the_first_page_leads_to_the_threads(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/threads")
    assert_sealed(answer)


async def test_json_has_the_documents(client: httpx.AsyncClient) -> None:
    found = await document(client, "/threads.json", status="waiting", filter=["user_id=wai"])
    assert [each["thread_id"] for each in found["threads"]] == ["waiting"]
    timeline = await document(client, "/threads/waiting.json", newest="1")
    assert [each["step"] for each in timeline["steps"]] == [1, 0, -1]
    tip, *_, first = (each["checkpoint_id"] for each in timeline["steps"])
    checkpoint = await document(client, f"/threads/waiting/checkpoints/{tip}.json")
    assert checkpoint["interrupts"][0]["value"] == {"question": "Is it?"}
    whole = await document(client, f"/threads/waiting/checkpoints/{tip}.json", channel="topic")
    assert whole["channel"] == "topic"
    compared = await document(client, "/threads/waiting/diff.json", before=first, after=tip)
    assert compared["common_ancestor"] == first
    moment = await document(client, "/threads/waiting/at.json", time=timeline["steps"][0]["time"])
    assert moment["checkpoint"]["checkpoint_id"] == tip
    assert (await document(client, "/log.json", largest="1"))["largest"]


async def test_a_filter_stays_what_it_is_in_links_and_forms(world: str) -> None:
    metadata = {"flag": True, "id": "3", "count": 3, "name": "Ada & co", "quoted": '"x"'}
    texts = ["flag=true", 'id="3"', "count=3", "name=Ada & co", r'quoted="\"x\""']
    with EventLogSaver.from_conn_string(world) as saver:
        graph = line(ask).compile(checkpointer=saver)
        graph.invoke(human("hi"), {"configurable": {"thread_id": "typed"}, "metadata": metadata})
        async with browsing(eventlog_ui(saver.log)) as client:
            page = await client.get("/threads", params={"filter": texts})
            hidden = re.findall(r'<input type="hidden" name="filter" value="([^"]*)">', page.text)
            assert [html.unescape(each) for each in hidden] == texts
            links = [html.unescape(each) for each in re.findall(r'href="(/threads\?[^"]*sort=[^"]*)"', page.text)]
            assert links
            for link in links:
                assert 'href="/threads/typed?' in (await client.get(link)).text, link


@pytest.mark.parametrize("name", ["target", "self", "path", "request"])
async def test_a_parameter_of_any_name_breaks_no_page(client: httpx.AsyncClient, world: str, name: str) -> None:
    page = await client.get("/threads", params={name: "x"})
    assert page.status_code == 200
    assert f"/threads.json?{name}=x" in page.text
    with EventLog.from_conn_string(world) as log:
        async with browsing(eventlog_ui(log, token=TOKEN)) as stranger:
            assert (await stranger.get("/threads", params={name: "x"})).status_code == 401


async def test_pages_link_to_each_other(client: httpx.AsyncClient) -> None:
    """Each link of a page leads somewhere."""
    seen: set[str] = set()
    waiting = ["/threads", f"/threads/{ENCODED}", "/threads/nested", "/threads/deleted"]
    while waiting and len(seen) < 80:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        answer = await client.get(path)
        assert answer.status_code == 200, (path, answer.text[:500])
        if "html" in answer.headers["content-type"]:
            links = re.findall(r'(?:href|src)="([^"#]+)', answer.text)
            waiting += [link.replace("&amp;", "&") for link in links if link.startswith("/")]
    assert any("/checkpoints/" in path for path in seen)


async def test_an_odd_id_is_one_segment_of_the_path(client: httpx.AsyncClient) -> None:
    found = await document(client, f"/threads/{ENCODED}.json")
    assert found["thread_id"] == ODD
    checkpoint_id = found["steps"][0]["checkpoint_id"]
    assert (await document(client, f"/threads/{ENCODED}/checkpoints/{checkpoint_id}.json"))["thread_id"] == ODD


@pytest.mark.parametrize("thread_id", ["chat", "pruned", "deleted", "nested"])
async def test_the_first_row_of_a_timeline_says_once_where_it_came_from(
    client: httpx.AsyncClient, thread_id: str
) -> None:
    page = (await client.get(f"/threads/{thread_id}")).text
    assert page.count("data-page=") == 1
    assert not re.search(r"<li[^>]*\|", page)


async def test_an_export_is_a_file(client: httpx.AsyncClient) -> None:
    lines = await client.get(f"/threads/{ENCODED}/export.jsonl")
    assert lines.status_code == 200
    assert lines.headers["content-disposition"] == 'attachment; filename="thread-odd_.._id_x_1_____b__.json.jsonl"'
    assert [json.loads(line)["seq"] for line in lines.text.splitlines()][:3] == [1, 2, 3]
    assert_sealed(lines)
    page = await client.get("/threads/nested/export.html")
    assert page.status_code == 200, page.text
    assert page.headers["content-disposition"] == 'attachment; filename="thread-nested.html"'
    assert not re.search(r'(?:href|src)="(?!#)', page.text), "it stands alone"
    assert "<script" not in page.text


async def test_a_thread_is_verified_when_asked(client: httpx.AsyncClient) -> None:
    assert (await document(client, "/threads/chat/proof.json"))["verified"] is None
    answer = await client.post("/threads/chat/verify")
    assert answer.status_code == 200
    assert "No event was changed" in answer.text
    assert 'href="/threads/chat/proof.json"' in answer.text
    verified = (await document(client, "/threads/chat/proof.json"))["verified"]
    assert (verified["found"], verified["problems"]) == (0, [])
    as_json = await client.post(f"/threads/{ENCODED}/verify.json")
    assert as_json.json()["verified"]["problems"] == []


async def test_one_thread_is_verified_at_a_time(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(reader: Any, thread_id: str) -> Any:
        begun.set()
        await may_end.wait()
        return await verify(reader, thread_id)

    monkeypatch.setattr(app_module, "verify", slow)
    with EventLog.from_conn_string(world) as log:
        async with browsing(eventlog_ui(log)) as client:
            first = asyncio.create_task(client.post("/threads/chat/verify"))
            await begun.wait()
            second = await client.post("/threads/waiting/verify.json")
            assert (second.status_code, second.json()["error"]) == (409, "busy")
            may_end.set()
            assert (await first).status_code == 200
            assert (await client.post("/threads/nobody/verify")).status_code == 404
            assert (await client.post("/threads/waiting/verify")).status_code == 200


async def test_an_error_is_rendered_while_all_reads_hang(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with EventLog.from_conn_string(world) as log:
        viewer = eventlog_ui(log)
        monkeypatch.setattr(viewer.reader, "in_thread", lambda _: asyncio.sleep(600))
        async with browsing(viewer) as client:
            assert (await asyncio.wait_for(client.get("/nothing"), 60)).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 400),
        ({"sec-fetch-site": "same-site"}, 400),
        ({"origin": "http://localhost:8765"}, 200),
        ({"origin": "http://evil.example"}, 400),
        ({"origin": "null"}, 400),
    ],
)
async def test_another_sites_page_verifies_nothing(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    assert (await client.post("/threads/chat/verify", headers=headers)).status_code == status


async def test_nothing_else_is_posted(client: httpx.AsyncClient) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await client.request(method, "/threads/chat.json")
        assert answer.status_code == 405
        assert answer.json()["message"] == "This page is read only."
        assert_sealed(answer)


def test_texts_are_compared_until_it_takes_too_long() -> None:
    compared = TextDifferences()
    assert compared("one two", "one three") is not None
    assert compared("a " * 600, "a " * 601) is None, "of too many words"
    found = [compared("a " * 400 + "b", "a " * 400 + "c") for _ in range(20)]
    assert found[0] is not None
    assert found[-1] is None
    assert TextDifferences()("one two", "one three") is not None


# --- errors


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/threads/nobody", 404, "thread 'nobody' does not exist"),
        ("/threads/chat/checkpoints/x", 404, "has no checkpoint 'x'"),
        ("/threads/chat/export.jsonl", 200, ""),
        ("/threads/nobody/export.jsonl", 404, "does not exist"),
        ("/threads/nobody/live", 404, "does not exist"),
        ("/nothing", 404, "There is no such page."),
        ("/threads/chat?cursor=x", 400, "cursor"),
        ("/threads/chat/at?time=x", 400, "is not a time"),
        ("/threads/a%00b", 400, "NUL"),
        ("/threads?status=x", 400, "is not one of"),
        ("/static/nothing.js", 404, "There is no such page."),
    ],
)
async def test_an_error_is_a_page_and_a_document(
    client: httpx.AsyncClient, path: str, status: int, message: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == status
    assert_sealed(answer)
    if status != 200 and not path.endswith((".jsonl", "/live")):
        assert "text/html" in answer.headers["content-type"]
        before, question, after = path.partition("?")
        as_json = await client.get(f"{before}.json{question}{after}")
        assert as_json.status_code == status
        assert message in as_json.json()["message"]


async def test_what_is_gone_says_when(client: httpx.AsyncClient) -> None:
    answer = await client.get("/threads/deleted/checkpoints/x.json")
    assert answer.status_code == 404
    assert answer.json()["deleted"]["actor"] == "an operator"
    assert "an operator" in (await client.get("/threads/deleted/checkpoints/x")).text


async def test_a_log_that_was_never_set_up_says_what_to_run(empty_database_uri: str) -> None:
    async with opened(empty_database_uri) as log, browsing(eventlog_ui(log)) as client:
        for path in ("/threads", "/log", "/threads/x", "/threads/x/proof"):
            answer = await client.get(f"{path}.json")
            assert (answer.status_code, answer.json()["hint"]) == (409, "eventlog setup"), path
            assert (await client.get(path)).status_code == 409


async def test_missing_rights_say_what_to_grant(world: str, role: str) -> None:
    with EventLog.from_conn_string(world) as owner:
        async with opened(as_role(world, role)) as log, browsing(eventlog_ui(log)) as client:
            for path in ("/threads", "/threads/chat", "/log", "/threads/chat/proof"):
                answer = await client.get(f"{path}.json")
                assert answer.status_code == 403, path
                assert answer.json()["hint"] == f"eventlog grant auditor '{role}'"
            owner.grant("auditor", role)
            for path in ("/threads", "/threads/chat", "/log", "/threads/chat/proof"):
                answer = await client.get(f"{path}.json")
                assert answer.status_code == 200, answer.text


async def test_a_database_that_went_away_is_said_and_comes_back(world: str) -> None:
    policy = RetryPolicy(attempts=1, deadline=1.0)
    with EventLog.from_conn_string(world, retry=policy, pool_max_size=1) as log:
        async with browsing(eventlog_ui(log)) as client:
            assert (await client.get("/threads.json")).status_code == 200
            pool: Any = log._driver._conn
            conninfo = pool.conninfo
            pool.conninfo = "host=/nowhere"
            for conn in list(pool._pool):
                conn.close()
            answer = await client.get("/threads.json")
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "2"
            assert answer.json()["retry_after"] == 2
            assert (await client.get("/threads")).status_code == 503
            pool.conninfo = conninfo
            pool.check()
            assert (await client.get("/threads.json")).status_code == 200


async def test_a_page_that_takes_too_long_is_not_tried_again(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "LONGEST_READ", 0.05)
    monkeypatch.setattr(app_module, "threads", lambda *_, **__: asyncio.sleep(60))
    with EventLog.from_conn_string(world) as log:
        async with browsing(eventlog_ui(log)) as client:
            answer = await client.get("/threads.json")
            assert (answer.status_code, answer.json()["retry_after"]) == (504, None)
            assert "narrow it" in answer.json()["message"]
            assert "retry-after" not in answer.headers
            page = await client.get("/threads")
            assert page.status_code == 504
            assert "data-retry" not in page.text


# --- protection


async def test_without_its_token_nothing_is_shown(world: str) -> None:
    with EventLog.from_conn_string(world) as log:
        async with browsing(eventlog_ui(log, token=TOKEN)) as client:
            for path in (
                "/",
                "/threads",
                "/threads.json",
                "/threads/chat/live",
                "/nothing",
                "/threads/chat/export.jsonl",
            ):
                answer = await client.get(path)
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert "chat" not in answer.text
                assert_sealed(answer)
            assert (await client.post("/threads/chat/verify")).status_code == 401
            wrong = await client.get("/threads?token=wrong-horse-battery")
            assert wrong.status_code == 401
            assert "set-cookie" not in wrong.headers
            bearer = {"authorization": f"Bearer {TOKEN}"}
            assert (await client.get("/threads.json", headers=bearer)).status_code == 200
            assert (await client.get("/threads.json", headers={"authorization": f"Basic {TOKEN}"})).status_code == 401


async def test_a_token_in_the_url_becomes_a_cookie(world: str) -> None:
    with EventLog.from_conn_string(world) as log:
        async with browsing(eventlog_ui(log, token=TOKEN)) as client:
            answer = await client.get(f"/threads?q=ch&token={TOKEN}&status=idle")
            assert (answer.status_code, answer.headers["location"]) == (303, "/threads?q=ch&status=idle")
            cookie = answer.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=lax" in cookie
            assert TOKEN not in cookie
            assert_sealed(answer)
            page = await client.get("/threads.json?q=ch")
            assert page.status_code == 200
            again = await client.get(f"/threads?q=ch&token={TOKEN}")
            assert (again.status_code, again.headers["location"]) == (303, "/threads?q=ch")
        async with browsing(eventlog_ui(log, token=f"{TOKEN}-2"), cookies=client.cookies) as other:
            assert (await other.get("/threads.json")).status_code == 401
        async with browsing(eventlog_ui(log, token=TOKEN), "https://viewer.example") as secure:
            answer = await secure.get(f"https://viewer.example//evil.example/?token={TOKEN}")
            assert answer.headers["location"] == "/evil.example/"
            assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("token", ["", "short", "with spaces in between", "é" * 20, 7])
async def test_a_weak_token_is_refused(world: str, token: Any) -> None:
    with EventLog.from_conn_string(world) as log, pytest.raises(InvalidInputError, match="token must have 16"):
        eventlog_ui(log, token=token)


async def test_another_host_is_not_answered(world: str) -> None:
    """A page of the web that lets its name point to the loopback."""
    with EventLog.from_conn_string(world) as log:
        app = eventlog_ui(log, allowed_hosts=["localhost", "127.0.0.1", "::1"])
        async with browsing(app) as client:
            for host in ("localhost:8765", "LOCALHOST", "127.0.0.1:1", "[::1]:8765", "[::1]"):
                assert (await client.get("/threads.json", headers={"host": host})).status_code == 200, host
            for host in ("evil.example", "evil.example:8765", "localhost.evil.example", "", "127.0.0.1.evil", "[::1"):
                answer = await client.get("/threads.json", headers={"host": host})
                assert answer.status_code == 400, host
                assert_sealed(answer)
        with pytest.raises(InvalidInputError, match="list of names"):
            eventlog_ui(log, allowed_hosts="localhost")


async def test_what_is_no_log_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="log must be an EventLog"):
        eventlog_ui("postgresql://")  # type: ignore[arg-type]


# --- mounted


@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
async def test_mounted_below_a_path_its_links_stay_there(world: str, framework: str) -> None:
    with EventLogSaver.from_conn_string(world) as saver:
        viewer = eventlog_ui(saver.log, token=TOKEN)
        app: Any = FastAPI() if framework == "fastapi" else Starlette(routes=[Mount("/tools/log", viewer)])
        if framework == "fastapi":
            app.mount("/tools/log", viewer)
        async with browsing(app) as client:
            signed_in = await client.get(f"/tools/log/threads?token={TOKEN}")
            assert signed_in.headers["location"] == "/tools/log/threads"
            assert "Path=/tools/log/" in signed_in.headers["set-cookie"]
            assert (await client.get("/tools/log/")).headers["location"] == "/tools/log/threads"
            assert (await client.get(f"/tools/log/threads/{ENCODED}.json")).json()["thread_id"] == ODD
            page = await client.get(f"/tools/log/threads/{ENCODED}")
            assert page.status_code == 200
            links = [link for link in re.findall(r'(?:href|src|action)="([^"]+)', page.text) if link[0] != "#"]
            assert links
            assert {link[:11] for link in links} == {"/tools/log/"}
            posted = await client.post("/tools/log/threads/chat/verify")
            assert 'href="/tools/log/threads/chat/proof.json"' in posted.text
            missing = await client.get("/tools/log/nothing.json")
            assert (missing.status_code, missing.json()["error"]) == (404, "not_found")
            assert_sealed(missing)

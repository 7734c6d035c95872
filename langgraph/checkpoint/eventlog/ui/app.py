"""The application: its routes, each answered as a page or as JSON."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from eventlog.errors import EventLogError
from eventlog.logger import logger
from langgraph.checkpoint.eventlog._async_log import AsyncEventLog
from langgraph.checkpoint.eventlog._log import EventLog
from langgraph.checkpoint.eventlog.ui.guard import Guard, check_same_origin
from langgraph.checkpoint.eventlog.ui.live import EventStream, Follower
from langgraph.checkpoint.eventlog.ui.paths import QUOTED, mount_of, path_below
from langgraph.checkpoint.eventlog.viewing import (
    Reader,
    at,
    checkpoint,
    diff,
    error_document,
    export,
    export_text,
    proof,
    thread,
    threads,
    verify,
)
from langgraph.checkpoint.eventlog.viewing import (
    log as log_document,
)
from langgraph.checkpoint.eventlog.viewing.errors import error_of
from langgraph.checkpoint.eventlog.viewing.export import package_version
from langgraph.checkpoint.eventlog.viewing.following import Head
from langgraph.checkpoint.eventlog.viewing.timeline import known_thread

__all__ = ["Viewer", "eventlog_ui"]

#: The number of threads with remembered results of a verification.
MOST_VERIFIED = 1_000

#: The number of pages that are rendered at a time.
MOST_RENDERED = 4

#: Seconds after which a page is given up.
LONGEST_READ = 20

Document = dict[str, Any]
Page = Callable[["Viewer", Request], Awaitable[Document]]


def eventlog_ui(
    log: EventLog | AsyncEventLog,
    *,
    token: str | None = None,
    allowed_hosts: Sequence[str] | None = None,
    poll_interval: float = 1.0,
) -> Viewer:
    """The viewer of a log as an ASGI application: mount it below a path of a Starlette or FastAPI application.

    Each request runs with the rights of the log's connection, those of an ``auditor`` are enough. The application has
    no accounts: without a token, every user who reaches it reads all threads.

    Args:
        log: of a saver (`saver.log`), or opened alone; sync or async.
        token: ask for this one, of 16 characters or more: ``Authorization: Bearer …``, or once ``?token=…``, which a
            browser keeps as a cookie.
        allowed_hosts: the names in a request's ``Host`` that are answered; None: all. Name them where the server
            listens on the loopback without a token: a page of the web could otherwise reach it by a name of its own.
        poll_interval: seconds between two looks for news, for pages that are open.

    Raises:
        InvalidInputError: for a log, token or interval that is none.
    """
    return Viewer(Reader(log), Guard(token, allowed_hosts), poll_interval)


class Viewer(Starlette):
    """The application."""

    def __init__(self, reader: Reader, guard: Guard, poll_interval: float) -> None:
        self.reader = reader
        self.follower = Follower(reader, poll_interval)
        self.verified: OrderedDict[str, Document] = OrderedDict()
        self.is_verifying = False
        self._rendering: anyio.CapacityLimiter | None = None
        self._guard = guard
        super().__init__(
            routes=_routes(),
            exception_handlers={
                EventLogError: _answer_log_error,
                HTTPException: _answer_http_error,
                Exception: _answer_failure,
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, if the guard lets it pass."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        scope = {**scope, "app": self, "path": mount_of(scope) + path_below(scope)}
        send = self._guard.sealing(send, scope)
        refused = self._guard.refusal(Request(scope))
        if refused is None:
            await super().__call__(scope, receive, send)
            return
        if isinstance(refused, Response):
            response = refused
        else:
            response = await self.render(Request(scope), "error", refused, status=refused["status"])
        await response(scope, receive, send)

    async def render(self, request: Request, name: str, document: Document, *, status: int = 200) -> Response:
        """A document as a page, or as JSON if the request asks for that."""
        headers = {}
        if document.get("retry_after"):
            headers["Retry-After"] = str(document["retry_after"])
        if status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="eventlog"'
        if is_json(request):
            text = await self._in_thread(lambda: json.dumps(document))
            return Response(text, status, headers, "application/json")
        from langgraph.checkpoint.eventlog.ui.rendering import templates
        from langgraph.checkpoint.eventlog.ui.values import TextDifferences

        context = {
            "doc": document,
            "request": request,
            "text_difference": TextDifferences(),
            **_helpers(request, document),
        }
        html = await self._in_thread(lambda: templates().get_template(f"{name}.html").render(context))
        return Response(html.encode("utf-8", "replace"), status, headers, "text/html; charset=utf-8")

    async def _in_thread(self, call: Callable[[], str]) -> str:
        """Render off the event loop, without waiting for reads: an error can be shown while all of them hang."""
        if self._rendering is None:
            self._rendering = anyio.CapacityLimiter(MOST_RENDERED)
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._rendering)


def is_json(request: Request) -> bool:
    """Whether a request asks for JSON: its path says so."""
    return str(request.scope["path"]).endswith((".json", ".jsonl"))


def _helpers(request: Request, document: Document) -> dict[str, Any]:
    """What templates get beside the document."""
    mount = mount_of(request.scope)
    path = path_below(request.scope).removesuffix(".json")
    if request.method == "POST" and path.endswith("/verify"):
        path = path.removesuffix("verify") + "proof"

    def url(target: str, /, **query: Any) -> str:
        given = {key: value for key, value in query.items() if value not in (None, "", [], ())}
        encoded = urlencode(given, doseq=True, errors="replace")
        return f"{quote(mount)}{target}{'?' if encoded else ''}{encoded}"

    json_path = f"{path if path != '/' else '/threads'}.json"
    query = {key: request.query_params.getlist(key) for key in request.query_params if key != "token"}
    live = None
    if "head" in document and "steps" in document:
        live = url(f"/threads/{quote(document['thread_id'], safe='')}/live", seen=document["head"])
    return {
        "url": url,
        "path": path,
        "json_url": url(json_path, **query),
        "live_url": live,
        "version": package_version(),
    }


# --- errors


async def _answer_log_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, EventLogError)
    viewer: Viewer = request.scope["app"]
    document = await error_document(viewer.reader, exc, request.path_params.get("thread"))
    return await viewer.render(request, "error", document, status=document["status"])


async def _answer_http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    words = {404: "not_found", 405: "method_not_allowed", 409: "busy"}
    messages = {404: "There is no such page.", 405: "This page is read only."}
    message = messages.get(exc.status_code, str(exc.detail))
    document = error_of(words.get(exc.status_code, "error"), exc.status_code, message)
    viewer: Viewer = request.scope["app"]
    response = await viewer.render(request, "error", document, status=exc.status_code)
    response.headers.update(exc.headers or {})
    return response


async def _answer_failure(request: Request, exc: Exception) -> Response:
    logger.error("eventlog.ui_failed", path=request.scope["path"], error=f"{type(exc).__name__}: {exc}")
    document = error_of("internal_error", 500, "The viewer failed on this page. Its log says why.")
    viewer: Viewer = request.scope["app"]
    return await viewer.render(request, "error", document, status=500)


# --- pages


async def _threads(viewer: Viewer, request: Request) -> Document:
    query = request.query_params
    return await threads(
        viewer.reader,
        q=query.get("q") or None,
        filter=[each for each in query.getlist("filter") if each],
        status=query.get("status"),
        sort=query.get("sort"),
        cursor=query.get("cursor"),
    )


async def _thread(viewer: Viewer, request: Request) -> Document:
    query = request.query_params
    return await thread(
        viewer.reader,
        request.path_params["thread"],
        ns=query.get("ns", ""),
        cursor=query.get("cursor"),
        newest=query.get("newest", "") not in ("", "0"),
    )


async def _checkpoint(viewer: Viewer, request: Request) -> Document:
    params = request.path_params
    query = request.query_params
    return await checkpoint(
        viewer.reader, params["thread"], params["checkpoint"], ns=query.get("ns", ""), channel=query.get("channel")
    )


async def _diff(viewer: Viewer, request: Request) -> Document:
    query = request.query_params
    return await diff(
        viewer.reader,
        request.path_params["thread"],
        query.get("before"),
        query.get("after"),
        ns=query.get("ns", ""),
    )


async def _at(viewer: Viewer, request: Request) -> Document:
    query = request.query_params
    return await at(viewer.reader, request.path_params["thread"], query.get("time"), ns=query.get("ns", ""))


async def _proof(viewer: Viewer, request: Request) -> Document:
    thread_id = request.path_params["thread"]
    return await proof(viewer.reader, thread_id, verified=viewer.verified.get(thread_id))


async def _log(viewer: Viewer, request: Request) -> Document:
    return await log_document(viewer.reader, largest=request.query_params.get("largest", "") not in ("", "0"))


#: By path: the template, and what makes its document.
_PAGES: tuple[tuple[str, str, Page], ...] = (
    ("/threads", "threads", _threads),
    (f"/threads/{{thread:{QUOTED}}}/checkpoints/{{checkpoint:{QUOTED}}}", "checkpoint", _checkpoint),
    (f"/threads/{{thread:{QUOTED}}}/diff", "diff", _diff),
    (f"/threads/{{thread:{QUOTED}}}/at", "at", _at),
    (f"/threads/{{thread:{QUOTED}}}/proof", "proof", _proof),
    (f"/threads/{{thread:{QUOTED}}}", "thread", _thread),
    ("/log", "log", _log),
)


def _endpoint(name: str, page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        viewer: Viewer = request.scope["app"]
        try:
            with anyio.fail_after(LONGEST_READ):
                document = await page(viewer, request)
        except TimeoutError:
            if viewer.reader.is_away:
                document = error_of("database_unavailable", 503, "The database does not answer.")
            else:
                message = f"This page takes longer than {LONGEST_READ} seconds: narrow it."
                document = error_of("timeout", 504, message)
            return await viewer.render(request, "error", document, status=document["status"])
        return await viewer.render(request, name, document)

    return answer


async def _home(request: Request) -> Response:
    return RedirectResponse(f"{quote(mount_of(request.scope))}/threads", 307)


async def _verify(request: Request) -> Response:
    """Verify a thread now, one at a time. The answer is its page of proof: other workers do not have the result."""
    check_same_origin(request)
    viewer: Viewer = request.scope["app"]
    thread_id = request.path_params["thread"]
    if viewer.is_verifying:
        raise HTTPException(409, "A thread is being verified. Try again when that is done.")
    viewer.is_verifying = True
    try:
        found = await verify(viewer.reader, thread_id)
    finally:
        viewer.is_verifying = False
    viewer.verified[thread_id] = found
    viewer.verified.move_to_end(thread_id)
    while len(viewer.verified) > MOST_VERIFIED:
        viewer.verified.popitem(last=False)
    return await viewer.render(request, "proof", await proof(viewer.reader, thread_id, verified=found))


async def _live(request: Request) -> Response:
    viewer: Viewer = request.scope["app"]
    thread_id = request.path_params["thread"]
    seen = request.headers.get("last-event-id") or request.query_params.get("seen")
    head = Head.parse(seen) if seen else None
    if viewer.follower.is_full:
        raise HTTPException(503, "Too many pages are open: close some of them.")
    await known_thread(viewer.reader, thread_id)
    return EventStream(viewer.follower.follow(thread_id, head))


async def _export_page(request: Request) -> Response:
    viewer: Viewer = request.scope["app"]
    thread_id = request.path_params["thread"]
    document = await export(viewer.reader, thread_id, ns=request.query_params.get("ns", ""))
    response = await viewer.render(request, "export", document)
    response.headers["Content-Disposition"] = _attachment(thread_id, "html")
    return response


async def _export_lines(request: Request) -> Response:
    viewer: Viewer = request.scope["app"]
    thread_id = request.path_params["thread"]
    texts = export_text(viewer.reader, thread_id, ns=request.query_params.get("ns"))
    # The first is read before the answer begins: a thread that is not there is a 404.
    first = await anext(texts, None)
    return StreamingResponse(
        _texts(first, texts),
        media_type="application/jsonl",
        headers={"Content-Disposition": _attachment(thread_id, "jsonl")},
    )


async def _texts(first: str | None, texts: AsyncIterator[str]) -> AsyncIterator[str]:
    if first is None:
        return
    yield first
    async for text in texts:
        yield text


def _attachment(thread_id: str, suffix: str) -> str:
    """A file's name from a thread's id: its letters and digits."""
    name = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "_" for char in thread_id)
    return f'attachment; filename="thread-{name[:80].strip(".") or "export"}.{suffix}"'


def _routes() -> list[Route | Mount]:
    thread_path = f"/threads/{{thread:{QUOTED}}}"
    routes: list[Route | Mount] = [
        Route("/", _home),
        Route(f"{thread_path}/export.html", _export_page),
        Route(f"{thread_path}/export.jsonl", _export_lines),
        Route(f"{thread_path}/live", _live),
        Route(f"{thread_path}/verify", _verify, methods=["POST"]),
        Route(f"{thread_path}/verify.json", _verify, methods=["POST"]),
    ]
    for path, name, page in _PAGES:
        # First: an id may be anything, so that the path of a page fits one of JSON.
        routes.append(Route(f"{path}.json", _endpoint(name, page)))
        routes.append(Route(path, _endpoint(name, page)))
    static = files("langgraph.checkpoint.eventlog.ui") / "static"
    return [*routes, Mount("/static", StaticFiles(directory=str(static), check_dir=False))]

"""An HTTP service for refunds on an event log: streamed runs, approval by a named person, time travel, deletion.

``uvicorn app:app --workers 2``: each worker is a process, and every worker can continue every thread.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateSnapshot
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, TypeAdapter
from workflow import builder

from langgraph.checkpoint.eventlog import ConcurrentUpdateError, EventLogError, InvalidInputError, ThreadDeletedError
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver

__all__ = ["app"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Open the saver in each worker after its process has started: processes must not share connections."""
    async with AsyncConnectionPool(
        os.environ["EVENTLOG_DSN"],
        # Per worker: the sum over all workers must stay below the database's max_connections.
        min_size=1,
        max_size=10,
        # Seconds that a request waits for a connection while all are in use or the database is unreachable.
        timeout=10,
        # Within one attempt, the pool doubles the pause between its tries to connect. Each attempt ends after a second
        # and the next one begins, so the pool finds a restarted database within two seconds.
        reconnect_timeout=1,
        reconnect_failed=AsyncConnectionPool.check,
        # Replace a dead connection before a request gets it; this costs a round trip per request. The saver detects
        # dead connections itself: omit `check` if only the saver uses the pool.
        check=AsyncConnectionPool.check_connection,
        # Detect an unreachable host: give up connecting after 10 seconds, probe idle connections after 30.
        kwargs={"autocommit": True, "connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 60_000},
        open=False,
    ) as pool:
        # `strict` refuses the second of two concurrent answers to one question.
        saver = AsyncEventLogSaver(pool, concurrency="strict")
        await saver.setup()  # Safe to call from many workers at once.
        yield {"graph": builder.compile(checkpointer=saver), "saver": saver}


app = FastAPI(title="Refunds", lifespan=lifespan)

Graph = CompiledStateGraph[Any, Any, Any, Any]


def _graph(request: Request) -> Graph:
    graph: Graph = request.state.graph
    return graph


def _saver(request: Request) -> AsyncEventLogSaver:
    saver: AsyncEventLogSaver = request.state.saver
    return saver


def _user(x_user: Annotated[str, Header(min_length=1)]) -> str:
    """The requesting user. This trusts a header: take the name from your session or token instead."""
    return x_user


TheGraph = Annotated[Graph, Depends(_graph)]
TheSaver = Annotated[AsyncEventLogSaver, Depends(_saver)]
User = Annotated[str, Depends(_user)]


class Order(BaseModel):
    order: str


class Answer(BaseModel):
    approved: bool


class Change(BaseModel):
    checkpoint_id: str
    euros: int


def config_of(thread_id: str, user: str | None = None, checkpoint_id: str | None = None) -> RunnableConfig:
    """The config of a thread or of a checkpoint. The log records `actor` with each checkpoint and write of a run."""
    given = {"thread_id": thread_id, "checkpoint_id": checkpoint_id, "actor": user}
    return {"configurable": {name: value for name, value in given.items() if value is not None}}


async def state_of(graph: Graph, thread_id: str) -> StateSnapshot:
    """A thread's latest state. Raises a 404 if there is none."""
    state = await graph.aget_state(config_of(thread_id))
    if not state.values:
        raise HTTPException(404, f"there is no thread {thread_id!r}")
    return state


# --- runs, as server-sent events

_any = TypeAdapter(Any)


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {_any.dump_json(data).decode()}\n\n"


def streaming(graph: Graph, value: Any, config: RunnableConfig) -> StreamingResponse:
    """Run the graph and stream its output.

    With `durability="sync"`, a step begins after the step before it is committed. Of two runs that read the same open
    question, the second therefore ends before `pay`. A client that disconnects cancels the run: `continue` resumes it.
    """

    async def events() -> AsyncIterator[str]:
        part: Any
        try:
            async for mode, part in graph.astream(value, config, stream_mode=["updates", "custom"], durability="sync"):
                if mode == "custom":
                    yield _event("progress", part)
                elif "__interrupt__" in part:
                    yield _event("question", part["__interrupt__"][0].value)
                else:
                    yield _event("update", part)
        except (ConcurrentUpdateError, ThreadDeletedError) as exc:
            # The HTTP status was sent before.
            yield _event("conflict", str(exc))
        except EventLogError as exc:
            yield _event("error", str(exc))
        else:
            yield _event("end", None)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@app.post("/threads/{thread_id}/refund")
async def refund(thread_id: str, body: Order, graph: TheGraph, user: User) -> StreamingResponse:
    """Start a thread. The run ends at the question."""
    if (await graph.aget_state(config_of(thread_id))).values:
        raise HTTPException(409, "the thread has already started")
    return streaming(graph, {"order": body.order}, config_of(thread_id, user))


@app.post("/threads/{thread_id}/answer")
async def answer(thread_id: str, body: Answer, graph: TheGraph, user: User) -> StreamingResponse:
    """Answer the thread's open question."""
    if not (await state_of(graph, thread_id)).interrupts:
        raise HTTPException(409, "the thread does not wait for an answer")
    return streaming(graph, Command(resume=body.approved), config_of(thread_id, user))


@app.post("/threads/{thread_id}/continue")
async def go_on(thread_id: str, graph: TheGraph, user: User) -> StreamingResponse:
    """Continue from the latest checkpoint after a fork, a crashed worker or a lost connection."""
    if not (await state_of(graph, thread_id)).next:
        raise HTTPException(409, "the thread is at its end")
    return streaming(graph, None, config_of(thread_id, user))


@app.post("/threads/{thread_id}/fork")
async def fork(thread_id: str, body: Change, graph: TheGraph, user: User) -> dict[str, Any]:
    """Go back to a checkpoint and change the amount. Later checkpoints stay in the history."""
    past = config_of(thread_id, user, body.checkpoint_id)
    if not (await graph.aget_state(past)).values:
        raise HTTPException(404, "there is no such checkpoint, or nothing in it to change")
    made = await graph.aupdate_state(past, {"euros": body.euros})
    return {"checkpoint_id": made["configurable"]["checkpoint_id"]}


# --- threads


@app.get("/threads")
async def threads(saver: TheSaver, limit: int = 20, before: datetime | None = None) -> list[dict[str, Any]]:
    """List threads, the last active first. For the next page, give the last `active_at` as `before`."""
    found = await saver.log.threads(limit=limit, before=before)
    return [{"thread_id": each.thread_id, "active_at": each.active_at, "bytes": each.bytes} for each in found]


@app.get("/threads/{thread_id}")
async def thread(thread_id: str, graph: TheGraph) -> dict[str, Any]:
    """Show a thread's values, next steps and open questions."""
    state = await state_of(graph, thread_id)
    return {"values": state.values, "next": state.next, "questions": [each.value for each in state.interrupts]}


@app.get("/threads/{thread_id}/history")
async def history(thread_id: str, graph: TheGraph, limit: int = 20) -> list[dict[str, Any]]:
    """List a thread's checkpoints, newest first, each with the user of its run."""
    return [
        {
            "checkpoint_id": state.config["configurable"]["checkpoint_id"],
            "values": state.values,
            "next": state.next,
            "by": (state.metadata or {}).get("actor"),
        }
        async for state in graph.aget_state_history(config_of(thread_id), limit=limit)
    ]


@app.delete("/threads/{thread_id}", status_code=204, response_model=None)
async def delete(thread_id: str, saver: TheSaver, user: User) -> None:
    """Erase a thread. The log keeps a record with the user's name; an active run cannot restore the thread."""
    await saver.log.delete_thread(thread_id, actor=user)


# --- the service


@app.exception_handler(EventLogError)
async def refuse(request: Request, exc: EventLogError) -> Response:
    """Map errors to statuses: 422 wrong request, 409 conflict, 503 database unreachable."""
    if isinstance(exc, InvalidInputError):
        return JSONResponse({"detail": str(exc)}, 422)
    if isinstance(exc, ConcurrentUpdateError | ThreadDeletedError):
        return JSONResponse({"detail": str(exc)}, 409)
    return JSONResponse({"detail": str(exc)}, 503, {"Retry-After": "1"})


@app.get("/health")
async def health(saver: TheSaver) -> dict[str, int]:
    """Check that this worker reaches the log; returns its process id."""
    await saver.log.threads(limit=1)
    return {"worker": os.getpid()}

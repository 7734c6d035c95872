"""Tries after the first: events on the call's span, a counter by reason, and what log lines say."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from eventlog.telemetry import names
from tests.faults.proxy import Proxy, Step
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, put
from tests.telemetry.report import Report

#: The answer to a statement is lost on its way: whether it was done, the client cannot know.
LOST = Step("server", 0, "")

#: A pool that grows would connect meanwhile, and have the fault.
ONE_CONNECTION = pytest.mark.parametrize("kind", ["sync-string", "async-string"])


@ONE_CONNECTION
async def test_a_retry_is_an_event_of_the_same_call(
    kind: str, database_uri: str, report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    with Proxy(database_uri) as proxy:
        async with open_saver(kind, proxy.uri, telemetry=report.telemetry, pool_max_size=1) as saver:
            await put(saver, config_of("thread-1"), "a", {"x": 1})
            report.clear()
            await asyncio.to_thread(proxy.follow, "reset", LOST)
            with caplog.at_level(logging.WARNING, "eventlog"):
                await put(saver, config_of("thread-1", "a"), "b", {"x": 2})
    call = report.call("put")
    assert call.status.status_code is StatusCode.UNSET
    (event,) = [event for event in call.events if event.name == names.RETRY_EVENT]
    attributes = dict(event.attributes or {})
    assert attributes.pop(names.RETRY_WAIT) >= 0
    assert attributes == {names.ERROR_TYPE: "ConnectionLostError", names.RETRY_ATTEMPT: 2}
    statements = report.statements_of(call)
    failed = [each for each in statements if each.status.status_code is StatusCode.ERROR]
    assert "append_checkpoint" in {each.name for each in failed}
    for each in failed:
        assert (each.attributes or {})[names.ERROR_TYPE] == "OperationalError"
        assert names.DB_STATUS not in (each.attributes or {})
    # A new connection is asked what stands before it. The checkpoint had been appended: the second try finds that out.
    done = [each.name for each in statements if each not in failed and each.name != "SELECT"]
    assert done == ["append_checkpoint", "read_checkpoint"]
    assert report.points(names.RETRIES) == [({names.SCHEMA: "eventlog", names.ERROR_TYPE: "ConnectionLostError"}, 1)]
    (line,) = [record for record in caplog.records if getattr(record, "event", None) == "eventlog.retrying"]
    assert vars(line)["thread_id"] == "thread-1"
    assert vars(line)["checkpoint_ns"] == ""
    assert vars(line)["trace_id"] == f"{call.context.trace_id:032x}"
    assert vars(line)["span_id"] == f"{call.context.span_id:016x}"
    assert "thread_id='thread-1'" in line.getMessage()


@ONE_CONNECTION
async def test_without_telemetry_lines_of_a_call_name_its_thread(
    kind: str, database_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Proxy(database_uri) as proxy:
        async with open_saver(kind, proxy.uri, pool_max_size=1) as saver:
            await put(saver, config_of("thread-1", ns="inner"), "a", {"x": 1})
            for call in (
                lambda: put(saver, config_of("thread-1", "a", ns="inner"), "b", {"x": 2}),
                lambda: saver.aput_writes(config_of("thread-1", "b", ns="inner"), [("x", 1)], "task"),
                lambda: saver.aget_tuple(config_of("thread-1", ns="inner")),
            ):
                caplog.clear()
                await asyncio.to_thread(proxy.follow, "reset", LOST)
                with caplog.at_level(logging.WARNING, "eventlog"):
                    await call()
                (line,) = [record for record in caplog.records if getattr(record, "event", None) == "eventlog.retrying"]
                said: dict[str, Any] = vars(line)
                assert (said["thread_id"], said["checkpoint_ns"]) == ("thread-1", "inner")
                assert "trace_id" not in said

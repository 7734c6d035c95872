"""A joint statement: in the trace of one of its calls, linked with all, and its size in a histogram."""

from __future__ import annotations

import asyncio
from typing import Any

from eventlog.telemetry import names
from tests.support.adapters import POOLS
from tests.support.checkpoints import checkpoint_of, config_of
from tests.telemetry.report import Report

CALLERS = 24


@POOLS
async def test_a_joint_statement_is_linked_with_its_calls(saver: Any, report: Report) -> None:
    async def call(number: int) -> None:
        with report.callers_span(f"caller {number}"):
            await saver.aput(config_of(f"thread-{number}"), checkpoint_of("a", {}, {}), {}, {})
            await saver.aput_writes(config_of(f"thread-{number}", "a"), [("x", number)], "task")

    for _ in range(20):
        await asyncio.gather(*(call(number) for number in range(CALLERS)))
        joint = [each for each in report.statements if each.name == "append_together"]
        if joint:
            break
    calls = {call.context.span_id: call for call in report.calls}
    assert joint, "no appends met"
    for statement in joint:
        size = (statement.attributes or {})[names.DB_BATCH_SIZE]
        assert len(statement.links) == size > 1
        assert statement.parent is not None
        assert statement.parent.span_id == statement.links[0].context.span_id
        members = [calls[link.context.span_id] for link in statement.links]
        assert len({member.context.span_id for member in members}) == size
        assert all(member.name in ("eventlog.put", "eventlog.put_writes") for member in members)
        for member in members:
            assert any(link.context.span_id == statement.context.span_id for link in member.links)
            events = [event for event in member.events if event.name == names.BATCH_EVENT]
            assert events
            assert all((event.attributes or {})[names.DB_BATCH_SIZE] > 1 for event in events)
    # All else is in the trace of its own call.
    for statement in report.statements:
        assert statement.parent is not None
        assert statement.parent.span_id in calls
    ((attributes, sizes),) = report.points(names.GROUP_SIZE)
    assert attributes == {names.SCHEMA: "eventlog"}
    assert sizes.max == max((each.attributes or {})[names.DB_BATCH_SIZE] for each in joint)
    # A first checkpoint does not take part; what a batch declined goes once more, alone.
    assert sizes.sum >= len([call for call in calls.values() if call.name == "eventlog.put_writes"])
    assert report.value(names.APPENDED_EVENTS) == len(report.calls)

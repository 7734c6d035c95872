"""Log lines say what happened, of which thread and why, under any formatter."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from eventlog.logger import logger

#: A thread's id that must stay on its line, and must not be taken for a format.
ODD = "a 50%s\nb"


@pytest.fixture
def output() -> Iterator[tuple[io.StringIO, logging.StreamHandler[Any]]]:
    """What a handler of the application's root logger writes."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield written, handler
    root.removeHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()


def warn() -> None:
    logger.warning("eventlog.maintain_failed", thread_id=ODD, reason="the key is missing", events=3)


def test_a_plain_formatter_shows_thread_and_reason_on_one_line(output: Any) -> None:
    """As `logging.basicConfig(format="%(levelname)s: %(message)s")` sets it up."""
    written, handler = output
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    warn()
    assert written.getvalue() == (
        r"WARNING: eventlog.maintain_failed thread_id='a 50%s\nb' reason='the key is missing' events=3" + "\n"
    )


def test_fields_are_attributes_of_the_record(output: Any) -> None:
    written, handler = output
    handler.setFormatter(logging.Formatter("%(event)s %(thread_id)r %(reason)s"))
    warn()
    assert written.getvalue() == r"eventlog.maintain_failed 'a 50%s\nb' the key is missing" + "\n"


@pytest.mark.parametrize("with_extra", [True, False])
def test_an_application_with_structlog_gets_fields_or_the_whole_line(output: Any, with_extra: bool) -> None:
    """Its formatter takes the fields from the record where it has `ExtraAdder`; else the text has them."""
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    written, handler = output
    extra = [structlog.stdlib.ExtraAdder()] if with_extra else []
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, *extra],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    warn()
    (line,) = written.getvalue().splitlines()
    says = json.loads(line)
    assert says["level"] == "warning"
    if with_extra:
        assert says["event"] == "eventlog.maintain_failed"
        assert (says["thread_id"], says["reason"], says["events"]) == (ODD, "the key is missing", 3)
    else:
        assert says["event"] == (r"eventlog.maintain_failed thread_id='a 50%s\nb' reason='the key is missing' events=3")

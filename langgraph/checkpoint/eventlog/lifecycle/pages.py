"""Visiting all threads of a log, page by page in the order of their ids: in bounded memory, each thread by itself.

After an interruption, another run visits them again, and finds nothing to do for threads that are done. A thread that
exists during the whole run is visited, even if others append meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from eventlog.db.query import Op, Script
from eventlog.errors import (
    EventTooLargeError,
    InvalidInputError,
    LogBusyError,
    LogCorruptedError,
    StatementCanceledError,
)
from eventlog.retention import Candidate

__all__ = ["OF_ONE_THREAD", "PAGE", "each_thread"]

#: Threads that are looked for at a time.
PAGE = 200

#: Errors that concern one thread, so that all others can be erased. A canceled statement means that the thread is too
#: large for ``statement_timeout``.
OF_ONE_THREAD = (EventTooLargeError, InvalidInputError, LogBusyError, LogCorruptedError, StatementCanceledError)


def each_thread(
    find: Callable[[str, int], Op[list[Candidate]]],
    work: Callable[[Candidate], Script[bool]],
    *,
    before_page: Callable[[], Script[bool]] | None = None,
) -> Script[None]:
    """Do something with each thread that is found.

    Args:
        find: returns the next threads after an id, at most as many as asked for; fewer means that they are the last.
        work: is called with each thread; false ends the visit.
        before_page: is called before each page except the first; false ends the visit.
    """
    after = ""
    while True:
        if after and before_page is not None and not (yield from before_page()):
            return
        page: list[Candidate] = yield partial(find, after, PAGE)
        for each in page:
            if not (yield from work(each)):
                return
        if len(page) < PAGE:
            return
        after = page[-1].thread_id

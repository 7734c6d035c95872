"""Rows as CSV for spreadsheets: fixed columns, one line for each row, and no cell that is taken for a formula."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from langgraph.checkpoint.eventlog.cli.render.output import printable

__all__ = ["Sheet"]

#: A spreadsheet takes a cell that begins so for a formula. The last four are the first ones' full-width forms.
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


class Sheet:
    """CSV on stdout: a line of headings, and then the rows.

    Args:
        columns: the headings.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        self._writer.writerow(columns)

    def row(self, *values: Any) -> None:
        """Write one row, at once: None as nothing, times in UTC, bytes in hex, texts `printable`.

        A text that a spreadsheet would take for a formula gets an apostrophe before it.
        """
        self._writer.writerow(map(_cell, values))
        sys.stdout.flush()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str):
        text = printable(value)
        return f"'{text}" if text.startswith(_FORMULA) else text
    return value

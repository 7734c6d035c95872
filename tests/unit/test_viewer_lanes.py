"""Where the lines of branches run beside a timeline."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.eventlog.ui.lanes import MOST_LANES, lanes


def step(id_: str, branch: int, parent: str | None, *, tip: bool = False) -> dict[str, Any]:
    return {"kind": "step", "checkpoint_id": id_, "parent_id": parent, "branch": branch, "is_tip": tip}


def branch(number: int, starts_at: str | None) -> dict[str, Any]:
    return {"number": number, "starts_at": starts_at, "tip": ""}


#: a – b – c, and a fork at a: d – e.
FORKED = {
    "steps": [
        step("a", 0, None),
        step("b", 0, "a"),
        step("c", 0, "b", tip=True),
        step("d", 1, "a"),
        step("e", 1, "d", tip=True),
    ],
    "branches": [branch(0, None), branch(1, "a")],
    "next": None,
}


def drawn(document: dict[str, Any], *, newest: bool = False) -> list[str]:
    """Each row as a text: a lane is `.` where it is empty; lines go up (^), down (v), across (-), or turn (7)."""

    def sign(lane: Any) -> str:
        text = "o" if lane.dot else ""
        text += "7" if lane.turn else "-" if lane.across else ""
        text += ("^" if lane.above else "") + ("v" if lane.below else "")
        return text or "."

    return [" ".join(map(sign, row)) for row in lanes(document, newest=newest)]


def test_a_fork_begins_at_its_parent() -> None:
    assert drawn(FORKED) == ["ov 7v", "o^v ^v", "o^ ^v", ". o^v", ". o^"]


def test_newest_first_is_drawn_upwards() -> None:
    turned = {**FORKED, "steps": FORKED["steps"][::-1]}
    assert drawn(turned, newest=True) == [". ov", ". o^v", "ov ^v", "o^v ^v", "o^ 7^"]


def test_lines_reach_the_edge_where_a_branch_goes_on_beyond_the_page() -> None:
    page = {"steps": FORKED["steps"][1:2], "branches": FORKED["branches"], "next": "1"}
    assert drawn(page) == ["o^v"]


def test_rows_without_a_checkpoint_let_lines_pass() -> None:
    steps = [*FORKED["steps"][:1], {"kind": "record"}, *FORKED["steps"][1:]]
    assert drawn({**FORKED, "steps": steps})[1] == "^v ^v"


def test_branches_that_do_not_meet_share_a_lane() -> None:
    steps = [step("a", 0, None, tip=True), step("b", 1, None, tip=True), step("c", 2, None, tip=True)]
    branches = [branch(number, None) for number in range(3)]
    assert drawn({"steps": steps, "branches": branches, "next": None}) == ["o", "o", "o"]


def test_there_are_never_more_lanes_than_fit() -> None:
    steps = [step("a", 0, None), *(step(f"s{number}", number, "a", tip=True) for number in range(1, 30))]
    branches = [branch(0, None), *(branch(number, "a") for number in range(1, 30))]
    rows = lanes({"steps": steps, "branches": branches, "next": None}, newest=False)
    assert {len(row) for row in rows} == {MOST_LANES}


def test_a_page_without_steps_has_no_lanes() -> None:
    assert lanes({"steps": [], "branches": [], "next": None}, newest=False) == []
    assert lanes({"steps": [{"kind": "record"}], "branches": [], "next": None}, newest=False) == [[]]

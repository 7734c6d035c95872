"""The `eventlog` command: `diff`."""

from __future__ import annotations

import pytest

from tests.cli.command import clean_environment, documents, eventlog
from tests.cli.test_history import MESSAGES, uri
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, put

pytestmark = pytest.mark.portable

__all__ = ["clean_environment", "uri"]  # fixtures


def test_diff_shows_messages_as_a_conversation_with_signs(uri: str) -> None:
    """Messages as a conversation, with signs; what is the same is only named."""
    done = eventlog(uri, "diff", "1", "c", "e", "--ns", "")
    assert (done.exit_code, done.stderr) == (0, "")
    heading, messages, note, metadata, *rest = done.stdout.split("\n\n")
    assert heading.splitlines() == ["- c", "+ e", "Both descend from b: 1 step and 1 step away."]
    assert messages.splitlines()[0] == "messages"
    assert "  + ai" in messages.splitlines()
    assert "  +   Another answer." in messages.splitlines()
    assert f"  -   {MESSAGES[9].content}" in messages.splitlines()
    assert "Question 8?" not in messages
    assert note.splitlines() == ["note", "  - note c", "  + forked"]
    assert "  - loop" in metadata
    assert "  + fork" in metadata
    assert rest == []


def test_diff_names_equal_channels_and_shows_only_added_messages(uri: str) -> None:
    done = eventlog(uri, "diff", "1", "a", "a", "--ns", "")
    assert done.exit_code == 0
    assert "All channels are equal." in done.stdout
    done = eventlog(uri, "diff", "1", "a", "b")
    assert "  [8]\n  + human\n  +   Question 8? " in done.stdout
    assert "- human" not in done.stdout
    assert "Both descend from a: 0 steps and 1 step away." in done.stdout


def test_diff_json_has_a_place_for_each_difference(uri: str) -> None:
    (found,) = documents(eventlog(uri, "diff", "1", "a", "b", "--json"))
    assert (found["before"], found["after"], found["ancestor"]) == ("a", "b", "a")
    assert (found["steps_before"], found["steps_after"]) == (0, 1)
    (message,) = found["channels"]["messages"]
    assert (message["kind"], message["path"]) == ("added", [8])
    assert "before" not in message
    assert (message["after"]["type"], message["after"]["content"]) == ("human", MESSAGES[8].content)
    assert found["channels"]["note"] == [{"kind": "changed", "path": [], "before": "note a", "after": "note b"}]
    assert found["metadata"] == [{"kind": "changed", "path": ["step"], "before": 0, "after": 1}]
    assert found["unchanged"] == []


async def test_diff_leads_by_paths_and_cuts_many_places(database_uri: str) -> None:
    """Paths lead to what differs; of many places some are shown."""
    async with open_saver("sync-string", database_uri) as saver:
        old = {"settings": {"a": {"b": [1, 2, {"c": "old"}]}}, "many": {f"{n}": n for n in range(100)}, "gone": 1}
        new = {"settings": {"a": {"b": [1, 2, {"c": "new"}]}}, "many": {f"{n}": -n for n in range(100)}, "more": 2}
        await put(saver, config_of("1"), "a", {**old, "same": "x"})
        await put(saver, config_of("1", "a"), "b", {**new, "same": "x"})
    done = eventlog(database_uri, "diff", "1", "a", "b")
    assert "settings\n  a.b[2].c\n  - old\n  + new\n" in done.stdout
    assert "gone\n  - 1\n" in done.stdout
    assert "more\n  + 2\n" in done.stdout
    assert "… 49 more (--full shows all)" in done.stdout
    assert "more (--full" not in eventlog(database_uri, "diff", "1", "a", "b", "--full").stdout
    assert done.stdout.endswith("Equal: same\n")


async def test_diff_shows_langgraphs_own_channels_with_full_alone(database_uri: str) -> None:
    async with open_saver("sync-string", database_uri) as saver:
        config = await put(saver, config_of("1"), "1", {"x": 1})
        await put(saver, config, "2", {"x": 2, "branch:to:ask": None})
    shown = eventlog(database_uri, "diff", "1", "1", "2").stdout
    assert "\n\nLangGraph's own, which --full shows: branch:to:ask\n" in shown
    assert "\nbranch:to:ask\n" not in shown
    assert "\nbranch:to:ask\n" in eventlog(database_uri, "diff", "1", "1", "2", "--full").stdout
    (found,) = documents(eventlog(database_uri, "diff", "1", "1", "2", "--json"))
    assert set(found["channels"]) == {"x", "branch:to:ask"}

"""The `eventlog` command on untrusted data: no code of it runs, and all of it is shown."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from tests.cli.command import ODD, clean_environment, documents, eventlog, process
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, put

__all__ = ["clean_environment"]  # fixture

EVIL = """
import dataclasses, enum, os, pathlib
from langchain_core.messages import AIMessage
from pydantic import BaseModel

def leave(name):
    if folder := os.environ.get("LEAVE"):
        pathlib.Path(folder, name).touch()

leave("imported")

@dataclasses.dataclass
class Data:
    text: str
    def __post_init__(self):
        leave("Data")

class Model(BaseModel):
    text: str
    def model_post_init(self, _):
        leave("Model")

class Spoken(AIMessage):
    def model_post_init(self, _):
        leave("Spoken")

class Set(set):
    def __init__(self, *a):
        leave("Set")
        super().__init__(*a)

class Choice(enum.Enum):
    ONE = 1
    @classmethod
    def _missing_(cls, value):
        leave("Choice")
"""


@pytest.fixture
async def evil(database_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A log with values of classes that leave files when they are made; yields the folder for these."""
    (tmp_path / "evil_things.py").write_text(textwrap.dedent(EVIL))
    monkeypatch.syspath_prepend(tmp_path)
    module: Any = __import__("evil_things")
    values = {
        "data": module.Data("a text"),
        "messages": [module.Spoken("Hello."), AIMessage("Hi.", additional_kwargs={"data": module.Data("within")})],
        "model": module.Model(text="x"),
        "set": module.Set([1]),
        "choice": module.Choice.ONE,
    }
    async with open_saver("sync-pool", database_uri) as saver:
        config = await put(saver, config_of("1"), "a", values, metadata={"note": module.Data("in metadata")})
        await saver.aput_writes(
            config, [("data", module.Data("written")), ("__interrupt__", [module.Data("i")])], "task"
        )
    del sys.modules["evil_things"]
    folder = tmp_path / "left"
    folder.mkdir()
    monkeypatch.setenv("LEAVE", str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    yield folder
    sys.modules.pop("evil_things", None)


def left(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


@pytest.mark.attack("auditor")
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_no_code_of_the_data_runs(database_uri: str, evil: Path, as_json: list[str]) -> None:
    """Though the module can be imported; all values are shown with their types' names, and one line says which."""
    done = eventlog(database_uri, "show", "1", "--full", *as_json)
    assert done.exit_code == 0
    assert left(evil) == set()
    for text in ("a text", "Hello.", "written", "in metadata", "evil_things.Data", "evil_things.Choice"):
        assert text in done.stdout
    assert ("within" in done.stdout) is bool(as_json)
    assert done.stderr == (
        "Shown as data, because these classes are not on the list of safe types (--allow or --trust loads them): "
        "evil_things:Choice, evil_things:Data, evil_things:Model, evil_things:Set, evil_things:Spoken\n"
    )


def test_only_allowed_classes_are_loaded_unless_all_are_trusted(database_uri: str, evil: Path) -> None:
    """Only what was allowed is loaded, unless everything is trusted."""
    done = eventlog(database_uri, "show", "1", "--allow", "evil_things:Data")
    assert left(evil) == {"imported", "Data"}
    assert "evil_things:Data" not in done.stderr
    assert "evil_things:Model" in done.stderr
    done = process(database_uri, "show", "1", "--trust")
    assert (done.returncode, done.stderr) == (0, "")
    assert left(evil) == {"imported", "Data", "Model", "Spoken", "Set"}
    assert "evil_things.Data(text='a text')" in done.stdout
    done = eventlog(database_uri, "show", "1", "--allow", "evil_things.Data")
    assert (done.exit_code, done.stdout) == (2, "")


def test_langgraphs_own_setting_changes_nothing(database_uri: str, evil: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "false")
    assert process(database_uri, "show", "1").returncode == 0
    assert left(evil) == set()


@pytest.mark.attack("auditor")
@pytest.mark.parametrize(
    "arguments", [["prune", "1", "--keep-last", "1"], ["delete-runs", "run"], ["verify"], ["copy", "1", "2"]]
)
async def test_no_code_of_the_data_runs_with_other_commands(
    database_uri: str, evil: Path, arguments: list[str]
) -> None:
    """What they have to decode of a checkpoint may hold anything, too."""
    module: Any = __import__("evil_things")
    async with open_saver("sync-pool", database_uri) as saver:
        config = await put(saver, config_of("1", "a"), "b", {}, metadata={"run_id": "run"}, odd=module.Data("x"))
        await put(saver, config, "c", {}, odd=module.Data("x"))
    for name in left(evil):
        (evil / name).unlink()
    del sys.modules["evil_things"]
    done = eventlog(database_uri, *arguments, *(["--yes"] if arguments[0] in ("prune", "delete-runs") else []))
    assert (done.exit_code, done.stderr) == (0, "")
    assert left(evil) == set()


class Raw(SerializerProtocol):
    """Stores a type tag and bytes as they are: what a forger could write."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return obj if isinstance(obj, tuple) else JsonPlusSerializer().dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return data


async def test_values_that_do_not_decode_are_named(database_uri: str) -> None:
    """They are named, and do not keep the others from being seen."""
    values = {
        "pickled": ("pickle", b"cos\nsystem\n(S'true'\ntR."),
        "broken": ("msgpack", b"\xc1"),
        "unknown": ("future", b"x"),
        "number": ("eventlog.int", b"zz"),
        "text": ("eventlog.str", b"\xff"),
        "plain": ("eventlog.json", b"{"),
        "good": "x",
    }
    async with open_saver("sync-pool", database_uri, serde=Raw()) as saver:
        config = await put(saver, config_of("1"), "a", values)
        await put(saver, config, "b", {"good": "y"}, new={"good": "b"})
    (found,) = documents(eventlog(database_uri, "show", "1", "a", "--json"))
    types = {name: channel["value"] for name, channel in found["channels"].items()}
    assert types.pop("good") == "x"
    assert {name: each["serialized_as"] for name, each in types.items()} == {name: values[name][0] for name in types}
    for arguments in ([], ["--trust"]):
        done = eventlog(database_uri, "show", "1", "a", *arguments)
        assert done.exit_code == 0
        assert done.stdout.count("undecodable") == 6
    # Where a whole history or difference is decoded, it ends there, with a message.
    for arguments in (["history", "1", "--changes"], ["diff", "1", "a", "b"]):
        done = eventlog(database_uri, *arguments)
        assert done.exit_code == 1
        assert "a value of type 'eventlog." in done.stderr


@pytest.mark.attack("hostile content")
@pytest.mark.parametrize("arguments", [["show", "1"], ["show", "1", "--full"]])
async def test_nothing_controls_the_terminal(database_uri: str, arguments: list[str]) -> None:
    """Wherever it stands: ids, channels, tasks, metadata, values."""
    async with open_saver("sync-pool", database_uri) as saver:
        calls = [{"name": ODD, "args": {ODD: ODD}, "id": ODD}]
        values = {ODD: {ODD: [ODD, ("human", ODD)]}, "messages": [AIMessage(ODD, name=ODD, tool_calls=calls)]}
        metadata = {ODD: ODD, "source": ODD, "run_id": ODD}
        config = await put(saver, config_of("1"), ODD, values, metadata=metadata)
        await saver.aput_writes(config, [(ODD, ODD), (ODD, ("x", [ODD]))], ODD, ODD)
    done = eventlog(database_uri, *arguments)
    assert done.exit_code == 0
    assert all(char.isprintable() for char in done.stdout.replace("\n", ""))
    assert "[red]odd[/red]\\x1b[31m" in done.stdout


@pytest.mark.attack("hostile content")
async def test_metadata_replaces_no_line_of_the_checkpoint(database_uri: str) -> None:
    """A key of the metadata that is called like one of them stands beneath it."""
    async with open_saver("sync-pool", database_uri) as saver:
        await put(saver, config_of("1"), "a", {"x": 1}, metadata={"checkpoint": "forged", "next": "forged"})
    lines = eventlog(database_uri, "show", "1").stdout.splitlines()
    assert lines[0] == "checkpoint  a"
    assert [line for line in lines if line.startswith("next ")] == ["next        nothing", "next        forged"]


# --- encrypted logs

KEY = "0123456789abcdef"


async def test_an_encrypted_log_is_shown_with_its_key_only(
    database_uri: str, evil: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the key it is shown as any other, and as safely; without it an error says so."""
    module: Any = __import__("evil_things")
    serde = EncryptedSerializer.from_pycryptodome_aes(key=KEY.encode())
    async with open_saver("sync-pool", database_uri, serde=serde) as saver:
        await put(saver, config_of("2"), "a", {"data": module.Data("a secret")})
    del sys.modules["evil_things"]
    for name in left(evil):
        (evil / name).unlink()
    done = eventlog(database_uri, "show", "2")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "it is encrypted" in done.stderr
    monkeypatch.setenv("LANGGRAPH_AES_KEY", KEY)
    done = eventlog(database_uri, "show", "2")
    assert "evil_things.Data(text='a secret')" in done.stdout
    assert left(evil) == set()
    monkeypatch.setenv("LANGGRAPH_AES_KEY", KEY[::-1])
    done = eventlog(database_uri, "show", "2")
    assert (done.exit_code, done.stdout) == (1, "")
    assert KEY[::-1] not in done.stderr

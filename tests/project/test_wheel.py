"""The distributions: which files they hold, and that the wheel works where nothing else is installed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePath

import pytest

pytestmark = pytest.mark.packaging

CHECKOUT = Path(__file__).parents[2]
#: All that the source distribution holds: folders, and files beside them. (The build adds PKG-INFO and .gitignore.)
SOURCES = {"bench", "demo", "docs", "eventlog", "examples", "langgraph", "projections", "snapshots", "sql", "tests"}
SOURCES |= {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "mkdocs.yml", "pyproject.toml"}
BUILT = {"PKG-INFO", ".gitignore"}

#: The tracked files that are not text: zstd's dictionary, what an earlier version stored, and pictures.
BINARY = ("eventlog/format/bodies.dict", "tests/versions/upgrades/*/*.gz", "docs/images/*.png")

#: How programs and libraries begin: ELF, Windows, Mach-O (also for several processors), WebAssembly, ar.
PROGRAMS = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\0asm", b"!<arch>\n")

PACKAGES = ("eventlog", "snapshots", "projections", "langgraph/checkpoint/eventlog")

# Run in an environment of its own, away from the checkout: set up, put, get.
SCRIPT = """
import sys
import eventlog
from importlib.util import find_spec
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.eventlog import EventLogSaver

uri, checkout = sys.argv[1:]
assert not eventlog.__file__.startswith(checkout), eventlog.__file__
assert find_spec("langgraph.graph") is None, "this must work without LangGraph itself"
assert find_spec("langgraph.checkpoint.postgres") is None, "this must work without the incumbent"

config = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
checkpoint = {**empty_checkpoint(), "channel_values": {"x": [1, 2]}, "channel_versions": {"x": "1"}}
with EventLogSaver.from_conn_string(uri) as saver:
    saver.setup()
    stored = saver.put(config, checkpoint, {"source": "input", "step": -1}, {"x": "1"})
with EventLogSaver.from_conn_string(uri) as saver:
    found = saver.get_tuple(stored)
assert found is not None
assert found.checkpoint["id"] == checkpoint["id"], found
assert found.checkpoint["channel_values"] == {"x": [1, 2]}, found
assert found.metadata["step"] == -1, found
print("stored and read")
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it, as an installer would."""
    built = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", built, cwd=CHECKOUT)
    return built


@pytest.fixture
def wheel(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


def tracked() -> list[str]:
    return run("git", "ls-files", "-z", cwd=CHECKOUT).split("\0")[:-1]


def is_binary(content: bytes) -> bool:
    try:
        return "\0" in content.decode()
    except UnicodeDecodeError:
        return True


def test_no_program_is_tracked() -> None:
    """Programs are downloaded or built where they are needed, and never committed."""
    begins = {name: (CHECKOUT / name).read_bytes()[:8] for name in tracked() if (CHECKOUT / name).is_file()}

    assert [name for name, begin in begins.items() if begin.startswith(PROGRAMS)] == []


def test_the_source_distribution_holds_the_sources_alone(built: Path) -> None:
    """All that is tracked in the folders and files on the list, and no binary file but those that are meant."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        contents = {
            member.name.partition("/")[2]: found.read()
            for member in archive.getmembers()
            if (found := archive.extractfile(member)) is not None
        }

    assert {name.partition("/")[0] for name in contents} == SOURCES | BUILT
    missing = {name for name in tracked() if name.partition("/")[0] in SOURCES and (CHECKOUT / name).is_file()}
    assert missing - contents.keys() == set()
    binary = {name for name, content in contents.items() if is_binary(content)}
    assert {name for name in binary if not any(PurePath(name).match(each) for each in BINARY)} == set()


def test_the_wheel_holds_the_library_and_its_sql(wheel: Path) -> None:
    """All of the library and its SQL, and no `__init__.py` that would hide LangGraph's."""
    names = set(zipfile.ZipFile(wheel).namelist())

    metadata = {name for name in names if ".dist-info/" in name}
    code = {
        path.relative_to(CHECKOUT).as_posix()
        for package in PACKAGES
        for path in (CHECKOUT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    sql = {
        f"eventlog/{path.relative_to(CHECKOUT).as_posix()}" for path in (CHECKOUT / "sql").rglob("*") if path.is_file()
    }
    assert sql, "the checkout has no SQL?"
    assert names - metadata == code | sql
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert not {"langgraph/__init__.py", "langgraph/checkpoint/__init__.py"} & names
    assert any(name.endswith("licenses/LICENSE") for name in metadata)


@pytest.mark.timeout(1200)
def test_the_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path, empty_database_uri: str) -> None:
    """In an empty environment, with its real dependencies, it stores and reads a checkpoint."""
    venv = tmp_path / "venv"
    python = venv / "bin" / "python"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    run(
        *(sys.executable, "-m", "uv", "pip", "install", "--python", python, f"{wheel}[binary]"),
        cwd=tmp_path,
    )

    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    written = run(python, "-I", script, empty_database_uri, CHECKOUT, cwd=tmp_path)

    assert written == "stored and read\n"

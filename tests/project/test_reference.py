"""The reference has a section for each public method and type: the sentence of its docstring, and an example.

The site renders arguments, results and errors from the docstring (`::: path` in a page), so a docstring has to have
all of them. `make docs` fails where such a path leads nowhere.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langgraph.checkpoint import eventlog as face

from langgraph.checkpoint.eventlog import EventLog, EventLogSaver, MigratingSaver, aio
from langgraph.checkpoint.eventlog.aio import AsyncEventLog, AsyncEventLogSaver, AsyncMigratingSaver
from tests.project.test_docs import FENCE, REFERENCE, prose

pytestmark = pytest.mark.lint

#: Described in settings.md, with their defaults.
SETTINGS = {"Retention", "RetryPolicy", "Settings", "Telemetry", "Upcaster"}

#: Classes with pages of their own, and the interface that users implement.
OBJECTS = {"EventLog", "EventLogSaver", "MigratingSaver", "Projection", "Usage"}

#: LangGraph's own, without arguments, or without a use of their own.
NAMED_ONLY = {"config_specs", "serde"}

#: Words of the description of one argument, field or error: a cell of a table.
CELL = 30


def sections() -> dict[str, str]:
    """By heading, what the pages have beneath it."""
    found: dict[str, str] = {}
    for page in [REFERENCE / f"{name}.md" for name in ("savers", "migrating-saver", "results")] + [
        *REFERENCE.glob("log*.md")
    ]:
        parts = re.split(r"^##+ (.+)$", page.read_text(), flags=re.MULTILINE)
        found.update(zip(parts[1::2], parts[2::2], strict=True))
    return found


SECTIONS = sections()


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")} - NAMED_ONLY


def is_refused(cls: type, name: str) -> bool:
    """Whether it is one of the sync saver's async methods, which raise NotImplementedError."""
    return cls is EventLogSaver and name in public(AsyncEventLogSaver) and name.startswith("a")


def is_ours(cls: type, name: str) -> bool:
    return any(name in vars(each) for each in cls.__mro__ if each.__module__.startswith(face.__name__))


def methods() -> Iterator[tuple[str, Any]]:
    """Public methods that have to have a section, each as the class has it."""
    for cls in (EventLogSaver, EventLog, MigratingSaver):
        for name in sorted(public(cls)):
            # The async methods of sync savers raise, or are LangGraph's, which do.
            if not is_refused(cls, name) and (cls is not MigratingSaver or is_ours(cls, name)):
                yield f"{cls.__name__}.{name}", inspect.getattr_static(cls, name)
    for name in sorted(public(AsyncEventLogSaver)):
        if name.startswith("a"):
            yield f"AsyncEventLogSaver.{name}", None


def function_of(member: Any) -> Callable[..., Any] | None:
    """The function of a method of ours; None for a property, and for what is LangGraph's."""
    member = getattr(member, "__func__", member)
    made = inspect.unwrap(member) if callable(member) else None
    return made if made is not None and made.__module__.startswith(face.__name__) else None


METHODS = dict(methods())
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: found for name, member in METHODS.items() if (found := function_of(member)) is not None},
    **{name: getattr(face, name) for name in face.__all__ if inspect.isfunction(getattr(face, name))},
    **{f"Projection.{name}": getattr(face.Projection, name) for name in ("setup", "apply")},
    "Cursor.parse": face.Cursor.parse.__func__,  # type: ignore[attr-defined]
    "Inspected.load": face.Inspected.load,
    "Inspected.upcast": face.Inspected.upcast,
}
CLASSES = [EventLog, EventLogSaver, MigratingSaver, AsyncEventLog, AsyncEventLogSaver, AsyncMigratingSaver, face.Usage]
TYPES = sorted(
    name
    for name in face.__all__
    if inspect.isclass(getattr(face, name)) and not issubclass(getattr(face, name), Exception)
)
RESULTS = [name for name in TYPES if name not in SETTINGS | OBJECTS]


def summary(documented: Any) -> str:
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def entries(documented: Any, title: str) -> dict[str, str]:
    """What a section of a docstring, such as `Args`, says of each name."""
    match = re.search(rf"^{title}:\n((?:    .*\n?|\n)+)", inspect.getdoc(documented) or "", re.MULTILINE)
    found = re.findall(r"^    \*{0,2}(\w+): ((?:.*\n?)(?:        .*\n?)*)", match[1] if match else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def undescribed(documented: Any, signature: inspect.Signature) -> set[str]:
    """The parameters without a line in the docstring, and the lines without a parameter."""
    return entries(documented, "Args").keys() ^ (signature.parameters.keys() - {"self", "cls"})


def test_an_argument_without_a_line_in_the_docstring_is_found() -> None:
    def method(self: Any, one: int, *, other: str) -> None:
        """Do it.

        Args:
            one: The one, which is
                described.
        """

    assert undescribed(method, inspect.signature(method)) == {"other"}
    assert entries(method, "Args") == {"one": "The one, which is described."}


# --- methods


@pytest.mark.parametrize("name", [*METHODS, *FUNCTIONS])
def test_a_method_has_a_section_with_an_example(name: str) -> None:
    assert name in SECTIONS, f"no page of docs/reference has the heading {name!r}"
    if name in METHODS or "." not in name:
        called = name.rpartition(".")[2]
        examples = [each["text"] for each in FENCE.finditer(SECTIONS[name]) if each["info"].startswith("python")]
        assert any(re.search(rf"\b{called}\b", each) for each in examples), f"{name} has no example"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_section_says_what_the_docstring_says(name: str) -> None:
    """Its first sentence, for readers on GitHub; the rest is rendered from the docstring."""
    text = SECTIONS[name].strip()
    assert " ".join(text.split("\n\n")[0].split()) == summary(FUNCTIONS[name])
    assert f"::: {face.__name__}.{name}\n" in text + "\n"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_docstring_describes_every_argument(name: str) -> None:
    function = FUNCTIONS[name]
    signature = inspect.signature(function)
    assert undescribed(function, signature) == set()
    if signature.return_annotation != "None" and name not in ("Projection.setup", "Projection.apply"):
        assert "\nReturns:\n    " in (inspect.getdoc(function) or ""), "it does not say what it returns"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_class_describes_every_argument(cls: type) -> None:
    assert undescribed(cls, inspect.signature(cls)) == set()
    assert SECTIONS[cls.__name__].strip().startswith(summary(cls))
    module = aio.__name__ if cls.__name__ in aio.__all__ else face.__name__
    assert f"::: {module}.{cls.__name__}\n" in SECTIONS[cls.__name__] + "\n"


def test_the_async_objects_have_no_further_methods() -> None:
    """So their methods are documented with those of the sync ones."""
    assert public(AsyncEventLog) == public(EventLog)
    assert public(AsyncMigratingSaver) == public(MigratingSaver)


def test_methods_that_are_only_named_are_named() -> None:
    text = prose(REFERENCE / "savers.md")
    refused = {name for name in public(EventLogSaver) if is_refused(EventLogSaver, name)}
    assert not {name for name in refused | NAMED_ONLY if not re.search(rf"`{name}\b", text)}


def test_the_overview_links_to_every_method() -> None:
    links = set(re.findall(r"#eventlog(\w+)\)", prose(REFERENCE / "log.md")))
    assert links >= public(EventLog) - {"embedded", "from_conn_string"}


@pytest.mark.parametrize("name", [*FUNCTIONS, *(f"{cls.__name__}" for cls in CLASSES)])
def test_descriptions_are_short(name: str) -> None:
    """They are cells of tables: more belongs into the text of the docstring."""
    documented = FUNCTIONS.get(name) or next(cls for cls in CLASSES if cls.__name__ == name)
    for title in ("Args", "Raises"):
        for entry, text in entries(documented, title).items():
            assert len(text.split()) <= CELL, f"{title} {entry}: {text}"


# --- types


def fields(name: str) -> Iterator[tuple[str, str | None]]:
    """The public fields of a class, each with the text beneath it."""
    (made,) = ast.parse(textwrap.dedent(inspect.getsource(getattr(face, name)))).body
    assert isinstance(made, ast.ClassDef)
    body = made.body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_"):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            yield node.target.id, str(following.value.value) if is_text else None  # type: ignore[union-attr]


#: Of `StoredEvent`: what the log itself reads, to verify events.
INTERNAL = {"first_at", "state_digest", "origin_base_seq", "origin_body_digest"}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_has_a_section_and_describes_its_fields(name: str) -> None:
    section = SECTIONS[name].strip()
    assert f"## {name}\n" in (REFERENCE / "results.md").read_text()
    assert " ".join(section.split("\n\n")[0].split()) == summary(getattr(face, name))
    assert f"::: {face.__name__}.{name}\n" in section + "\n"
    for field, text in fields(name):
        assert text or field in INTERNAL, f"{name}.{field} has no description"
        assert len((text or "").split()) <= CELL, f"{name}.{field}: {text}"


@pytest.mark.parametrize("name", sorted({*face.__all__, *aio.__all__}))
def test_every_public_name_is_in_the_reference(name: str) -> None:
    assert any(re.search(rf"\b{name}\b", page.read_text()) for page in REFERENCE.glob("*.md"))

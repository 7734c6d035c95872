"""Texts with lone surrogates inside of values: exact again when they are read, or refused with their path."""

from __future__ import annotations

import enum
import re
from collections import OrderedDict, UserString, deque
from functools import cached_property
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from eventlog.errors import SerializationError
from eventlog.format.contents import Serialized
from eventlog.format.strict import StrictSerializer
from eventlog.format.surrogates import escaped, has_lone_surrogate, unescaped
from eventlog.format.values import dumps, dumps_fields, loads
from tests.support.checkpoints import exactly

SERDE = JsonPlusSerializer()
BROKEN = "a\ud800?"


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")
    text: str = ""
    left_out: Any = Field(None, exclude=True)

    @cached_property
    def itself(self) -> Frozen:
        return self


class Secret(BaseModel):
    key: SecretStr


class Named(NamedTuple):
    text: str


class Colour(enum.Enum):
    BROKEN = "\ud800?"


def round_trip(value: Any) -> Any:
    return loads(SERDE, dumps(SERDE, value, "it"), "it")


texts = st.text(st.characters(), max_size=6)
surrogates = st.text(st.sampled_from("\ud800\udbff\udc00\udfff\U0010fffe.?aé\ue000"), max_size=6)
plain = st.recursive(
    st.one_of(texts, surrogates, st.integers(-(2**70), 2**70), st.none(), st.booleans(), st.binary(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(texts, surrogates, st.integers(0, 9)), inner, max_size=3),
    ),
    max_leaves=8,
)
messages = plain.map(lambda each: AIMessage("\ud800?", id="1", additional_kwargs={"x": each}))
values = st.one_of(plain, messages, st.lists(messages, max_size=2))


@given(values)
def test_every_value_comes_back_exactly_or_is_refused(value: Any) -> None:
    """Refused are only integers beyond 64 bits among what JSON does not hold; never is a text another one."""
    try:
        found = round_trip(value)
    except SerializationError:
        assert _has_long_integer(value)
    else:
        assert exactly(found, value)


def _has_long_integer(value: Any) -> bool:
    if isinstance(value, AIMessage):
        return _has_long_integer(value.additional_kwargs)
    if isinstance(value, (list, dict)):
        return any(map(_has_long_integer, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and not -(2**63) <= value < 2**64


@given(values)
def test_unescaping_undoes_escaping(value: Any) -> None:
    assert exactly(unescaped(escaped(value)), value)
    assert not has_lone_surrogate(escaped(value))


@pytest.mark.parametrize(
    "value",
    [
        Frozen(text=BROKEN, more={"deep": [BROKEN]}),
        [Named(BROKEN), {BROKEN}, frozenset({BROKEN}), deque([BROKEN])],
        {BROKEN: {1: BROKEN}},
    ],
)
def test_objects_keep_their_class_and_their_texts(value: Any) -> None:
    assert exactly(round_trip(value), value)


def test_a_secret_keeps_its_text() -> None:
    """Its comparison is by the secret."""
    found = round_trip([SecretStr(BROKEN), Secret(key=SecretStr(BROKEN))])
    assert [found[0].get_secret_value(), found[1].key.get_secret_value()] == [BROKEN, BROKEN]


def test_the_value_that_was_given_is_left_as_it_was() -> None:
    inner = {"text": BROKEN, "same": ["x"]}
    model = Frozen(text=BROKEN, more=inner)
    made = escaped([model, inner])
    assert (model.text, inner["text"]) == (BROKEN, BROKEN)
    assert made[1]["same"] is inner["same"]


def test_a_value_without_lone_surrogates_is_serialized_as_before() -> None:
    """Also where it has question marks, which is what the serializer writes for a lone surrogate."""
    for value in (["why?"], AIMessage("why? é\U0010fffe", id="1"), OrderedDict(a="?"), [UserString("?").data]):
        assert dumps(SERDE, value, "it") == Serialized(*SERDE.dumps_typed(value))


def test_what_contains_itself_outside_of_its_fields_is_looked_at_once() -> None:
    model = Frozen(text="why?", left_out=object())
    assert model.itself is model
    assert exactly(round_trip(model).text, "why?")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"l": [Colour.BROKEN]}, "at ['l'][0].value, in a tests.unit.test_surrogates.Colour"),
        ([re.compile("\ud800?")], "at [0].pattern, in a re.Pattern"),
    ],
)
def test_a_text_that_cannot_be_escaped_is_refused_with_its_path(value: Any, path: str) -> None:
    with pytest.raises(SerializationError, match=re.escape(path)):
        dumps(SERDE, value, "the value of channel 'x'")


def test_an_error_is_stored_as_the_text_that_it_shows() -> None:
    """As LangGraph's serializer stores it; Python's own errors escape what cannot be shown."""

    class Odd(Exception):
        def __repr__(self) -> str:
            return BROKEN

    assert round_trip([Odd(), ValueError(BROKEN)]) == [BROKEN, repr(ValueError(BROKEN))]


def test_metadata_with_objects_keeps_broken_texts() -> None:
    metadata = {"step": 1, "note": BROKEN, "message": AIMessage(BROKEN, id="1")}
    assert exactly(loads(SERDE, dumps_fields(SERDE, metadata, "the metadata"), "it"), metadata)


def test_a_reader_that_builds_no_types_gets_the_texts_too() -> None:
    stored = dumps(SERDE, [Frozen(text=BROKEN)], "it")
    (found,) = loads(StrictSerializer(), stored, "it")
    assert (found["$type"], found["text"]) == (f"{__name__}.Frozen", BROKEN)

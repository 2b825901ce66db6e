"""Displays and debuggers look at everything in many ways: at a proxy they must not pay a round trip for each of them."""

from __future__ import annotations

import inspect
import io
import numbers
import pprint
from collections import abc
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock
from unittest.util import safe_repr

import pytest
import rich
from rich.console import Console
from rich.pretty import pretty_repr

from tests.conformance.far import Far
from tests.house import messages_sent

SETUP = """
class Thing:
    def __init__(self): self.x, self.y = 1, [2]
    def method(self): "Does it."
    def __repr__(self): return "Thing()"
class Curious(Thing):
    def __getattr__(self, name): raise AttributeError(name)
def function(a, b=1): "Adds."; return a + b
thing, items, table, curious, many = Thing(), [1, 2], {"a": [1]}, Curious(), list(range(500))
"""


@pytest.fixture
def sent(far: Far) -> Iterator[Callable[[str, Callable[[Any], object]], int]]:
    """How many messages leave for a use of a far object that is met for the first time."""
    with far.lent(1) as conn:
        circuit: Any = conn._session.circuit
        honest = circuit.send
        heard = messages_sent(conn._session)

        def count(name: str, use: Callable[[Any], object]) -> int:
            one = conn.namespace["make_names"](SETUP)[0][name]
            heard.clear()
            use(one)
            return len(heard)

        yield count
        circuit.send = honest


# The names that IPython's display formatter asks for, each after its canary: documented in "Integrating your objects with IPython".
REPRESENTATIONS = ("_ipython_display_", "_repr_mimebundle_", "_repr_html_", "_repr_markdown_", "_repr_svg_", "_repr_png_", "_repr_pdf_",
                   "_repr_jpeg_", "_repr_latex_", "_repr_json_", "_repr_javascript_", "_repr_pretty_")  # fmt: skip


def ipython_display(one: Any) -> str:
    """What IPython does with the value of a cell."""
    for name in REPRESENTATIONS:
        if inspect.isclass(one) or getattr(one, "_ipython_canary_method_should_not_exist_", None) is not None:
            continue
        assert not callable(getattr(one, name, None))
    return repr(one)


def rich_inspect(one: Any) -> None:
    """What `rich.inspect` shows: each public attribute, which it has to read, and the text of each."""
    rich.inspect(one, console=Console(file=io.StringIO(), width=80))


def pytest_explains(one: Any, config: pytest.Config) -> object:
    """What pytest says of `assert one == other` that failed."""
    return config.hook.pytest_assertrepr_compare(config=config, op="==", left=one, right=[1])


CHEAP: dict[str, tuple[Callable[[Any], object], int]] = {
    "repr": (repr, 1),
    "IPython's display": (ipython_display, 1),
    "rich's pretty_repr": (pretty_repr, 4),
    "pprint": (pprint.pformat, 1),
    "unittest's safe_repr": (safe_repr, 1),
    "a debugger's attributes": (dir, 1),
    "being called": (callable, 0),
    "being a mock": (lambda one: mock.sentinel.x is one or isinstance(one, mock.Mock), 0),
    "abstract classes": (lambda one: [isinstance(one, kind) for kind in ABSTRACT], 0),
    "inspect's questions": (lambda one: [ask(one) for ask in QUESTIONS], 0),
}
ABSTRACT = (
    abc.Iterable,
    abc.Sequence,
    abc.Mapping,
    abc.Callable,
    abc.Awaitable,
    abc.Hashable,
    numbers.Number,
    list,
    dict,
    type,
)  # type: ignore[attr-defined]
QUESTIONS = (
    inspect.isclass,
    inspect.isfunction,
    inspect.ismodule,
    inspect.isgenerator,
    inspect.iscoroutine,
    inspect.isbuiltin,
)


@pytest.mark.parametrize("name", ["thing", "items", "table", "curious", "function", "many"])
@pytest.mark.parametrize("look", CHEAP)
def test_a_look_costs_few_messages(look: str, name: str, sent: Callable[..., int]) -> None:
    use, most = CHEAP[look]
    assert sent(name, use) <= most


@pytest.mark.parametrize(("name", "most"), [("thing", 12), ("items", 12), ("table", 12), ("curious", 12)])
def test_pytest_explains_a_comparison(
    name: str, most: int, sent: Callable[..., int], request: pytest.FixtureRequest
) -> None:
    assert sent(name, lambda one: pytest_explains(one, request.config)) <= most


@pytest.mark.parametrize("name", ["thing", "items", "function"])
def test_rich_inspects_with_a_few_messages_for_each_attribute(name: str, sent: Callable[..., int]) -> None:
    public = sent(name, lambda one: attributes.append(len([key for key in dir(one) if not key.startswith("_")])))
    assert public == 1
    assert sent(name, rich_inspect) <= 30 + 3 * attributes.pop()


attributes: list[int] = []

"""Operators between objects of two processes come to what they come to between local ones."""

from __future__ import annotations

# ruff: noqa: RUF005, SIM300  # which operand is on which side is the point
import datetime as dt
import operator
from array import array
from collections import Counter, OrderedDict, deque  # noqa: F401  # the table names them
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID  # noqa: F401

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.held import is_proxy
from rpyc_gateway.proxy import blocking_proxy
from tests.house import HOPS, open_house
from tests.telling import told

IMPORTS = """
    import datetime as dt
    from array import array
    from collections import Counter, OrderedDict, deque
    from decimal import Decimal
    from fractions import Fraction
    from uuid import UUID
"""

EXPRESSIONS = [
    ("[1, 2]", "+ - * == != < <= > >= in", "[3]"),
    ("[1, [2]]", "== + <", "[1, [2]]"),
    ("[1]", "* +", "2"),
    ("2", "*", "[1]"),
    ("(1, [])", "+ ==", "(2,)"),
    ("{1, 2}", "& | ^ - == != < <= > >= +", "{2, 3}"),
    ("{1, 2}", "& | ^ - == <=", "frozenset({2})"),
    ("{'a': 1}", "| == != <", "{'b': [2]}"),
    ("OrderedDict(a=1)", "| ==", "{'b': 2}"),
    ("Counter('aab')", "+ - & | ==", "Counter('ab')"),
    ("deque([1], 3)", "+ == * <", "deque([2])"),
    ("bytearray(b'a')", "+ == < % *", "b'b'"),
    ("b'a'", "+ == <", "bytearray(b'b')"),
    ("bytearray(b'a')", "+ == <", "bytearray(b'b')"),
    ("array('i', [1])", "+ == <", "array('i', [2])"),
    ("dt.date(2024, 1, 1)", "- == != < <= > >= +", "dt.date(2024, 2, 1)"),
    ("dt.date(2024, 1, 1)", "+ - ==", "dt.timedelta(3)"),
    ("dt.datetime(2024, 1, 1)", "- == <", "dt.datetime(2024, 2, 1, 3)"),
    ("dt.timedelta(3)", "+ - / // % == < >", "dt.timedelta(2)"),
    ("dt.timedelta(3)", "* / //", "2"),
    ("Decimal('1.5')", "+ - * / // % ** == < >", "Decimal('2.25')"),
    ("2", "+ - * / // % ** == < >", "Decimal('2.25')"),
    ("Decimal('1.5')", "+ - * / // % ** == <", "2"),
    ("Fraction(1, 2)", "+ - * / // % ** == < >", "Fraction(3, 4)"),
    ("Fraction(1, 2)", "+ * == <", "0.5"),
    ("UUID(int=1)", "== < >= +", "UUID(int=2)"),
    ("[1]", "+ == < |", "{1}"),
    ("{1}", "| == <", "[1]"),
    ("(1, 2)", "in", "{(1, 2), 3}"),
    ("dt.date(2024, 1, 1)", "in", "[dt.date(2024, 1, 1)]"),
    ("Decimal(1)", "in", "{1: 2}"),
    ("None", "== + <", "[1]"),
    ("'%s-%s'", "%", "(1, [2])"),
    ("'%(a)s'", "%", "{'a': 1}"),
    ("b'%s'", "%", "bytearray(b'x')"),
]
TABLE = [(left, symbol, right) for left, symbols, right in EXPRESSIONS for symbol in symbols.split()]
SYMBOLS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv, "%": operator.mod,
    "**": operator.pow, "&": operator.and_, "|": operator.or_, "^": operator.xor, "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "in": lambda a, b: a in b,
}  # fmt: skip


def come_to(symbol: str, left: object, right: object) -> Any:
    """The type and the value of an expression, or the type of what it raises."""
    try:
        value = gw.obtain(SYMBOLS[symbol](left, right))
    except Exception as error:  # noqa: BLE001  # it is the answer
        return type(error)
    return type(value), value


@HOPS
async def test_every_operator_comes_to_what_it_comes_to_here(hops: int) -> None:
    def story(lab: Any) -> None:
        wrong = []
        for left, symbol, right in TABLE:
            expected = come_to(symbol, eval(left), eval(right))
            for case, here, there in [
                ("remote left", lab.eval(left), eval(right)),
                ("remote right", eval(left), lab.eval(right)),
                ("both remote", lab.eval(left), lab.eval(right)),
            ]:
                got = come_to(symbol, here, there)
                if got != expected:
                    wrong.append(f"{left} {symbol} {right}, {case}: {got}, not {expected}")
        assert wrong == []

    await told(story, IMPORTS, hops=hops)


async def test_the_operand_on_the_left_decides_where_the_result_is() -> None:
    def story(lab: Any) -> None:
        assert is_proxy(lab.eval("[1]") + [2])
        result = [1] + lab.eval("[2]")
        assert (type(result), result) == (list, [1, 2])
        difference = dt.date(2024, 2, 1) - lab.eval("dt.date(2024, 1, 1)")
        assert (type(difference), difference) == (dt.timedelta, dt.timedelta(31))
        assert type({1} | lab.eval("{2}")) is set
        assert is_proxy(2 * lab.eval("[1]"))
        assert is_proxy(2 * lab.eval("Decimal(1)"))
        assert type(divmod(dt.timedelta(5), lab.eval("dt.timedelta(2)"))[1]) is dt.timedelta

    await told(story, IMPORTS)


@HOPS
async def test_each_of_them_is_one_round_trip(hops: int) -> None:
    def story(lab: Any, costs: Any) -> None:
        remote, other, day = lab.eval("[1]"), lab.eval("[2]"), lab.eval("dt.date(2024, 1, 1)")
        text, derived = lab.eval("Text('z')"), lab.eval("Items([1])")
        costs.calls()
        for expression in [
            lambda: remote + [2],
            lambda: [0] + remote,
            lambda: remote == [1],
            lambda: [1] == remote,
            lambda: remote + other,
            lambda: dt.date(2024, 2, 2) < day,
            lambda: day < dt.date(2024, 2, 2),
            lambda: day + dt.timedelta(1),
            lambda: "y" + text,
            lambda: text + "y",
            lambda: [0] + derived,
        ]:
            expression()
            assert costs.calls() == 1

    await told(story, IMPORTS + "\n    class Text(str): pass\n    class Items(list): pass", hops=hops)


async def test_what_is_changed_in_place_keeps_its_identity() -> None:
    def story(lab: Any) -> None:
        for make, add, sum_ in [
            ("[1]", "[2]", [1, 2]),
            ("bytearray(b'a')", "bytearray(b'b')", bytearray(b"ab")),
            ("deque([1])", "deque([2])", deque([1, 2])),
            ("array('i', [1])", "array('i', [2])", array("i", [1, 2])),
        ]:
            remote = kept = lab.eval(make)
            remote += eval(add)
            assert remote is kept
            assert gw.obtain(remote) == sum_
            local = kept = eval(make)
            local += lab.eval(add)
            assert local is kept
            assert local == sum_
            assert local + lab.eval(add) is not local
        local = kept = {1}
        local |= lab.eval("{2}")
        assert local is kept
        assert local == {1, 2}
        local -= lab.eval("{1}")
        assert local is kept
        assert local == {2}
        names = kept = {"a": 1}
        names |= lab.eval("{'b': 2}")
        assert names is kept
        assert names == {"a": 1, "b": 2}
        counter = kept = lab.eval("Steps()")
        counter += 1
        assert counter is kept
        assert counter.total == 1
        total = lab.eval("Decimal(1)")
        total += Decimal(2)
        assert total == 3

    await told(
        story,
        IMPORTS
        + """
    class Steps:
        total = 0
        def __iadd__(self, other): self.total += other; return self
    """,
    )


async def test_methods_written_in_python_get_the_very_object() -> None:
    def story(lab: Any) -> None:
        keeper, mine = lab.eval("Keeper()"), [1]
        assert keeper + mine is mine
        assert mine + keeper is mine
        assert (keeper == mine) is True
        assert keeper.kept is mine
        keeper @ mine
        assert mine == [1, "seen"]

    await told(
        story,
        """
        class Keeper:
            def __add__(self, other): return other
            def __radd__(self, other): return other
            def __eq__(self, other): self.kept = other; return True
            def __matmul__(self, other): other.append("seen")
        """,
    )


async def test_a_derived_class_without_a_method_of_its_own_behaves_like_its_base() -> None:
    class Local(list[Any]):
        pass

    def story(lab: Any) -> None:
        remote = lab.eval("Items([1])")
        assert gw.obtain(remote + [2]) == [1, 2]
        assert [0] + remote == [0, 1]
        assert remote == [1]
        assert [1] == remote
        assert lab.eval("[1]") == Local([1])
        assert gw.obtain(lab.eval("[1]") + Local([2])) == [1, 2]
        assert Local([0]) + lab.eval("[1]") == [0, 1]
        assert "y" + lab.eval("Text('z')") == "yz"
        assert (1,) + lab.eval("Pair(2, 3)") == (1, 2, 3)
        assert Decimal(1) + lab.eval("Price(2)") == 3
        assert lab.eval("Own([1])") + [2] == "mine"
        assert [2] + lab.eval("Own([1])") == "reflected"

    await told(
        story,
        IMPORTS
        + """
    from collections import namedtuple
    class Items(list): pass
    class Text(str): pass
    class Price(Decimal): pass
    class Own(list):
        def __add__(self, other): return "mine"
        def __radd__(self, other): return "reflected"
    Pair = namedtuple("Pair", "a b")
    """,
    )


async def test_a_class_derived_from_the_other_operands_is_asked_first() -> None:
    def story(lab: Any) -> None:
        assert lab.eval("Base()") + lab.eval("Derived()") == "derived"
        assert (lab.eval("Base()") < lab.eval("Derived()")) == "greater"

    await told(
        story,
        """
        class Base:
            def __add__(self, other): return "base"
            def __lt__(self, other): return "less"
        class Derived(Base):
            def __radd__(self, other): return "derived"
            def __gt__(self, other): return "greater"
        """,
    )


async def test_objects_of_both_sides_may_be_in_the_operands() -> None:
    class Mine:
        pass

    def story(lab: Any) -> None:
        mine, theirs = Mine(), lab.eval("object()")
        both = lab.eval("lambda *things: list(things)")(mine, theirs)
        assert both == [mine, theirs]
        assert [mine, theirs] == both
        assert ([0] + both)[1] is mine
        assert ([0] + both)[2] is theirs
        united = lab.eval("lambda *things: set(things)")(mine) | {theirs}
        assert mine in united
        assert theirs in united
        assert {theirs} | lab.eval("lambda *things: set(things)")(mine) == {mine, theirs}
        assert gw.obtain(len(lab.eval("{}") | {mine: 1})) == 1

    await told(story)


async def test_what_is_there_for_the_interpreter_is_no_attribute() -> None:
    def story(lab: Any) -> None:
        for source, name in [("[1]", "__radd__"), ("Text()", "__radd__"), ("bytearray()", "__bytes__")]:
            assert not hasattr(lab.eval(source), name)
        assert lab.eval("Decimal(1)").__radd__(2) == 3

    await told(story, IMPORTS + "\n    class Text(str): pass")


async def test_neither_side_knows_and_it_is_a_type_error() -> None:
    class Stranger:
        def __radd__(self, other: object) -> Any:
            return "mine" if is_proxy(other) else NotImplemented

    def story(lab: Any, costs: Any) -> None:
        for wrong in (lambda: lab.eval("[1]") + 5, lambda: 5 + lab.eval("[1]"), lambda: lab.eval("{}") - {1}):
            with pytest.raises(TypeError):
                wrong()
        items = lab.eval("[1]")
        costs.calls()
        for other in (object(), 5, None):
            with pytest.raises(TypeError):
                other + items  # type: ignore[operator]
        assert costs.calls() == 0
        assert lab.eval("[1]") + Stranger() == "mine"
        assert lab.eval("[1]") + lab.eval("Stranger()") == "theirs"
        items = lab.eval("[1]")
        items += Stranger()  # lists are asked last
        assert items == "mine"
        assert (lab.eval("[1]") == object()) is False
        assert (lab.eval("[1]") != object()) is True

    await told(story, "class Stranger:\n def __radd__(self, other): return 'theirs'")


async def test_powers_and_quotients() -> None:
    def story(lab: Any) -> None:
        three = lab.eval("Number(3)")
        assert pow(three, 2, 5) == 4
        assert divmod(lab.eval("dt.timedelta(5)"), dt.timedelta(2)) == (2, dt.timedelta(1))
        assert divmod(lab.eval("Decimal(5)"), Decimal(3)) == (1, 2)
        assert lab.eval("Matrix()") @ 2 == ("@", 2)
        assert 2 @ lab.eval("Matrix()") == ("r@", 2)
        assert lab.eval("Fraction(1, 2)") ** 2 == Fraction(1, 4)

    await told(
        story,
        IMPORTS
        + """
    class Number(int): pass
    class Matrix:
        def __matmul__(self, other): return ("@", other)
        def __rmatmul__(self, other): return ("r@", other)
    """,
    )


async def test_texts_take_remote_operands() -> None:
    def story(lab: Any) -> None:
        text, table, price = lab.eval("Text('z')"), lab.eval("{'a': [1]}"), lab.eval("Decimal('1.25')")
        assert ",".join(lab.eval("['a', 'b']")) == "a,b"
        assert text.join(["a", "b"]) == "azb"
        assert "%s %r" % (text, table) == "z {'a': [1]}"  # noqa: UP031
        assert "%(a)s" % table == "[1]"  # noqa: UP031
        assert "%.1f" % price == "1.2"  # noqa: UP031
        assert f"{price:.1f} {text:>3}" == "1.2   z"
        assert f"{table['a'][0]} {text}" == "1 z"
        assert "{a}".format_map(table) == "[1]"
        assert lab.eval("Text('%s-%s')") % (text, [1]) == "z-[1]"
        assert lab.eval("Text('{}')").format(text) == "z"

    await told(story, IMPORTS + "\n    class Text(str): pass")


async def test_operands_may_be_objects_of_another_session() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as one, nodes[0].session("lab") as two:

        def story() -> None:
            here, there = blocking_proxy(one.held_root), blocking_proxy(two.held_root)
            assert gw.obtain(here.eval("[1]") + there.eval("[2]")) == [1, 2]
            assert here.eval("[1, [2]]") == there.eval("[1, [2]]")
            assert here.eval("[1]") != there.eval("[2]")
            remote = kept = here.eval("{1}")
            remote |= there.eval("{2}")
            assert remote is kept
            assert remote == {1, 2}

        await trio.to_thread.run_sync(story)


async def test_a_time_zone_that_cannot_travel_is_an_error_and_no_wrong_answer() -> None:
    class Zone(dt.tzinfo):
        def utcoffset(self, _at: dt.datetime | None) -> dt.timedelta:
            return dt.timedelta(0)

    class Derived(dt.datetime):
        pass

    def story(lab: Any) -> None:
        remote = lab.eval("dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)")
        for kind in (dt.datetime, Derived):
            with pytest.raises(gw.EncodeError, match="time zone"):
                assert remote == kind(2024, 1, 1, tzinfo=Zone())

    await told(story, IMPORTS)


async def test_plain_data_in_expressions_of_trio_code() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as lab:
        remote = await lab.eval("[1]")
        assert await gw.ops.eq(remote, [1]) is True
        assert await gw.ops.eq(lab.eval("[1]"), [1]) is True  # of an expression no class is known yet
        assert await gw.obtain(gw.ops.add(remote, [2])) == [1, 2]
        mine = [1]
        await remote.append(await lab.eval("type('Keeper', (), {'__add__': lambda self, other: other})()"))
        assert await gw.ops.add(remote[1], mine) is mine


async def test_a_number_of_ours_may_know_what_the_far_one_does_not() -> None:
    def story(lab: Any) -> None:
        count = lab.eval("Count(5)")
        assert count * 1.5 == 7.5
        assert count / 2.0 == 2.5
        assert count + 1j == 5 + 1j
        assert 1.5 * count == 7.5

    await told(story, "class Count(int): pass")

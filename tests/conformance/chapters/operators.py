"""Operators: plain, reflected and in place, with operands of both sides."""

from tests.conformance.rows import Chapter

CHAPTER = Chapter("operators")

OPERATORS = {
    "add": "+", "sub": "-", "mul": "*", "matmul": "@", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**",
    "lshift": "<<", "rshift": ">>", "and": "&", "xor": "^", "or": "|",
}  # fmt: skip
SETUP = """
class Plain: pass
class Left:
    def __{name}__(self, other): return 'left', type(other).__name__
class Right:
    def __r{name}__(self, other): return 'right', type(other).__name__
class Place:
    def __i{name}__(self, other): self.got = other; return self
class Modest:
    def __{name}__(self, other): return NotImplemented
    __r{name}__ = __i{name}__ = __{name}__
plain, left, right, place, modest = Plain(), Left(), Right(), Place(), Modest()
"""
for name, sign in OPERATORS.items():
    CHAPTER.lines(
        SETUP.format(name=name),
        f"left {sign} 5",
        f"5 {sign} right",
        f"left {sign} right",
        f"modest {sign} right",
        f"left {sign} modest",
        f"place {sign}= 5; place.got",
        f"left {sign}= 5; left",
        f"same = place; same {sign}= 5; same is place",
        f"plain {sign} 5",
        f"5 {sign} left",
        f"right {sign} 5",
        f"modest {sign} modest",
        f"modest {sign}= 5",
        f"place {sign} 5",
        f"[hasattr(type(left), '__{name}__'), hasattr(type(left), '__r{name}__'), hasattr(type(left), '__i{name}__')]",
    )

HERE = """
class Plain: pass
class Right:
    def __radd__(self, other): return 'right', other.name
    def __rlt__(self, other): raise AssertionError
    def __gt__(self, other): return 'gt', other.name
    def __eq__(self, other): return other.name == 'here'
class Modest:
    def __add__(self, other): return NotImplemented
    def __lt__(self, other): return NotImplemented
    def __eq__(self, other): return NotImplemented
right, modest, plain = Right(), Modest(), Plain()
"""


class Here:
    name = "here"

    def __radd__(self, other):
        return "here", type(other).__name__

    def __gt__(self, other):
        return "gt here", type(other).__name__

    def __eq__(self, other):
        return "eq here"

    __hash__ = None


class Mute:
    name = "here"


@CHAPTER.row(HERE)
def an_operand_of_this_side_is_asked_second(w):
    return w.modest + Here(), w.modest < Here(), w.modest == Here(), w.plain + Here()


@CHAPTER.row(HERE)
def an_operand_of_the_far_side_is_asked_second(w):
    return Mute() + w.right, Mute() < w.right, Mute() == w.right, Mute() != w.right


@CHAPTER.row(
    "class Base:\n def __add__(self, o): return 'base'\nclass Sub(Base):\n def __radd__(self, o): return 'sub'\nb, s = Base(), Sub()"
)
def the_right_operand_of_a_subclass_is_asked_first(w):
    return w.b + w.s, w.s + w.b


CHAPTER.lines(
    """
    class Modular:
        def __pow__(self, exponent, modulus=None): return 'pow', exponent, modulus
        def __rpow__(self, base): return 'rpow', base
        def __divmod__(self, other): return 'divmod', other
        def __rdivmod__(self, other): return 'rdivmod', other
    number = Modular()
    """,
    "pow(number, 2)",
    "pow(number, 2, 5)",
    "2 ** number",
    "pow(2, number)",
    "divmod(number, 2)",
    "divmod(2, number)",
    "divmod(number, number)",
)
NUMBERS = """
from decimal import Decimal
from fractions import Fraction
from datetime import date, timedelta
price, part, day, week = Decimal('1.25'), Fraction(1, 3), date(2024, 2, 29), timedelta(7)
class Count(int): pass
count = Count(5)
"""
CHAPTER.lines(
    NUMBERS,
    "price + 1",
    "2 * price",
    "price < 2",
    "1 < price",
    "price == 1.25",
    "-price",
    "price ** 2",
    "sum([price, price])",
    "round(price, 1), round(price)",
    "part + 1",
    "1 - part",
    "part * 3 == 1",
    "part + part",
    "day + week",
    "week * 2",
    "2 * week",
    "day - __import__('datetime').date(2024, 1, 1)",
    "__import__('datetime').date(2025, 1, 1) - day",
    "__import__('datetime').date(2025, 1, 1) > day",
    "day < __import__('datetime').date(2025, 1, 1)",
    "__import__('datetime').date(2024, 2, 29) == day",
    "__import__('datetime').timedelta(1) + week",
    "__import__('decimal').Decimal(2) * price",
    "price - __import__('decimal').Decimal(2)",
    "__import__('fractions').Fraction(1, 2) + part",
    "count + 1",
    "10 - count",
    "count * 1.5",
    "'ab' * count",
    "[0] * count",
    "count == 5, 5 == count, hash(count) == hash(5)",
    "count & 4, 4 | count, ~count, count << 1, 1 << count",
    "divmod(17, count), pow(2, count, 10)",
    "'%d' % count, '%x' % count, '%.1f' % price",
    "max(price, 1), min(1, price)",
    "sorted([price, 1, part])",
    "price and 1, not price",
    "abs(-part), divmod(part, 1)",
    about="numbers: ",
)
CHAPTER.lines(
    "items, pair, text, data = [1, 2], type('Pair', (tuple,), {})((1, 2)), type('Text', (str,), {})('ab'), bytearray(b'ab')",
    "[0] + items",
    "items + [3]",
    "items * 2, 2 * items",
    "items += [3]; items",
    "items *= 2; items",
    "here = [0]; here += items; here",
    "(0,) + pair",
    "pair + (3,)",
    "'x' + text",
    "text + 'x'",
    "text * 2, text == 'ab', 'ab' == text, text < 'b', 'a' < text",
    "'%s and %s' % (text, items)",
    "b'x' + data",
    "data + b'x'",
    "data == b'ab', b'ab' == data",
    "items == [1, 2], [1, 2] == items, items != [1, 2], [3] == items",
    "items < [2], [2] > items, items <= [1, 2], [0] < items",
    "pair == (1, 2), (1, 2) == pair, (0,) < pair",
    "items + (1,)",
    "[1] + pair",
    "'x' + items",
    "items < 5",
    "1 + items",
    about="sequences: ",
)
CHAPTER.lines(
    "some, table, frozen = {1, 2}, {'a': 1}, type('F', (frozenset,), {})({1, 2})",
    "some | {3}, {3} | some",
    "some & {1}, {1} & some",
    "some - {1}, {1, 5} - some",
    "some ^ {1, 5}, {1, 5} ^ some",
    "some |= {3}; some",
    "some <= {1, 2, 3}, {1} < some, some == {1, 2}, {1, 2} == some, some >= {1}",
    "here = {9}; here |= some; sorted(here)",
    "some | table.keys(), table.keys() & {'a'}, {'a', 'b'} - table.keys()",
    "table | {'b': 2}, {'b': 2} | table",
    "table |= {'b': 2}; table",
    "table == {'a': 1}, {'a': 1} == table, table != {}",
    "table.items() == {('a', 1)}, ('a', 1) in table.items()",
    "frozen | {3}, {3} | frozen, frozen == {1, 2}, hash(frozen) == hash(frozenset({1, 2}))",
    "some | [1]",
    "table | [1]",
    about="sets and dicts: ",
)

"""Values: what travels as itself, what is copied, pickled, formatted, converted."""

import copy
import json
import math
import pickle

from tests.conformance.rows import Chapter

CHAPTER = Chapter("values")
CHAPTER.lines(
    """
    import math
    values = dict(
        none=None, yes=True, small=5, big=10**50, negative=-(2**64), real=1.5, inf=math.inf, cpx=1-2j, text="ü€𝄞", empty="",
        raw=bytes(range(256)), dots=..., no=NotImplemented, pair=(1, (2, (3,))), frozen=frozenset({1, 2}), span=range(1, 10, 2), cut=slice(1, None, 2),
        long="x" * 100000, blob=b"y" * 100000, lone="\\udc80", nul="\\0", zero=-0.0, tiny=5e-324, edge=2**63, unit=(), deep=((((((1,),),),),),),
    )
    nan = math.nan
    def echo(x): return x
    def same(x, y): return x == y and type(x) is type(y)
    """,
    *(
        f"values[{name!r}], type(values[{name!r}]).__name__, type(values[{name!r}]) is type(echo(values[{name!r}])), same(values[{name!r}], echo(values[{name!r}]))"
        for name in (
            "none", "yes", "small", "big", "negative", "real", "inf", "cpx", "text", "empty", "raw", "dots", "no", "pair", "frozen",
            "span", "cut", "long", "blob", "lone", "nul", "zero", "tiny", "edge", "unit", "deep",
        )
    ),
    "nan != nan, type(nan).__name__",
    "values['yes'] is True, values['none'] is None, values['dots'] is ...",
    "echo(10**5000) == 10**5000, same(10**5000, 10**5000)",
    "echo((1, [2])), echo(([],))[0]",
    about="by value: ",
)  # fmt: skip
CHAPTER.lines(
    """
    from decimal import Decimal
    from datetime import date, datetime, timedelta
    from fractions import Fraction
    import enum, pathlib
    class Weird:
        def __format__(self, spec): return f"<{spec}>"
        def __str__(self): return "str"
        def __repr__(self): return "repr"
    class Count(int): pass
    class Text(str): pass
    class Ratio(float): pass
    class Level(enum.IntEnum): LOW = 2
    weird, price, day, count, text, ratio, items, level = Weird(), Decimal("2.50"), date(2024, 2, 29), Count(65), Text("ab"), Ratio(1.5), [1, "a"], Level.LOW
    part, moment, path, data = Fraction(7, 2), datetime(2024, 1, 2, 3, 4), pathlib.PurePosixPath("/a/b"), bytearray(b"ab")
    """,
    "f'{weird}', f'{weird:>5}', f'{weird!r}', f'{weird!s:>5}', f'{weird!a}'",
    "'{0} {0!r} {0:x}'.format(weird), '%s %r' % (weird, weird), str(weird), repr(weird), ascii(weird)",
    "f'{price:.1f} {price:>8}', f'{day:%d.%m.%y}', f'{moment:%H:%M}', f'{count:x} {count:>5}', f'{ratio:.3f}', f'{items}', f'{text:>5}'",
    "format(items, '>5')",
    "'{0.numerator} {0.denominator}'.format(part), '{0[1]}'.format(items)",
    "int(price), int(part), int(count), int(ratio), int(level)",
    "float(price), float(part), float(count), float(ratio)",
    "complex(price), complex(ratio), bool(price), bool(count)",
    "int(items)",
    "float(items)",
    "int(text)",
    "hex(count), bin(count), oct(count), chr(count), [0] * level, 'abc'[level], range(level)",
    "bytes(data), bytes(items[:1]), bytearray(data), bytes(level)",
    "round(price), round(price, 1), round(part), round(ratio), round(count, -1)",
    "__import__('math').floor(price), __import__('math').ceil(price), __import__('math').trunc(part), __import__('math').sqrt(price)",
    "divmod(price, 2), pow(price, 2), abs(-price), -count, +ratio, ~count",
    "sum([count, ratio, 1]), max(count, 70), sorted([count, 3, ratio])",
    "__import__('os').fspath(path), __import__('os').path.join(path, 'c')",
    "count.bit_length(), ratio.is_integer(), text.upper(), level.name, day.isoformat(), moment.timestamp() > 0",
    "text == 'ab', hash(text) == hash('ab'), {'ab': 1}[text], text in ['ab'], 'x%s' % text",
    "','.join([text, 'c'])",
    "'abc'.startswith(text)",
    "open(path)",
    "text.encode(), text + 'c', 'c' + text, text[0], list(text), len(text)",
    "count == 65, {65: 1}[count], count in range(70), count in [65], list(range(count))[-1]",
    "isinstance(count, int), isinstance(text, str), isinstance(level, int), isinstance(ratio, float)",
    "memoryview(data)[0]",
    about="conversions: ",
)
CHAPTER.lines(
    """
    import copy, pickle
    items, table, nested = [1, 2], {"a": [1]}, [[1], {"k": (2, [3])}]
    class Thing:
        def __init__(self): self.x = [1]
        def __eq__(self, other): return isinstance(other, Thing) and self.x == other.x
    class Copied:
        def __init__(self, how="made"): self.how = how
        def __copy__(self): return Copied("copied")
        def __deepcopy__(self, memo): return Copied("deepcopied")
    thing, copied = Thing(), Copied()
    """,
    "copy = __import__('copy').copy(items); copy == items, copy is items, copy",
    "copy = __import__('copy').deepcopy(nested); copy[0].append(2); copy, nested",
    "copy = __import__('copy').copy(nested); copy[0].append(2); nested",
    "copy = __import__('copy').copy(thing); copy == thing, copy is thing, copy.x is thing.x",
    "copy = __import__('copy').deepcopy(thing); copy == thing, copy is thing, copy.x is thing.x",
    "__import__('copy').copy(copied).how, __import__('copy').deepcopy(copied).how",
    "__import__('copy').deepcopy([items, items])[0] is items",
    "here = __import__('copy').deepcopy({'k': items, 'l': items}); here['k'] is here['l'], here",
    "p = __import__('pickle'); p.loads(p.dumps(items)), p.loads(p.dumps(table)), p.loads(p.dumps([nested]))",
    "pickle.loads(pickle.dumps(items)) == items, pickle.loads(pickle.dumps(items)) is items",
    "items.copy() is items, table.copy() == table, list(items) == items, dict(table) == table",
    about="copies: ",
)
PLAIN = """
import datetime, decimal
from collections import OrderedDict, deque
data = {"list": [1, [2]], "dict": {"k": None}, "set": {1}, "tuple": (1, [2]), "bytes": bytearray(b"x"), "text": "t"}
day, price, queue, ordered = datetime.date(2024, 1, 2), decimal.Decimal("1.5"), deque([1], 3), OrderedDict(a=1)
jsonable = {"a": [1, 2, {"b": None}], "c": "x"}
def kind(x): return type(x).__name__, type(x).__module__
"""


@CHAPTER.row(PLAIN)
def obtain(w):
    here = w.obtain(w.data)
    return type(here) is dict, here, [type(one) for one in here.values()], here["list"] is w.data["list"]


@CHAPTER.row(PLAIN)
def obtained_dates_decimals_and_deques(w):
    return [(type(one).__name__, one) for one in map(w.obtain, (w.day, w.price, w.queue, w.ordered))]


@CHAPTER.row(PLAIN)
def json_of_what_was_obtained(w):
    return json.dumps(w.obtain(w.jsonable)), json.loads(json.dumps(w.obtain(w.jsonable))) == w.jsonable


@CHAPTER.row(PLAIN)
def json_with_the_help_of_isinstance(w):
    return json.dumps(w.jsonable)


@CHAPTER.row(PLAIN)
def deliver(w):
    return w.kind(w.deliver([1, [2]])), w.deliver({"a": [1]}), w.kind(w.deliver(w.obtain(w.day)))


@CHAPTER.row(PLAIN)
def mathematics_on_far_numbers(w):
    return math.sqrt(w.price), math.floor(w.price), math.isclose(w.price, 1.5)


@CHAPTER.row("import pickle\nclass Thing: pass\ndef there(x): return pickle.loads(x)")
def bytes_of_pickles_travel(w):
    return w.there(pickle.dumps({"a": 1})), pickle.loads(w.pickle.dumps([1, (2,)]))


@CHAPTER.row("nested = [[1], [2]]")
def replacing_parts_of_a_copy(w):
    mine = copy.deepcopy(w.nested)
    mine[0] = 5
    return mine, w.nested

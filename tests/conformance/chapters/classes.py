"""Classes: asked about, called, inherited from, looked into."""

import collections.abc
import dataclasses
import numbers

from tests.conformance.rows import Chapter

CHAPTER = Chapter("classes")
FAMILY = """
import collections, decimal, datetime, enum, fractions, pathlib
class Base:
    count = 0
    def __init__(self, x=1): self.x = x
    def hello(self): return "base", self.x
    def twice(self): return self.hello(), self.hello()
    @classmethod
    def named(cls): return cls.__name__
    @staticmethod
    def plain(x): return x
class Sub(Base):
    def hello(self): return "sub", super().hello()
class Other: pass
class Listy(list): pass
class Meta(type):
    def __len__(cls): return 42
    def __getitem__(cls, key): return cls.__name__, key
    def __iter__(cls): return iter("abc")
    def __contains__(cls, item): return item == "a"
    def __call__(cls, *args): return ("made", *args)
    @property
    def shade(cls): return "dark"
class Metal(metaclass=Meta): pass
class Even(type):
    def __instancecheck__(cls, x): return isinstance(x, int) and x % 2 == 0
    def __subclasscheck__(cls, c): return c is int
class EvenNumber(metaclass=Even): pass
base, sub, other, listy = Base(), Sub(2), Other(), Listy([1])
price, day, path, half = decimal.Decimal(1), datetime.datetime(2024, 1, 2), pathlib.PurePosixPath("a"), fractions.Fraction(1, 2)
items, table, some, text, queue = [1], {}, set(), type("Text", (str,), {})("a"), collections.deque()
def check(x, c): return isinstance(x, c)
def check_sub(a, b): return issubclass(a, b)
"""
CHAPTER.lines(
    FAMILY,
    "isinstance(base, Base), isinstance(sub, Base), isinstance(base, Sub), isinstance(other, Base)",
    "isinstance(sub, (Other, Base)), isinstance(sub, Other | Base), isinstance(other, (Base, Sub))",
    "isinstance(items, list), isinstance(items, dict), isinstance(items, object), isinstance(items, (dict, list))",
    "isinstance(listy, list), isinstance(listy, Listy), isinstance([], Listy), isinstance(text, str)",
    "isinstance(price, __import__('decimal').Decimal), isinstance(price, __import__('numbers').Number)",
    "isinstance(day, __import__('datetime').date), isinstance(path, __import__('pathlib').PurePath)",
    "isinstance(half, __import__('numbers').Rational), isinstance(half, __import__('numbers').Integral)",
    "isinstance(5, EvenNumber), isinstance(6, EvenNumber), isinstance('a', EvenNumber)",
    "issubclass(int, EvenNumber), issubclass(str, EvenNumber)",
    "isinstance(5, Base), isinstance(Base, Base), isinstance(base, type), isinstance(Base, type), isinstance(Metal, Meta)",
    "issubclass(Sub, Base), issubclass(Base, Sub), issubclass(Sub, object), issubclass(Sub, (Other, Base)), issubclass(Base, Base)",
    "issubclass(Listy, list), issubclass(Listy, dict), issubclass(list, Listy), issubclass(bool, Base)",
    "issubclass(base, Base)",
    "isinstance(base, base)",
    "check(base, Base), check(5, int), check([], list), check(base, object), check(sub, Base), check(Sub, type)",
    "check_sub(Sub, Base), check_sub(Sub, object)",
    "type(base).__name__, type(sub).__name__, type(items).__name__, type(Base).__name__, type(Metal).__name__",
    "type(base).__module__, type(base).__qualname__, type(items).__module__",
    "base.__class__ is Base, sub.__class__ is Sub, base.__class__ == Base, sub.__class__ is Base",
    "base.__class__.__name__, items.__class__ is list, Base.__class__ is type, Metal.__class__ is Meta",
    "type(base) is type(Base()), type(base) is type(sub), type(base) == type(Base())",
    "type(base) is Base",
    "type(items) is list",
    "Base.__name__, Base.__qualname__, Base.__module__, Sub.__bases__[0] is Base, len(Sub.__mro__), Sub.__mro__[1] is Base",
    "[c.__name__ for c in Sub.mro()], Base.__subclasses__()[0] is Sub, Sub.__base__ is Base",
    "repr(Base), str(Sub), repr(base)[:22]",
    "Base.count, Base.named(), Sub.named(), sub.named(), Base.plain(1), Base.hello(base), Base.hello(sub)",
    "Base.count = 5; sub.count, base.count",
    "Base.hello = lambda self: ('patched', self.x); base.hello(), sub.hello()",
    "del Base.count; base.count",
    "'hello' in vars(Base), 'count' in dir(Sub), hasattr(Base, 'named'), hasattr(Base, 'nothing')",
    "Base.nothing",
    "Base(7).x, Sub(x=8).x, Sub(9).hello()",
    "Base(1, 2)",
    "len(Metal), Metal['k'], list(Metal), 'a' in Metal, Metal(1, 2), Metal.shade",
    "len(Base)",
    "Base[int]",
    "hash(Base) == hash(Base), Base == Base, Base != Sub, {Base: 1}[Base], Base in [Base], len({Base, Sub, Base})",
    "Base | None, (Base | int) == (Base | int)",
    "callable(Base), bool(Base), bool(base)",
    "type('New', (object,), {'x': 1})().x, type(Base)('Made', (Base,), {'y': 2})().y",
    "list.append(items, 2); items",
    "object.__repr__(5)[:12], list.__len__([1])",
)
ABCS = ("Sequence", "MutableSequence", "Mapping", "MutableMapping", "Set", "Iterable", "Iterator", "Sized", "Hashable", "Callable", "Container", "Reversible", "Generator", "Awaitable", "AsyncIterable")  # fmt: skip
CHAPTER.lines(
    FAMILY + "walk = (x for x in ())\nasync def amount(): yield 1\nfunction = len\nturns = amount()",
    *(
        f"[isinstance(one, __import__('collections.abc').abc.{name}) for one in (items, table, some, text, queue, walk, turns, function, base, Base, Metal)]"
        for name in ABCS
    ),
    about="abstract: ",
)


@CHAPTER.row(FAMILY)
def a_class_of_ours_inherits_from_a_far_one(w):
    class Mine(w.Base):
        def hello(self):
            return "mine", super().hello()

        def extra(self):
            return self.x + 1

    mine = Mine(5)
    return (
        mine.hello(),
        mine.twice(),
        mine.extra(),
        isinstance(mine, w.Base),
        isinstance(mine, Mine),
        issubclass(Mine, w.Base),
        Mine.named(),
        mine.count,
        Mine.__mro__[1].__name__,
    )


@CHAPTER.row(FAMILY)
def a_class_of_ours_inherits_from_a_far_list(w):
    class Mine(w.Listy):
        def first(self):
            return self[0]

    mine = Mine([1, 2])
    mine.append(3)
    return mine.first(), len(mine), mine == [1, 2, 3], isinstance(mine, list), list(mine)


@CHAPTER.row(FAMILY)
def an_object_of_ours_of_a_far_class_is_used_there(w):
    class Mine(w.Base):
        def hello(self):
            return "mine"

    mine = Mine(3)
    mine.y = 4
    return w.check(mine, w.Base), w.Base.twice(mine), mine.y, mine.x, vars(mine)


@CHAPTER.row(
    "made = []\nclass Base:\n    def __init_subclass__(cls, /, tag=None, **kwargs): made.append((cls.__name__, tag))"
)
def init_subclass_hears_of_a_class_of_ours(w):
    class Mine(w.Base, tag="t"):
        pass

    return list(w.made), Mine.__name__


@CHAPTER.row("""
    class Meta(type):
        @classmethod
        def __prepare__(mcs, name, bases, **kw): return {"prepared": name}
        def __new__(mcs, name, bases, body, **kw): return super().__new__(mcs, name, bases, dict(body, made=True))
    class Base(metaclass=Meta): pass
    """)
def a_far_metaclass_makes_a_class_of_ours(w):
    class Mine(w.Base):
        z = 1

    return Mine.made, Mine.prepared, Mine.z, Mine().z


@CHAPTER.row("class Base: pass\nclass Stand:\n    def __mro_entries__(self, bases): return (Base,)\nstand = Stand()")
def mro_entries(w):
    class Mine(w.stand):
        x = 1

    return Mine.x, [c.__name__ for c in Mine.__orig_bases__ if isinstance(c, type)], issubclass(Mine, w.Base)


@CHAPTER.row(
    "from abc import ABC, abstractmethod\nclass Shape(ABC):\n    @abstractmethod\n    def area(self): ...\n    def double(self): return 2 * self.area()"
)
def abstract_classes(w):
    class Square(w.Shape):
        def area(self):
            return 4

    class Nothing(w.Shape):
        pass

    try:
        Nothing()
    except TypeError as error:
        return Square().double(), type(error), isinstance(Square(), w.Shape)


@CHAPTER.row("from abc import ABC\nclass Shape(ABC): pass\ndef check(x): return isinstance(x, Shape)")
def register_a_class_of_ours(w):
    class Round:
        pass

    w.Shape.register(Round)
    return isinstance(Round(), w.Shape), issubclass(Round, w.Shape)


@CHAPTER.row(
    "from typing import Generic, TypeVar\nT = TypeVar('T')\nclass Box(Generic[T]):\n    def __init__(self, item): self.item = item\nclass Bag:\n    def __class_getitem__(cls, key): return cls.__name__, key"
)
def generics(w):
    return w.Bag[int], w.Box[int](5).item, repr(w.Box[int]), w.Box[int].__origin__ is w.Box


@CHAPTER.row("""
    from dataclasses import dataclass, field
    @dataclass(order=True)
    class Point:
        x: int
        y: int = 0
        tags: list = field(default_factory=list)
    @dataclass(frozen=True)
    class Frozen: a: int
    point, frozen = Point(1, 2), Frozen(1)
    """)
def dataclass_objects(w):
    point = w.point
    point.x = 5
    point.tags.append("t")
    return point, point == w.Point(5, 2, ["t"]), point < w.Point(6), w.Frozen(1) == w.frozen, {w.frozen: 1}[w.Frozen(1)]


@CHAPTER.row(
    "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n    y: int = 0\npoint = Point(1)"
)
def dataclass_functions(w):
    return (
        dataclasses.is_dataclass(w.point),
        dataclasses.is_dataclass(w.Point),
        [one.name for one in dataclasses.fields(w.point)],
        dataclasses.asdict(w.point),
        dataclasses.replace(w.point, y=5),
        dataclasses.astuple(w.point),
    )


@CHAPTER.row("from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Point: x: int\npoint = Point(1)")
def a_frozen_dataclass(w):
    try:
        w.point.x = 2
    except dataclasses.FrozenInstanceError as error:
        return error, isinstance(error, AttributeError)


@CHAPTER.row("""
    from enum import Enum, IntEnum, Flag
    class Color(Enum):
        RED = 1
        BLUE = 2
        def nice(self): return self.name.title()
    class Level(IntEnum):
        LOW = 1
        HIGH = 2
    class Bits(Flag):
        A = 1
        B = 2
    def is_red(x): return x is Color.RED
    """)
def enums(w):
    Color, Level, Bits = w.Color, w.Level, w.Bits
    return (
        Color.RED is Color.RED,
        Color["RED"] is Color.RED,
        Color(2) is Color.BLUE,
        Color.RED == Color.RED,
        Color.RED != Color.BLUE,
        [one.name for one in Color],
        len(Color),
        Color.RED in Color,
        Color.RED.value,
        Color.RED.nice(),
        repr(Color.RED),
        Level.LOW < Level.HIGH,
        Level.LOW + 1,
        Level.LOW == 1,
        1 == Level.LOW,
        [10, 20, 30][Level.HIGH],
        Bits.A | Bits.B,
        (Bits.A | Bits.B) & Bits.A == Bits.A,
        Bits.A in (Bits.A | Bits.B),
        w.is_red(Color.RED),
        {Color.RED: 1}[Color.RED],
        isinstance(Color.RED, Color),
        Color.__members__["RED"] is Color.RED,
    )


@CHAPTER.row("from enum import Enum\nclass Color(Enum): RED = 1")
def a_value_that_is_no_member(w):
    return w.Color(5)


@CHAPTER.row("class Box:\n    def __init__(self): self.n = 0\n    def add(self, k): self.n += k; return self")
def a_fluent_interface(w):
    box = w.Box()
    return box.add(1).add(2) is box, box.n


@CHAPTER.row(
    "class A:\n    def who(self): return ['A']\nclass B(A):\n    def who(self): return ['B', *super().who()]\nclass C(A):\n    def who(self): return ['C', *super().who()]"
)
def several_far_bases(w):
    class D(w.B, w.C):
        def who(self):
            return ["D", *super().who()]

    return D().who(), [c.__name__ for c in D.__mro__]


@CHAPTER.row(FAMILY)
def bound_unbound_and_class_methods(w):
    return w.Base.hello(w.base), w.base.hello.__self__ is w.base, w.Base.named.__self__ is w.Base, w.base.hello.__name__


@CHAPTER.row("number = 5j\nitems = [1]\nfrom decimal import Decimal\nprice = Decimal(2)\ntable = {}")
def numbers_and_sequences(w):
    return (
        isinstance(w.price, numbers.Number),
        isinstance(w.items, collections.abc.Sequence),
        isinstance(w.table, collections.abc.Mapping),
        issubclass(type(w.items), collections.abc.MutableSequence),
    )

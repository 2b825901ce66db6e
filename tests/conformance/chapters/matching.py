"""The match statement, on far subjects and with far classes in its patterns."""

from tests.conformance.rows import Chapter

CHAPTER = Chapter("match")
SETUP = """
import enum
from collections import OrderedDict, deque, namedtuple
from dataclasses import dataclass
@dataclass
class Point:
    x: int
    y: int
class Named:
    __match_args__ = ("name",)
    def __init__(self, name): self.name = name
class Color(enum.Enum):
    RED = 1
    BLUE = 2
class Seq(list): pass
class Map(dict): pass
Pair = namedtuple("Pair", "a b")
subjects = dict(
    empty=[], one=[1], two=[1, 2], many=[1, 2, 3, 4], tup=(1, 2), nested=[1, [2, 3]], table={"kind": "a", "x": 1}, rest={"kind": "b", "x": 1, "y": 2},
    blank={}, point=Point(1, 2), named=Named("n"), red=Color.RED, queue=deque([1, 2]), seq=Seq([1, 2]), map=Map(kind="c"), ordered=OrderedDict(kind="d"),
    pair=Pair(1, 2), some={1, 2}, text="ab", raw=bytearray(b"ab"), number=5, none=None, gen=(i for i in "a"), string=type("S", (str,), {})("go"),
)
"""
NAMES = ("empty", "one", "two", "many", "tup", "nested", "table", "rest", "blank", "point", "named", "red", "queue", "seq", "map", "ordered",
         "pair", "some", "text", "raw", "number", "none", "gen", "string")  # fmt: skip


def sequences(subject):
    match subject:
        case []:
            return "empty"
        case [x]:
            return "one", x
        case [x, [y, z]]:
            return "nested", x, y, z
        case [x, y]:
            return "two", x, y
        case [first, *rest]:
            return "many", first, rest
        case _:
            return "no sequence"


def mappings(subject):
    match subject:
        case {"kind": "a", "x": x}:
            return "a", x
        case {"kind": str(kind), **rest} if rest:
            return "rest", kind, rest
        case {"kind": kind}:
            return "kind", kind
        case {}:
            return "mapping"
        case _:
            return "no mapping"


def builtins(subject):
    match subject:
        case bool() | int():
            return "int"
        case str("go"):
            return "go"
        case str(text):
            return "str", text == "ab"
        case list():
            return "list"
        case dict(table):
            return "dict", len(table)
        case set() | frozenset():
            return "set"
        case bytearray():
            return "bytearray"
        case tuple():
            return "tuple"
        case None:
            return "none"
        case _:
            return "something else"


for about, use in (("sequence", sequences), ("mapping", mappings), ("class", builtins)):
    for name in NAMES:

        def match(w, use=use, name=name):
            return use(w.subjects[name])

        match.__name__ = f"{about} patterns on {name}"
        CHAPTER.row(SETUP)(match)


@CHAPTER.row(SETUP)
def far_classes_in_patterns(w):
    Point, Named = w.Point, w.Named
    found = []
    for name in ("point", "named", "red", "two"):
        match w.subjects[name]:
            case Point(x, y=2):
                found.append(("point", x))
            case Named("m"):
                found.append("wrong name")
            case Named(name=n):
                found.append(("named", n))
            case w.Color.RED:
                found.append("red")
            case _:
                found.append("nothing")
    return found


@CHAPTER.row(SETUP)
def positional_patterns_of_a_far_class(w):
    Named, Point = w.Named, w.Point
    match w.subjects["named"]:
        case Named(n):
            first = n
    match w.subjects["point"]:
        case Point(5, _):
            second = "wrong"
        case Point(1, y):
            second = y
    return first, second


@CHAPTER.row("commands = [['go', 'north'], ['take', 'lamp', 'sword'], ['quit'], {'say': 'hi'}, 'help', 42]")
def a_command_interpreter(w):
    answers = []
    for command in w.commands:
        match command:
            case ["go", ("north" | "south") as where]:
                answers.append(f"going {where}")
            case ["take", *things]:
                answers.append(f"taking {', '.join(things)}")
            case ["quit"]:
                answers.append("bye")
            case {"say": what}:
                answers.append(what)
            case str() as word:
                answers.append(word)
            case int(n) if n > 40:
                answers.append(n)
    return answers


@CHAPTER.row(
    "def match(x):\n    match x:\n        case [a, b]: return 'two', a\n        case {'k': v}: return 'map', v\n        case str(): return 'str'\n        case _: return 'other'"
)
def objects_of_ours_are_matched_there(w):
    return w.match([1, 2]), w.match({"k": 5}), w.match("a"), w.match(5), w.match([1])

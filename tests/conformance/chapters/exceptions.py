"""Exceptions: raised there and caught here, raised here and caught there, with all that hangs on them."""

import contextlib
import traceback

import pytest

from tests.conformance.rows import Chapter

CHAPTER = Chapter("exceptions")
CHAPTER.lines(
    """
    import asyncio, contextlib, decimal, json, os, pathlib, queue, re, sqlite3, struct, subprocess, zlib
    def key(): {}["a"]
    def index(): [][5]
    def zero(): 1 / 0
    def name(): undefined
    def attribute(): (5).x
    def type_(): 1 + "a"
    def value(): int("x")
    def unicode(): b"\\xff".decode()
    def encode(): "\\u20ac".encode("ascii")
    def file(): open("/no/such/file")
    def folder(): os.listdir("/no/such/folder")
    def import_(): import no_such_module
    def import_from(): from os import no_such_name
    def syntax(): compile("a b", "<here>", "exec")
    def eval_(): eval("1 +")
    def recursion(): recursion()
    def assertion(): assert 1 == 2, "not equal"
    def bare(): assert False
    def stop(): next(iter(()))
    def unpack(): a, b = (1,)
    def decode(): json.loads("{")
    def pattern(): re.compile("(")
    def database():
        with contextlib.closing(sqlite3.connect(":memory:")) as c: c.execute("select nothing")
    def constraint():
        with contextlib.closing(sqlite3.connect(":memory:")) as c:
            c.execute("create table t (a unique)"); c.execute("insert into t values (1), (1)")
    def process(): subprocess.run(["false"], check=True)
    def empty(): queue.Queue().get_nowait()
    def invalid(): decimal.Decimal("x")
    def packing(): struct.unpack("i", b"")
    def packed(): zlib.decompress(b"x")
    def overflow(): 2.0 ** 10000
    def timeout(): raise TimeoutError("too late")
    def not_implemented(): raise NotImplementedError
    def chained():
        try: zero()
        except ZeroDivisionError as e: raise LookupError("outer") from e
    def no_args(): raise ValueError
    def many_args(): raise ValueError(1, "two", (3,), None, [4])
    def wrong(): raise "text"
    def warning(): raise DeprecationWarning("old")
    def system(): raise OSError(2, "No such thing", "a file")
    """,
    *(
        f"{name}()"
        for name in (
            "key", "index", "zero", "name", "attribute", "type_", "value", "unicode", "encode", "file", "folder", "import_",
            "import_from", "syntax", "eval_", "recursion", "assertion", "bare", "stop", "unpack", "decode", "pattern", "database",
            "constraint", "process", "empty", "invalid", "packing", "packed", "overflow", "timeout", "not_implemented", "chained",
            "no_args", "many_args", "wrong", "warning", "system",
        )
    ),
)  # fmt: skip


def caught(call, *args):
    try:
        call(*args)
    except Exception as error:  # noqa: BLE001  # whatever it is, the row looks at it
        return error
    return None


OURS = """
class AppError(Exception):
    def __init__(self, message, code=0): super().__init__(message); self.code = code
    def advice(self): return "try again", self.code
class Special(AppError): pass
class Keyish(KeyError): pass
class Strange(Exception):
    def __init__(self, *, needed): self.needed = needed
    def __str__(self): return f"strange {self.needed}"
class Both(LookupError, ArithmeticError): pass
def fail(): raise AppError("app", 7)
def special(): raise Special("special", 8)
def keyish(): raise Keyish("k")
def strange(): raise Strange(needed=5)
def both(): raise Both("both")
def run(f):
    try: return f()
    except AppError as error: return "app", type(error).__name__, error.args, error.code
    except LookupError as error: return "lookup", type(error).__name__, error.args
instance = AppError("instance", 9)
"""
CHAPTER.lines(
    OURS,
    "fail()",
    "special()",
    "strange()",
    "run(fail), run(special), run(keyish), run(both)",
    "run(lambda: {}['x'])",
    "run(lambda: fail())",
    "instance, instance.code, instance.args, str(instance), repr(instance), instance.advice()",
    "isinstance(instance, AppError), isinstance(instance, Exception), isinstance(instance, BaseException), issubclass(AppError, Exception)",
    "AppError('x').args, Special('y', 2).code, Strange(needed=1).needed",
    "raise AppError('here', 3)",
    "raise AppError",
    "raise Keyish('k')",
    "raise instance",
    "raise instance from KeyError(1)",
    "raise ValueError(1) from instance",
    "raise Strange(needed=2)",
    about="custom: ",
)


@CHAPTER.row(OURS)
def a_far_class_catches(w):
    heard = []
    for call in (w.fail, w.special, w.strange, w.keyish):
        try:
            call()
        except w.Special as error:
            heard.append(("special", error.code))
        except w.AppError as error:
            heard.append(("app", error.code, str(error)))
        except (w.Strange, ValueError) as error:
            heard.append(("strange", error.needed, str(error)))
        except LookupError as error:
            heard.append(("lookup", error.args))
    return heard


@CHAPTER.row(OURS)
def what_is_caught_has_its_class_methods_and_attributes(w):
    error = caught(w.special)
    return (
        isinstance(error, w.Special),
        isinstance(error, w.AppError),
        isinstance(error, w.Keyish),
        error.__class__.__name__,
        error.code,
        error.advice(),
        type(error).__mro__[1].__name__,
    )


@CHAPTER.row(OURS)
def a_far_class_is_raised_here(w):
    try:
        raise w.Special("mine", 4)
    except w.AppError as error:
        return error.code, error.args, isinstance(error, w.Special), isinstance(error, Exception), error.advice()


@CHAPTER.row(OURS)
def a_far_class_raised_here_is_caught_there(w):
    def fail():
        raise w.Special("mine", 4)

    return w.run(fail)


@CHAPTER.row(OURS)
def a_class_of_ours_inherits_from_a_far_exception(w):
    class Mine(w.AppError):
        def extra(self):
            return self.code + 1

    def fail():
        raise Mine("mine", 5)

    try:
        fail()
    except w.AppError as error:
        return error.extra(), isinstance(error, Mine), w.run(fail)[0]


@CHAPTER.row(OURS)
def suppressing_and_expecting_by_far_classes(w):
    with contextlib.suppress(w.AppError):
        w.special()
    with pytest.raises(w.AppError, match="app") as info:
        w.fail()
    return info.value.code


@CHAPTER.row("def call(f): return f()\ndef relay(f):\n    try: f()\n    except KeyError: raise")
def an_exception_of_ours_comes_home_as_itself(w):
    class Mine(Exception):
        pass

    mine = Mine("mine")

    def fail():
        raise mine

    return caught(w.call, fail) is mine


@CHAPTER.row("def call(f): return f()")
def through_several_layers(w):
    def fail():
        raise KeyError("deep")

    return caught(w.call, lambda: w.call(lambda: w.call(fail)))


@CHAPTER.row("""
    def noted():
        error = ValueError("x"); error.add_note("first"); error.add_note("second"); raise error
    """)
def notes(w):
    return caught(w.noted).__notes__[:2]


@CHAPTER.row("""
    def explicit():
        try: {}["k"]
        except KeyError as e: raise ValueError("v") from e
    def implicit():
        try: {}["k"]
        except KeyError: raise ValueError("v")
    def hidden():
        try: {}["k"]
        except KeyError: raise ValueError("v") from None
    def deep():
        try: explicit()
        except ValueError as e: raise TypeError("t") from e
    """)
def causes_and_contexts(w):
    return [
        (error.__cause__, error.__suppress_context__, error.__context__, error.__cause__ and error.__cause__.__cause__)
        for error in map(caught, (w.explicit, w.implicit, w.hidden, w.deep))
    ]


@CHAPTER.row("""
    def several():
        raise ExceptionGroup("several", [ValueError(1), KeyError("k"), ExceptionGroup("inner", [ValueError(2), OSError(3, "o")])])
    """)
def groups_are_split_by_except_star(w):
    heard = []
    try:
        w.several()
    except* ValueError as group:
        heard.append(("value", group.message, len(group.exceptions), group))
    except* (KeyError, OSError) as group:
        heard.append(("others", group.message, len(group.exceptions), group))
    return heard


@CHAPTER.row("""
    class Mine(Exception): pass
    class Group(ExceptionGroup):
        def derive(self, excs): return Group(self.message, excs)
    def several(): raise Group("g", [Mine(1), ValueError(2)])
    """)
def groups_of_custom_classes(w):
    try:
        w.several()
    except* w.Mine as group:
        found = group.exceptions[0], type(group).__name__
    except* ValueError:
        pass
    return found, caught(w.several).subgroup(w.Mine).exceptions, isinstance(caught(w.several), w.Group)


@CHAPTER.row(
    "def stop(): raise StopIteration(5)\ndef walk():\n    yield 1\n    return 'result'\nasync_stop = StopAsyncIteration"
)
def stop_iteration_has_its_value(w):
    walk = w.walk()
    next(walk)
    return caught(lambda: next(walk)).value, caught(w.stop).value


@CHAPTER.row(
    "def fail(): open('/no/such/file')\ndef decode(): b'\\xff'.decode()\ndef exit_(): raise ImportError('m', name='n', path='p')\ndef attr(): (5).nothing\ndef name(): nothing"
)
def attributes_of_builtin_exceptions(w):
    os_error, unicode, import_, attribute, name = map(caught, (w.fail, w.decode, w.exit_, w.attr, w.name))
    return (
        (os_error.errno, os_error.strerror, os_error.filename, str(os_error)),
        (unicode.encoding, unicode.object, unicode.start, unicode.end, unicode.reason, str(unicode)),
        (import_.name, import_.path, import_.msg),
        (attribute.name, str(attribute)),
        (name.name, str(name)),
    )


@CHAPTER.row("def fail(): {}['k']")
def it_can_be_printed(w):
    error = caught(w.fail)
    lines = traceback.format_exception_only(error)
    return lines[0], str(error), repr(error), error.__traceback__ is not None, bool(traceback.format_exc())


@CHAPTER.row("def fail():\n    try: raise ValueError(1)\n    finally: log.append('finally')\nlog = []")
def finally_runs_there(w):
    return caught(w.fail), list(w.log)


@CHAPTER.row(
    "def call(f):\n    try: f()\n    except Exception as error: return type(error).__name__, error.args, str(error), isinstance(error, LookupError)"
)
def an_exception_of_ours_is_caught_there(w):
    def key():
        raise KeyError("mine")

    class Mine(LookupError):
        pass

    def mine():
        raise Mine(1, 2)

    return w.call(key), w.call(mine), w.call(lambda: 1 / 0)


@CHAPTER.row(
    "def keep(error): return error\ndef info(error): return type(error).__name__, error.args, isinstance(error, ValueError)\ndef throw(error): raise error"
)
def exceptions_are_values_too(w):
    mine = ValueError("mine")
    return w.keep(mine) is mine, w.info(mine), caught(w.throw, mine) is mine


@CHAPTER.row(
    "def fail(n):\n    error = ValueError(n)\n    error.extra = {'a': [n]}\n    error.number = n\n    raise error"
)
def attributes_set_on_the_instance(w):
    error = caught(w.fail, 3)
    return error.number, error.extra["a"][0]


@CHAPTER.row("errors = [ValueError(1), KeyError('k')]\ndef pick(i): return errors[i]")
def returned_not_raised(w):
    first = w.pick(0)
    return first.args, isinstance(first, ValueError), str(w.pick(1)), repr(w.pick(1)), type(first).__name__


@CHAPTER.row(
    "import warnings\ndef warn(): warnings.warn('careful', UserWarning, stacklevel=1); return 5\ndef collect():\n    with warnings.catch_warnings(record=True) as w:\n        warnings.simplefilter('always')\n        warn()\n    return [str(one.message) for one in w]"
)
def warnings_there(w):
    return w.collect()


@CHAPTER.row("def deep(n): return deep(n - 1) if n else {}['bottom']")
def after_an_exception_everything_goes_on(w):
    return caught(w.deep, 5), caught(w.deep, 50), caught(w.deep, 2)

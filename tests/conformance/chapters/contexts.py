"""Context managers: what they are told, what they suppress, what they replace."""

import contextlib

from tests.conformance.rows import Chapter

CHAPTER = Chapter("context managers")
MANAGERS = """
import contextlib
log = []
class Manager:
    def __init__(self, answer=None): self.answer = answer
    def __enter__(self): log.append("enter"); return self
    def __exit__(self, kind, error, traceback):
        log.append((kind and kind.__name__, error and error.args, traceback is not None, error is None or kind is error.__class__))
        return self.answer
class Raises(Manager):
    def __exit__(self, kind, error, traceback): raise LookupError("replaced")
class Refuses(Manager):
    def __enter__(self): raise OSError("not today")
class Half:
    def __enter__(self): return 1
class Custom(Exception): pass
@contextlib.contextmanager
def manage(name):
    log.append(("begin", name))
    try: yield name.upper()
    except KeyError as error: log.append(("key", error.args))
    finally: log.append("end")
manager, suppressing, raises, refuses, half, plain = Manager(), Manager(True), Raises(), Refuses(), Half(), object()
"""
CHAPTER.lines(
    MANAGERS,
    "with manager as inner: pass\ninner is manager, log",
    "with suppressing: raise KeyError(1, 2)\nlog",
    "with manager: raise KeyError(1, 2)",
    "with raises: pass",
    "with raises: raise KeyError(1)",
    "with refuses: log.append('never')",
    "with half: pass",
    "with plain: pass",
    "with manage('x') as name: log.append(name)\nlog",
    "with manage('x'): raise KeyError('k')\nlog",
    "with manage('x'): raise ValueError('v')",
    "with manage('x'): raise Custom('c')",
    "with suppressing: raise Custom('c')\nlog",
    "with manager, suppressing: raise KeyError(5)\nlog",
    "with suppressing, manager: raise KeyError(5)\nlog",
    "with suppressing: manager.missing\nlog",
)


@CHAPTER.row(MANAGERS)
def the_exception_that_leaves_is_the_one_that_was_raised(w):
    mine = KeyError("mine")
    try:
        with w.manager:
            raise mine
    except KeyError as error:
        return error is mine


@CHAPTER.row(MANAGERS)
def a_replaced_exception_has_the_first_as_context(w):
    try:
        with w.raises:
            raise KeyError("first")
    except LookupError as error:
        return error, error.__context__


@CHAPTER.row(MANAGERS)
def exit_stacks_of_ours(w):
    with contextlib.ExitStack() as stack:
        stack.enter_context(w.suppressing)
        name = stack.enter_context(w.manage("y"))
        stack.callback(w.log.append, "callback")
        raise OSError("swallowed")
    return name, w.log


@CHAPTER.row("from contextlib import ExitStack\nlog = []\nstack = ExitStack()")
def an_exit_stack_of_theirs(w):
    @contextlib.contextmanager
    def mine():
        w.log.append("mine in")
        yield 5
        w.log.append("mine out")

    with w.stack as stack:
        value = stack.enter_context(mine())
        stack.callback(w.log.append, "bye")
    return value, w.log


@CHAPTER.row(
    "def use(manager):\n    try:\n        with manager as value: raise KeyError('theirs')\n    except KeyError as error: return 'through', error.args\n    return 'suppressed'"
)
def a_manager_of_ours_used_there(w):
    class Mine:
        def __init__(self, answer):
            self.answer = answer

        def __enter__(self):
            return self

        def __exit__(self, kind, error, traceback):
            self.seen = kind.__name__, error.args
            return self.answer

    yes, no = Mine(True), Mine(False)
    return w.use(yes), w.use(no), yes.seen, no.seen


@CHAPTER.row("class Thing:\n    closed = 0\n    def close(self): self.closed += 1\nthing = Thing()")
def closing_redirecting_nullcontext(w):
    with contextlib.closing(w.thing) as thing:
        before = thing.closed
    with contextlib.nullcontext(w.thing) as same:
        return before, w.thing.closed, same is thing


@CHAPTER.row("import threading\nlock = threading.Lock()")
def locks(w):
    with w.lock as got:
        inside = w.lock.locked()
    return got, inside, w.lock.locked()


@CHAPTER.row(
    "import contextlib\n@contextlib.contextmanager\ndef manage(log):\n    log.append('in')\n    yield\n    log.append('out')"
)
def a_manager_as_decorator(w):
    log = []

    @w.manage(log)
    def f(x):
        log.append(x)
        return 2 * x

    return f(4), log

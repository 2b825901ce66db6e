"""Asynchronous calls of blocking code, and iteration in batches: RPyC's `async_`, `timed` and `buffiter`."""

import gc

from tests.conformance.rows import Chapter

CHAPTER = Chapter("asynchronous calls")
SETUP = """
import threading
gate = threading.Event()
noted = []
def echo(*args, **kwargs): return args, tuple(sorted(kwargs.items()))
def call(f, *args): return f(*args)
def wait(): return gate.wait(20)
def fails(): raise LookupError("on purpose", 5)
def note(x): noted.append(x); return len(noted)
class Counter:
    def __init__(self, count=0): self.count = count
    def add(self, n=1): self.count += n; return self.count
    def __call__(self, n): return self.count + n
counter = Counter(5)
items, table = list(range(50)), {str(n): n for n in range(30)}
def generate(n):
    for i in range(n): yield i
def broken():
    yield 1
    raise LookupError("in the middle")
"""


@CHAPTER.row(SETUP)
def what_is_returned(w):
    echo = w.async_(w.echo)
    results = [echo(n, name=n) for n in range(5)]
    return tuple(result.value for result in results)


@CHAPTER.row(SETUP)
def what_is_raised(w):
    fails = w.async_(w.fails)
    return fails().value


@CHAPTER.row(SETUP)
def what_is_raised_is_raised_each_time(w):
    fails = w.async_(w.fails)
    result = fails()
    caught = []
    for _ in range(2):
        try:
            result.value
        except LookupError as error:
            caught.append(error)
    return caught[0] is caught[1], caught[0].args


@CHAPTER.row(SETUP)
def how_it_looks_before_and_after(w):
    wait = w.async_(w.wait)
    result = wait()
    before = result.ready, result.error, result.expired
    w.gate.set()
    result.wait()
    return before, result.ready, result.error, result.expired, result.value


@CHAPTER.row(SETUP)
def how_an_error_looks(w):
    fails = w.async_(w.fails)
    result = fails()
    result.wait()
    return result.ready, result.error, result.expired


@CHAPTER.row(SETUP)
def methods_classes_and_objects(w):
    add, make, called = w.async_(w.counter.add), w.async_(w.Counter), w.async_(w.counter)
    first = add(2).value
    return first, make(7).value.count, called(1).value, isinstance(make().value, w.Counter)


@CHAPTER.row(SETUP)
def a_wrapper_that_nobody_keeps(w):
    return w.async_(w.echo)(1).value, w.async_(w.counter.add)(n=3).value


@CHAPTER.row(SETUP)
def it_begins_in_the_order_in_which_it_was_written(w):
    note = w.async_(w.note)
    results = [note(n) for n in range(20)]
    return tuple(result.value for result in results), tuple(w.noted)


@CHAPTER.row(SETUP)
def a_slow_one_holds_up_nobody(w):
    wait, echo = w.async_(w.wait), w.async_(w.echo)
    slow = wait()
    try:
        return echo(1).value, w.echo(2)
    finally:
        w.gate.set()
        slow.wait()


@CHAPTER.row(SETUP)
def callbacks_are_called_once_in_order(w):
    wait, seen = w.async_(w.wait), []
    result = wait()
    result.add_callback(lambda r: seen.append(("first", r.value, r is result)))
    result.add_callback(lambda r: seen.append(("second", r.ready, r.error)))
    w.gate.set()
    result.wait()
    result.add_callback(lambda r: seen.append("late"))
    return tuple(seen)


@CHAPTER.row(SETUP)
def a_callback_hears_of_an_error(w):
    fails, seen = w.async_(w.fails), []
    result = fails()
    result.wait()
    result.add_callback(lambda r: seen.append((r.error, r.ready)))
    return tuple(seen)


@CHAPTER.row(SETUP)
def functions_of_ours_are_called_meanwhile(w):
    call, here = w.async_(w.call), []
    result = call(here.append, 1)
    result.wait()
    return result.value, tuple(here)


@CHAPTER.row(SETUP)
def an_error_of_ours_comes_home(w):
    def fail():
        raise KeyError("ours")

    call = w.async_(w.call)
    return call(fail).value


@CHAPTER.row(SETUP)
def a_timed_call_that_is_quick(w):
    echo = w.timed(w.echo, 5)
    result = echo(1, a=2)
    return result.value, result.expired


@CHAPTER.row(SETUP)
def a_timed_call_that_is_not(w):
    wait = w.timed(w.wait, 0.05)
    result = wait()
    try:
        result.wait()
    except TimeoutError:
        return "late", result.expired, result.ready, result.error
    finally:
        w.gate.set()


@CHAPTER.row(SETUP)
def a_call_that_expired_holds_up_nobody(w):
    wait = w.timed(w.wait, 0.05)
    result = wait()
    try:
        result.value
    except TimeoutError:
        return "late", w.echo(1)
    finally:
        w.gate.set()


@CHAPTER.row(SETUP)
def an_expiry_is_set_and_taken_back(w):
    wait = w.async_(w.wait)
    result = wait()
    result.set_expiry(0.01)
    result.set_expiry(None)
    w.gate.set()
    return result.value, result.expired


@CHAPTER.row(SETUP)
def a_result_that_nobody_keeps(w):
    note = w.async_(w.note)
    for n in range(3):
        note(n)
    gc.collect()
    last = note("last")
    last.wait()
    return tuple(w.noted)


@CHAPTER.row(SETUP)
def batches_of_containers(w):
    return (
        tuple(w.buffiter(w.items)),
        tuple(w.buffiter(w.items, 3, 7, 2)),
        tuple(w.buffiter(w.table)),
        tuple(w.buffiter(w.generate(25), 10)),
        tuple(w.buffiter(w.generate(0))),
    )


@CHAPTER.row(SETUP)
def a_batch_that_ends_with_an_error(w):
    seen = []
    try:
        for item in w.buffiter(w.broken()):
            seen.append(item)
    except LookupError as error:
        return tuple(seen), error.args


@CHAPTER.row(SETUP)
def batches_that_are_left(w):
    for item in w.buffiter(w.generate(1000), 5):
        if item == 7:
            break
    return item


@CHAPTER.row(SETUP)
def an_iterator_goes_on_where_it_was(w):
    generator = w.generate(6)
    first = next(generator)
    return first, tuple(w.buffiter(generator, 2))


@CHAPTER.row(SETUP)
def what_cannot_be_iterated_in_batches(w):
    try:
        return tuple(w.buffiter(w.counter))
    except TypeError:
        return "TypeError"

"""Asynchronous protocols, in trio code: what can be awaited, walked and entered there can be here."""

import contextlib

import rpyc_gateway as gw
from rpyc_gateway.async_proxy import AsyncProxy
from tests.conformance.rows import Chapter

CHAPTER = Chapter("trio code")


async def settle(value):
    """What a synchronous expression gives: here at once, there by an await."""
    return await value if type(value) is AsyncProxy else value


async def awaited(value):
    """What an awaitable object comes to: an await of a proxy is there to send what it stands for."""
    return await (gw.ops.awaited(value) if type(value) is AsyncProxy else value)


SETUP = """
import contextlib, trio
log = []
def read():
    return tuple(log)
def plain(*args, **kwargs): return args, tuple(kwargs.items())
async def double(x):
    await trio.lowlevel.checkpoint()
    return 2 * x
async def fails(): raise KeyError("async")
async def stops(): raise StopAsyncIteration("mine")
async def call(f, *args): return await f(*args)
async def count(n):
    try:
        for i in range(n): yield i
    finally: log.append("closed")
async def broken():
    yield 1
    raise LookupError("in the middle")
async def echo():
    got = None
    while True:
        try: got = yield got
        except KeyError as error: got = "caught", error.args
class Stairs:
    def __init__(self, n): self.n = n
    def __aiter__(self): return Steps(self.n)
class Steps:
    def __init__(self, n): self.n = n
    def __aiter__(self): return self
    async def __anext__(self):
        if not self.n: raise StopAsyncIteration
        self.n -= 1
        return self.n
class Promise:
    def __init__(self, value): self.value = value
    def __await__(self):
        yield from trio.lowlevel.checkpoint().__await__()
        return self.value
class Manager:
    def __init__(self, answer=None): self.answer = answer
    async def __aenter__(self): log.append("enter"); return 5
    async def __aexit__(self, kind, error, traceback):
        log.append((kind and kind.__name__, error and error.args))
        if isinstance(self.answer, Exception): raise self.answer
        return self.answer
class Refuses(Manager):
    async def __aenter__(self): raise OSError("not today")
@contextlib.asynccontextmanager
async def manage(name):
    log.append("begin")
    try: yield name.upper()
    except KeyError as error: log.append(("key", error.args))
    finally: log.append("end")
class Thing:
    def __init__(self): self.x = 1
    async def method(self, y): return self.x, y
"""


@CHAPTER.async_row(SETUP)
async def coroutine_functions(w):
    return await w.double(4), await w.double(x=5)


@CHAPTER.async_row(SETUP)
async def an_exception_of_a_coroutine(w):
    await w.fails()


@CHAPTER.async_row(SETUP)
async def a_stop_that_is_no_end_of_an_iteration(w):
    await w.stops()


@CHAPTER.async_row(SETUP)
async def a_wrong_argument(w):
    await w.double(1, 2)


@CHAPTER.async_row(SETUP)
async def methods_that_are_coroutines(w):
    thing = await settle(w.Thing())
    return await thing.method(2)


@CHAPTER.async_row(SETUP)
async def objects_that_can_be_awaited(w):
    return await awaited(w.Promise(7)), await awaited(w.Promise((1, "x")))


@CHAPTER.async_row(SETUP)
async def asynchronous_generators(w):
    return [x async for x in w.count(3)], [x async for x in w.count(0)], await settle(w.read())


@CHAPTER.async_row(SETUP)
async def asynchronous_iterables(w):
    stairs = await settle(w.Stairs(3))
    return [x async for x in stairs], [x async for x in stairs], {x async for x in w.Steps(2)}


@CHAPTER.async_row(SETUP)
async def long_generators(w):
    return sum([x async for x in w.count(1000)])


@CHAPTER.async_row(SETUP)
async def a_generator_that_fails(w):
    seen = []
    try:
        async for x in w.broken():
            seen.append(x)
    except LookupError as error:
        return seen, error


@CHAPTER.async_row(SETUP)
async def anext_and_its_default(w):
    steps = aiter(await settle(w.Steps(1)))
    return await anext(steps), await anext(steps, "default")


@CHAPTER.async_row(SETUP)
async def the_end_of_an_iteration(w):
    await anext(aiter(await settle(w.Steps(0))))


@CHAPTER.async_row(SETUP)
async def asend_athrow_aclose(w):
    walk = await settle(w.echo())
    return (
        await walk.asend(None),
        await walk.asend(5),
        await walk.athrow(KeyError("k")),
        await walk.asend((1, 2)),
        await walk.aclose(),
    )


@CHAPTER.async_row(SETUP)
async def a_generator_that_is_closed(w):
    async with contextlib.aclosing(await settle(w.count(5))) as walk:
        async for x in walk:
            if x == 1:
                break
    return x, await settle(w.read())


@CHAPTER.async_row(SETUP)
async def a_manager_is_entered_and_left(w):
    async with w.Manager() as value:
        pass
    return value, await settle(w.read())


@CHAPTER.async_row(SETUP)
async def a_manager_suppresses(w):
    async with w.Manager(True):
        raise KeyError(1, 2)
    return await settle(w.read())


@CHAPTER.async_row(SETUP)
async def a_manager_lets_pass(w):
    mine = KeyError(1)
    try:
        async with w.Manager():
            raise mine
    except KeyError as error:
        return error is mine, await settle(w.read())


@CHAPTER.async_row(SETUP)
async def a_manager_replaces(w):
    async with w.Manager(LookupError("replaced")):
        raise KeyError(1)


@CHAPTER.async_row(SETUP)
async def a_manager_refuses(w):
    async with w.Refuses():
        raise AssertionError


@CHAPTER.async_row(SETUP)
async def managers_made_of_generators(w):
    async with w.manage("x") as name:
        pass
    async with w.manage("y"):
        raise KeyError("k")
    return name, await settle(w.read())


@CHAPTER.async_row(SETUP)
async def an_exit_stack(w):
    async with contextlib.AsyncExitStack() as stack:
        name = await stack.enter_async_context(w.manage("z"))
        five = await stack.enter_async_context(w.Manager(True))
        raise OSError("swallowed")
    return name, five, await settle(w.read())


@CHAPTER.async_row(SETUP)
async def a_coroutine_function_of_ours_is_awaited_there(w):
    async def mine(x):
        return "mine", x

    async def fails():
        raise LookupError("ours")

    try:
        await w.call(fails)
    except LookupError as error:
        return await w.call(mine, 3), error


@CHAPTER.async_row(SETUP)
async def there_and_back(w):
    return await w.call(w.double, 4), await w.call(w.call, w.double, 5)


@CHAPTER.async_row(SETUP)
async def plain_functions(w):
    return await settle(w.plain(1, self=2, a=(3,)))


@CHAPTER.async_row("items, table, text = [3, 1, 2], {'a': [1]}, 'x'")
async def chains_of_steps(w):
    return (
        await settle(w.items[0]),
        await settle(w.table["a"][0]),
        await settle(w.text.upper()),
        await settle(w.items.index(2)),
    )


@CHAPTER.async_row("class Thing: pass\nthing = Thing()\nthing.inner = Thing()\nthing.inner.x = 5\ndef fail(): {}['k']")
async def attributes_and_what_is_missing(w):
    heard = []
    for expression in (lambda: w.thing.missing, lambda: w.thing.inner.y, lambda: w.fail()):
        try:
            await settle(expression())
        except (AttributeError, KeyError) as error:
            heard.append((type(error).__name__, error.args))
    return await settle(w.thing.inner.x), heard

"""Drives one rpc machine on its two circuits: calls out, calls in, and the end (docs/protocol.md, sections 6 to 11)."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import trio
from msgspec.structs import replace

from rpyc_gateway.answering import Answering
from rpyc_gateway.asking import Asking
from rpyc_gateway.circuits import BulkCircuit, CallCircuit
from rpyc_gateway.connection import Connection
from rpyc_gateway.errors import Code, GatewayError, LimitExceeded, SessionClosed, error_for
from rpyc_gateway.held import Held
from rpyc_gateway.pickling import features_for
from rpyc_gateway.places import Runs
from rpyc_gateway.proto import facts
from rpyc_gateway.proto.frames import Failure, Open
from rpyc_gateway.proto.messages import ClassInfo, SessionInfo
from rpyc_gateway.proto.rpc import Rpc
from rpyc_gateway.references import References
from rpyc_gateway.service import Service, policy_for, root_methods
from rpyc_gateway.stack import check_room
from rpyc_gateway.trio_face import TrioFace
from rpyc_gateway.version import __version__
from rpyc_gateway.waiters import Outcome

__all__ = ["Session"]

logger = logging.getLogger("rpyc_gateway.session")

UNREAD = 2**26
"""Bytes that may wait for a peer that asks and does not read: more than all the answers to its open questions."""

SWEEP = 0.5
"""Seconds after which an idle session gives back what died: the next call does it at once."""

STEP_ROOM = 48
"""Calls that fit on the stack before a step begins: a RecursionError in the middle of it would leave a machine half changed."""

_NOTHING = Service()
_ROOT = ClassInfo(module="rpyc_gateway", name="root", flags=ClassInfo.IDENTITY)
_numbers = itertools.count(1)  # export numbers: never used again in the life of the process


class SessionStatistics(NamedTuple):
    """What a session holds now. Calls are `running` until their code has ended, also those `abandoned` by their callers and answered."""

    asked: int  # questions of ours that are open
    serving: int  # questions of the peer that are open
    exports: int  # objects lent
    imports: int  # objects held
    running: int
    abandoned: int
    threads: int  # kept for calling threads of the peer


class Session(TrioFace):
    """The object RPC between this process and one other, over any number of hops.

    `local` is this node's name, `vat` its vat; `root` what the peer's programs start from (a Service; None serves nothing), and `runs` where
    their code runs; `pickle` says that pickles of the peer are taken, and made for it if it takes them too.
    Made by `gateway.Node`; used through `modules`, `builtins`, `namespace`, `eval`, `execute` and `root`, whose values are awaited
    in trio code. A session belongs to the trio run that drives it.
    """

    def __init__(
        self,
        *,
        local: str,
        vat: bytes,
        opener: bool,
        root: object = None,
        pickle: bool = False,
        runs: Runs = "threads",
    ) -> None:
        root = _NOTHING if root is None else root
        software = f"rpyc-gateway {__version__}"
        features = features_for(pickle)
        info = SessionInfo(vat=vat, name=local, features=features, software=software, methods=root_methods(root))
        self.local = local
        self.token = secrets.token_bytes(16)
        self.path: tuple[str, ...] = ()
        self.error: GatewayError | None = None
        self.rpc = Rpc(info, opener=opener, root=root, numbers=_numbers)
        self._service = root if isinstance(root, Service) else None
        self._references = References(self)
        self._asking = Asking(self, self._references, self)
        self._answering = Answering(self, self._references, self._asking, policy_for(root), runs)
        self.held_root = Held(self._asking, 0, _ROOT, None, None)  # number 0 is never counted
        self._opener = opener
        self._request = Open()
        self._call: CallCircuit | None = None
        self._bulk: BulkCircuit | None = None
        self._ended_threads: deque[int] = deque()
        self._token = trio.lowlevel.current_trio_token()
        self._pid = os.getpid()
        self._holding = trio.Event()
        self._opened = trio.Event()
        self._over = trio.Event()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Session {' -> '.join(self.path) or self.local} {state}>"

    # -- its life ---------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def open(self, connection: Connection, request: Open) -> None:
        """Open the `call` circuit for `request`; calls may be made at once. In the trio thread. Raises LimitExceeded, LinkLost."""
        self._connection = connection
        self._request = replace(request, token=self.token)
        self._call = CallCircuit(self, connection)
        with self.step():
            self._call.open(self._request)
            self._call.mute()

    def accept(self, connection: Connection, label: int, request: Open) -> CallCircuit:
        """Serve on a stream that the peer has opened and the node accepts; the stream's handler. Raises what on_connect raises."""
        self._connection = connection
        self._request = request
        self.token = request.token
        self.path = (*request.path, self.local)
        self._call = CallCircuit(self, connection, label)
        self._call.mute()
        self._opened.set()
        if self._service is not None:
            self._service.on_connect(self)
        return self._call

    def accept_bulk(self, connection: Connection, label: int) -> BulkCircuit | None:
        """Take the second circuit of this session; its handler, or None if there is one already."""
        if self._bulk is not None or self.closed or connection is not self._connection:
            return None  # a second one; or one that came another way than the first, over a link with another turn
        self._bulk = BulkCircuit(self, connection, label)
        self.rpc.bulk_open = True
        self._wake()  # bodies that waited for it are sent once the node has accepted the stream
        return self._bulk

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the session's tasks until it is over. Cancelled, it closes the session."""
        try:
            async with trio.open_nursery() as nursery:
                self._answering.start(nursery)
                with self.step():
                    pass  # what was queued before: HELLO
                task_status.started()
                nursery.start_soon(self._sweep)
                await self._over.wait()
                nursery.cancel_scope.cancel()
        finally:
            self.close()

    async def wait_open(self) -> None:
        """Return when the far side has accepted the session and said who it is. Raises Unreachable, Refused, LinkLost ..."""
        await self._opened.wait()
        if self.error is not None:
            raise self.error

    async def wait_closed(self) -> None:
        """Return when the session is over, on whichever side it ended; `error` says why."""
        await self._over.wait()

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self.error is not None

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """End the session in order. In the trio thread; synchronous, and no harm if it is over."""
        if self.closed:
            return
        assert self._call is not None
        with self.step():
            self.rpc.bye()
            self._push()
            self._call.end()
            self._end(SessionClosed("this session was closed here"))

    @trio.lowlevel.enable_ki_protection
    def abort(self, failure: Failure) -> None:
        """End the session at once, and tell the peer why. In the trio thread."""
        if self.closed:
            return
        assert self._call is not None
        with self.step():
            self._call.abort(failure)
            self._end(error_for(failure.code, failure.text, failure.hop, here=self.local))

    def _end(self, error: GatewayError) -> None:
        """Everything that was open ends with `error`, exactly once. In the trio thread, with the turn held."""
        if self.closed:
            return
        self.error = error
        if self._bulk is not None:
            self._bulk.abort(Failure(code=Code.DONE, text="the session is over", hop=self.local))
        self._asking.fail(lambda: _again(error))
        self._answering.stop(self.rpc.close())
        self._opened.set()
        self._over.set()
        if self._service is not None:
            try:
                self._service.on_disconnect(self)
            except Exception:  # a defect of the service; the session is over all the same
                logger.exception("%s: on_disconnect of %s failed", self.local, type(self._service).__qualname__)

    # -- stepping the machine ---------------------------------------------------------------------------------------

    @contextmanager
    def step(self) -> Iterator[None]:
        """Hold the link's turn, and send what the steps in the body produced. RecursionError, and nothing is changed, without room for them."""
        check_room(STEP_ROOM)
        with self._connection.step():
            yield
            self._push()

    def _push(self) -> None:
        """Queue the machine's bytes on the circuits. With the turn held; from a caller's thread too."""
        if self.closed or self._call is None:
            return
        for event in self.rpc.events():
            self._handle(event)
        data = self.rpc.data_to_send()
        if data:
            self._call.send(data)
        if self._bulk is not None:
            self._bulk.pump(self.rpc)

    @trio.lowlevel.enable_ki_protection
    async def _sweep(self) -> None:
        """Give back what proxies that died have held, while any are held. Finalizers wake nobody: see tables.Imports."""
        while True:
            await self._holding.wait()
            await trio.sleep(SWEEP)
            self._flush()
            with self.step():
                if not len(self.rpc.imports):
                    self._holding = trio.Event()

    def holds(self) -> None:
        """Objects of the peer are held from now on; from any thread, with the turn held."""
        if not self._holding.is_set():
            self._in_trio(self._holding.set)

    def _wake(self) -> None:
        """There is something to send that no step of ours has caused; from any thread."""
        self._in_trio(self._flush)

    def _in_trio(self, function: Callable[[], object]) -> None:
        try:
            self._token.run_sync_soon(function, idempotent=True)
        except trio.RunFinishedError:
            return  # nobody is left to tell

    def _flush(self) -> None:
        if self.closed:
            return
        with self.step():
            self.rpc.flush_releases()
            while self._ended_threads:
                self.rpc.end(self._ended_threads.popleft())

    def thread_ended(self, number: int) -> None:
        """A thread that has called is gone; the far side may end its own for it."""
        self._ended_threads.append(number)
        self._wake()

    # -- what the circuits say (trio thread, turn held) -------------------------------------------------------------

    def accepted(self, path: tuple[str, ...]) -> None:
        """The far side took the `call` circuit."""
        self.path = path

    def call_received(self, data: bytes) -> None:
        """Bytes of the `call` circuit."""
        if self.closed:
            return
        assert self._call is not None
        with self._blamed():
            if self._call.queued > UNREAD:
                raise LimitExceeded(f"{self._call.queued} bytes of answers wait for a peer that does not read them")
            self.rpc.receive_data(data)
            self.rpc.flush_releases()
            self._push()
            self._answering.sweep()
            self._asking.make_room()

    def bulk_received(self, data: bytes | memoryview) -> int:
        """Bytes of the `bulk` circuit; how many were consumed."""
        consumed = len(data)
        if not self.closed:
            with self._blamed():
                consumed = self.rpc.receive_bulk(data)
                self._push()
        return consumed

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """What goes wrong with received bytes ends this session, with the reason, and nobody else's."""
        try:
            yield
        except GatewayError as error:
            self.abort(Failure(code=error.code, text=str(error), hop=self.local))
        except Exception as error:
            logger.exception("%s: a defect ends the session %r", self.local, self)
            self.abort(Failure(code=Code.INTERNAL, text=f"{type(error).__name__} in {self.local}", hop=self.local))

    def bulk_drained(self) -> None:
        """The bulk circuit can take more."""
        self._push()

    def circuit_ended(self, failure: Failure) -> None:
        """A circuit was refused, finished or reset by the other side."""
        if self.closed:
            return
        assert self._call is not None
        self._call.end()
        self._end(error_for(failure.code, failure.text, failure.hop, here=self.local))

    def _handle(self, event: facts.Event) -> None:  # noqa: C901  # one line for each fact
        match event:
            case facts.Called():
                self._answering.serve(event)
            case facts.Answered(question, payload):
                self._asking.complete(question, Outcome(payload))
            case facts.Failed(question, payload, _):
                self._asking.complete(question, Outcome(raised=payload))
            case facts.Broken(question, error):
                self._asking.complete(question, Outcome(error=error))
            case facts.Rejected(question, error):
                self._answering.reject(question, error)
            case facts.CancelRequested(question):
                self._answering.cancel(question)
            case facts.Released(values):
                self._answering.discard(values)
            case facts.Ended(affinity):
                self._answering.end_thread(affinity)
            case facts.Greeted(info):
                self._asking.peer_vat = info.vat
                self.held_root.info = replace(_ROOT, methods=info.methods)
                self._opened.set()
            case facts.BulkWanted():
                self._open_bulk()
            case facts.BulkConsumed(count) if self._bulk is not None:
                self._bulk.consumed(count)
            case facts.Dismissed(code, text, hop):
                self.circuit_ended(Failure(code=code, text=text or "the far side closed the session", hop=hop))

    def _open_bulk(self) -> None:
        bulk = BulkCircuit(self, self._connection)
        try:
            bulk.open(replace(self._request, circuit="bulk"))
        except GatewayError as error:  # without it every long value would wait for ever
            failure = Failure(code=error.code, text=f"no bulk circuit can be opened: {error}", hop=self.local)
            self._in_trio(partial(self.abort, failure))
            return
        self._bulk = bulk
        self.rpc.bulk_open = True

    @property
    def way_back(self) -> tuple[str, ...]:
        """The nodes that an answer came through, the peer first, without this one."""
        return self.path[:0:-1] if self._opener else self.path[:-1]

    @property
    def stepping(self) -> bool:
        """Whether this thread holds the link's turn, so that it must not wait for anything."""
        return self._connection.turn.held

    def check_open(self) -> None:
        """Raise what ended the session, if it is over."""
        if self.error is not None:
            raise _again(self.error)

    def check_process(self) -> None:
        """Raise SessionClosed in a child that was forked from this process: the turn may have been taken at that moment, for ever."""
        if self._pid != os.getpid():
            raise SessionClosed("this session belongs to the process that forked this one; open a new one here")

    @property
    def asking(self) -> Asking:
        """The part that asks: which session this is, to a block with an affinity of its own."""
        return self._asking

    def statistics(self) -> SessionStatistics:
        """What the session holds."""
        return SessionStatistics(*self.rpc.statistics(), *self._answering.statistics())


def _again(error: GatewayError) -> GatewayError:
    """A copy of a session's error for one of those who get it: a traceback of its own for each."""
    copy = type(error)(str(error), hop=error.hop)
    copy.__cause__ = error
    return copy

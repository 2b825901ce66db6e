"""Drives one rpc machine on its two circuits: calls out, calls in, and the end (docs/protocol.md, sections 6 to 11)."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import trio
from msgspec.structs import replace

from rpyc_gateway.answering import Answering
from rpyc_gateway.circuits import BulkCircuit, CallCircuit
from rpyc_gateway.connection import Connection
from rpyc_gateway.desk import again
from rpyc_gateway.errors import Code, GatewayError, SessionClosed, error_for
from rpyc_gateway.hearing import ROOT, Hearing
from rpyc_gateway.held import Held
from rpyc_gateway.pickling import features_for
from rpyc_gateway.places import Runs
from rpyc_gateway.proto.frames import Failure, Open
from rpyc_gateway.proto.messages import SessionInfo
from rpyc_gateway.proto.rpc import Rpc
from rpyc_gateway.references import References
from rpyc_gateway.service import Service, policy_for, root_methods
from rpyc_gateway.started import Starting
from rpyc_gateway.trio_face import TrioFace
from rpyc_gateway.version import __version__

__all__ = ["Session"]

logger = logging.getLogger("rpyc_gateway.session")

SWEEP = 0.5
"""Seconds after which an idle session gives back what died: the next call does it at once."""

_NOTHING = Service()
_NO_METHODS = root_methods(_NOTHING)
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


class Session(Hearing, TrioFace):
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
        methods = _NO_METHODS if root is _NOTHING else root_methods(root)
        info = SessionInfo(vat=vat, name=local, features=features, software=software, methods=methods)
        super().__init__(Rpc(info, opener=opener, root=root, numbers=_numbers), local=local)
        self.token = secrets.token_bytes(16)
        self._service = root if isinstance(root, Service) else None
        self._runs = runs
        self._references = References(self)
        self.asking = Starting(
            self, self._references, self
        )  # which session this is, to a block with an affinity of its own
        self._answering = Answering(self, self._references, self.asking, policy_for(root), runs)
        self.held_root = Held(self.asking, 0, ROOT, None, None)  # number 0 is never counted
        self._request = Open()
        self._ended_threads: deque[int] = deque()
        self._start: Callable[[], object] | None = None  # `run`, in a task that has not been needed yet
        self._ended: Callable[[], object] = _nothing
        self._tasks: trio.Event | None = None  # set when those that were started have ended
        self._opened = trio.Event()
        self._over = trio.Event()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Session {' -> '.join(self.path) or self.local} {state}>"

    # -- its life ---------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def open(self, connection: Connection, request: Open) -> None:
        """Open the `call` circuit for `request`; calls may be made at once. In the trio thread. Raises LimitExceeded, LinkLost."""
        self.use(connection)
        self._answering.resting_place = connection.lead
        self._request = replace(request, token=self.token)
        self.circuit = CallCircuit(self, connection)
        with self.step():
            self.circuit.open(self._request)
            self.circuit.mute()

    def accept(self, connection: Connection, label: int, request: Open) -> CallCircuit:
        """Serve on a stream that the peer has opened and the node accepts; the stream's handler. Raises what on_connect raises."""
        self.use(connection)
        self._answering.resting_place = connection.lead
        if self._runs != "trio":
            connection.read_for_threads()
        self._request = request
        self.token = request.token
        self.path = (*request.path, self.local)
        self.circuit = CallCircuit(self, connection, label)
        self.circuit.mute()
        self._opened.set()
        if self._service is not None:
            self._service.on_connect(self)
        return self.circuit

    def accept_bulk(self, connection: Connection, label: int) -> BulkCircuit | None:
        """Take the second circuit of this session; its handler, or None if there is one already."""
        if self.bulk is not None or self.closed or connection is not self._connection:
            return None  # a second one; or one that came another way than the first, over a link with another turn
        self.bulk = BulkCircuit(self, connection, label)
        self.rpc.bulk_open = True
        self._wake()  # bodies that waited for it are sent once the node has accepted the stream
        return self.bulk

    def tend(self, start: Callable[[], object], ended: Callable[[], object] | None = None) -> None:
        """`start` is called when the session first needs a task, and must start one that does `run`; many a session ends before that.

        `ended` is called once, when the session and all its tasks are over. Both in the trio thread, with the turn held perhaps.
        """
        self._start = start
        if ended is not None:
            self._ended = ended
        if self.closed:  # by its own service
            self._end_untended()

    def want_tasks(self) -> None:
        """A task of this session is needed, now or soon. In the trio thread."""
        start, self._start = self._start, None
        if start is not None:
            self._tasks = trio.Event()
            start()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Own the session's tasks until it is over, and give back meanwhile what dies. Cancelled, it closes the session; a defect does, too."""
        try:
            async with trio.open_nursery() as nursery:
                self._answering.start(nursery)
                await self._sweep()
                nursery.cancel_scope.cancel()
        except Exception:  # nobody else's session ends with it
            logger.exception("%s: a defect ends the session %r", self.local, self)
        finally:
            self.close()
            self._ended()
            if self._tasks is not None:
                self._tasks.set()

    def _end_untended(self) -> None:
        """The session is over, and has no task that would say so at its end."""
        start, self._start = self._start, None
        if start is not None:
            self._ended()

    @property
    def greeted(self) -> bool:
        """Whether the far side has accepted the session and said who it is, and it is not over."""
        return self._opened.is_set() and self.error is None

    async def wait_open(self) -> None:
        """Return when the far side has accepted the session and said who it is. Raises Unreachable, Refused, LinkLost ..."""
        await self._opened.wait()
        if self.error is not None:
            raise self.error

    async def wait_ended(self) -> None:
        """Return when the session, which is over, has no task any more. Cancelling it does nothing: they are being cancelled."""
        if self._tasks is not None:
            with trio.CancelScope(shield=True):
                await self._tasks.wait()

    async def wait_closed(self) -> None:
        """Return when the session is over, on whichever side it ended; `error` says why."""
        await self._over.wait()

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """End the session in order. In the trio thread; synchronous, and no harm if it is over."""
        if self.closed:
            return
        assert self.circuit is not None
        with self.step():
            self._ask_together()
            self._answer_together()
            self.rpc.bye()
            self.push()
            self.circuit.end()
            self._end(SessionClosed("this session was closed here"))

    @trio.lowlevel.enable_ki_protection
    def abort(self, failure: Failure) -> None:
        """End the session at once, and tell the peer why. In the trio thread."""
        if self.closed:
            return
        assert self.circuit is not None
        with self.step():
            self.circuit.abort(failure)
            self._end(error_for(failure.code, failure.text, failure.hop, here=self.local))

    def _end(self, error: GatewayError) -> None:
        """Everything that was open ends with `error`, exactly once. In the trio thread, with the turn held."""
        if self.closed:
            return
        self.error = error
        if self.bulk is not None:
            self.bulk.abort(Failure(code=Code.DONE, text="the session is over", hop=self.local))
        self.asking.fail(lambda: again(error))
        self._answering.stop(self.rpc.close())
        self._opened.set()
        self._over.set()
        self._holding.set()  # for `_sweep`
        if self._service is not None:
            try:
                self._service.on_disconnect(self)
            except Exception:  # a defect of the service; the session is over all the same
                logger.exception("%s: on_disconnect of %s failed", self.local, type(self._service).__qualname__)
        self._end_untended()

    @trio.lowlevel.enable_ki_protection
    async def _sweep(self) -> None:
        """Give back what proxies that died have held, while any are held, until the session is over. Finalizers wake nobody: see tables.Imports."""
        while True:
            await self._holding.wait()
            with trio.move_on_after(SWEEP):
                await self._over.wait()
            if self.closed:
                return
            self._flush()
            with self.step():
                if not len(self.rpc.imports):
                    self._holding = trio.Event()
                    self.is_holding = False

    def _wake(self) -> None:
        """There is something to send that no step of ours has caused; from any thread."""
        self._soon(self._flush)

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

    def circuit_ended(self, failure: Failure) -> None:
        """A circuit was refused, finished or reset by the other side. In the trio thread."""
        if self.closed:
            return
        assert self.circuit is not None
        self.circuit.end()
        self._end(error_for(failure.code, failure.text, failure.hop, here=self.local))

    def statistics(self) -> SessionStatistics:
        """What the session holds."""
        return SessionStatistics(*self.rpc.statistics(), *self._answering.statistics())


def _nothing() -> None:
    """What is done for nobody."""

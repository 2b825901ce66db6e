"""What the last error of a session has left, for a debugger in the process that raised it."""

from __future__ import annotations

from types import TracebackType

from rpyc_gateway.calls import keep_errors
from rpyc_gateway.console import is_ours

__all__ = ["LastError"]


class LastError:
    """From now on the traceback of the last error that a call of the session raises whose call makes this, until it is closed or dropped with that session.

    The frames in it live that long, and what is in them: files stay open, and objects of the peer are held.
    """

    def __init__(self) -> None:
        self._trace: TracebackType | None = None
        self._closed = False
        self._before = keep_errors(self._keep)

    def _keep(self, error: BaseException) -> None:
        if self._closed:  # somebody else was made meanwhile, and is closed
            return
        trace = error.__traceback__
        while trace is not None and is_ours(trace.tb_frame):
            trace = trace.tb_next
        self._trace = trace

    def close(self) -> None:
        """Keep nothing any more, and let go what was kept."""
        if not self._closed:
            self._closed, self._trace = True, None
            keep_errors(self._before)

    def take(self) -> TracebackType | None:
        """Close this. What was kept, from the first frame on that is not the gateway's; None if no Python code of the service ran then."""
        trace = self._trace
        self.close()
        return trace

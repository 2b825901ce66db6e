"""What the last error of a session has left, for a debugger in the process that raised it."""

from __future__ import annotations

import pdb
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

    def look(self) -> None:
        """Close this, and open the debugger where the error was raised. If no Python code of the service ran then, that is printed."""
        trace = self._trace
        self.close()
        if trace is None:
            print("no Python code ran over there when it was raised: there is nothing to look into")
        else:
            pdb.post_mortem(trace)

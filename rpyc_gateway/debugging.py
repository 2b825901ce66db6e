"""`post_mortem`: the debugger of the far side at what a call has left there, with the streams of this process."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from rpyc_gateway.errors import GatewayError
from rpyc_gateway.faces import check_session
from rpyc_gateway.interaction import Dialogue, Terminal
from rpyc_gateway.proto.raised import remote_traceback
from rpyc_gateway.redirection import is_board, is_node
from rpyc_gateway.trio_face import TrioFace

__all__ = ["PostMortem", "post_mortem"]


def post_mortem(conn: Any) -> PostMortem:
    """A block: an error of the far side that leaves it opens the debugger there (pdb), at the line that raised it, with the streams of this process. Then the error goes its way.

    `conn` is a blocking session with `classic`. In the block the far side keeps the frames of the last error that a call of this session has raised, and what is in them; otherwise
    it keeps none. Ctrl-C is for the debugger; `q` or Ctrl-D leaves it.

    Raises TypeError for a session of trio code, of a board or a bare Python, and for what is no session; LinkLost and SessionClosed when the session ends meanwhile.
    """
    if isinstance(conn, TrioFace):
        raise TypeError(
            "post_mortem waits for people, and this is a session of trio code: use it in a thread, with gw.connect"
        )
    check_session(conn)
    return PostMortem(conn)


class PostMortem:
    """The block."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self._kept: Any = None

    def __repr__(self) -> str:
        return f"<the debugger of {self._conn.path[-1]}, for what fails in a block: with gw.post_mortem(conn): ...>"

    def __enter__(self) -> Self:
        if self._kept is not None:
            raise RuntimeError("this block is entered already: another one is another gw.post_mortem(conn)")
        if is_board(self._conn) or not is_node(self._conn):
            raise TypeError(
                f"{self._conn.path[-1]} is no whole node, and keeps nothing of an error: at `rpyc-gw shell` the code can be run in its own debugger"
                " (under a bare Python: import pdb; pdb.pm())"
            )
        self._kept = self._conn.modules["rpyc_gateway.last_error"].LastError()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        kept, self._kept = self._kept, None
        if error is None or not remote_traceback(error):
            with suppress(GatewayError):  # the session may be over, and all that with it
                kept.close()
            return
        print(f"{type(error).__name__}: {error}")
        trace = kept.take()
        if trace is None:
            print("no Python code ran over there when it was raised: there is nothing to look into")
            return
        with Dialogue(self._conn, Terminal(), {"trace": trace}) as dialogue:
            # Called by no code of ours, which is not interrupted; and what it looks into goes with it.
            dialogue.run("import pdb; pdb.post_mortem(globals().pop('trace'))")

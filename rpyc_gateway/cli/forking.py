"""A process for each client, as inetd has it: takes TCP connections, and starts a command on each."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import partial

import trio

from rpyc_gateway.errors import ConfigError

__all__ = ["fork_for_each"]

PROCESSES = 256  # at a time: each is an interpreter of some 25 MB
END_WITHIN = 5.0  # seconds that they have to end in order when the listener ends

log = logging.getLogger(__name__)


async def fork_for_each(host: str | None, port: int, command: Sequence[str], told: trio.Event) -> None:
    """Listen until `told` is set, then end the processes too. They have the connection as standard input and output.

    Without a host it is listened on all addresses of this machine. Raises ConfigError if it cannot be.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as exc:
        raise ConfigError([f"{host or '*'}, port {port}: {exc.strerror or exc}"]) from exc
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            address, bound = listener.socket.getsockname()[:2]
            log.info("listening on %s", f"tcp://[{address}]:{bound}" if ":" in address else f"tcp://{address}:{bound}")
        nursery.start_soon(trio.serve_listeners, partial(_attend, command, trio.CapacityLimiter(PROCESSES)), listeners)
        await told.wait()
        nursery.cancel_scope.cancel()


async def _attend(command: Sequence[str], room: trio.CapacityLimiter, stream: trio.SocketStream) -> None:
    if not room.available_tokens:
        log.warning("a client comes in vain: %d processes run already", PROCESSES)
        await stream.aclose()
        return
    async with room:
        try:
            async with stream:  # the process has its own: nobody would see the end of the connection otherwise
                os.set_blocking(stream.socket.fileno(), True)  # as a program expects its standard streams
                process = await trio.lowlevel.open_process(command, stdin=stream.socket, stdout=stream.socket)
        except OSError as exc:
            log.warning("no process can be started for a client: %s", exc)
            return
        log.info("process %d has begun", process.pid)
        await _wait_end(process)
        log.info("process %d has ended, with status %d", process.pid, process.returncode or 0)


async def _wait_end(process: trio.Process) -> None:
    """Wait for its end. Cancelled, it is told to end, and killed if it does not."""
    try:
        await process.wait()
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.terminate()
                with trio.move_on_after(END_WITHIN):
                    await process.wait()
            process.kill()
            await process.wait()

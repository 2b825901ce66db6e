"""`rpyc-gw run`: the gateway itself, in the foreground, until it is told to end."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sysconfig
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rpyc_gateway.cli.options import config_option, log_to_stderr, verbosity

if TYPE_CHECKING:
    import trio

    from rpyc_gateway.config import Config
    from rpyc_gateway.gateway import Node, Offer

__all__ = ["put_own_scripts_first", "run", "run_for_ever", "run_node", "until_signal"]

log = logging.getLogger(__name__)


@click.command()
@config_option
@verbosity
@click.pass_context
def run(ctx: click.Context, config: str | None) -> None:
    """Run a gateway in the foreground.

    SIGTERM, SIGHUP and Ctrl-C end it orderly, with exit code 0; a second one at once. Under nohup it stays when the terminal goes. Code
    that is served in the main thread (`runs = "main"`) hears of it as KeyboardInterrupt.
    """
    from rpyc_gateway.config import Config

    if config is None:
        raise click.UsageError("--config FILE is required")
    log_to_stderr(ctx, usual=logging.INFO)
    loaded = Config.load(config)
    loaded.warn_if_idle()
    run_for_ever(loaded)


def run_for_ever(config: Config) -> None:
    """Run a node until a signal asks for its end. Raises what opening the node raises."""
    run_node(config, _for_ever)


def run_node(
    config: Config, wait_end: Callable[[Node], Awaitable[None]], *, services: Mapping[str, Offer] | None = None
) -> None:
    """Run a node, which serves `services` beside those of its configuration, until `wait_end` returns or a signal asks for its end.

    Raises what opening the node raises.
    """
    import trio

    from rpyc_gateway.boards import open_node
    from rpyc_gateway.places import main_thread

    async def run_until(told: trio.Event) -> None:
        async with open_node(config, services=services) as node:
            gc.freeze()  # what is loaded by now stays: full collections, for which all links wait, need not look at it each time
            async with trio.open_nursery() as ends:
                for end in (told.wait, partial(wait_end, node)):
                    ends.start_soon(_end_with, end, ends.cancel_scope)
            log.info("%s ends", node.name)

    put_own_scripts_first()
    if all(serve.runs != "main" for serve in config.serve):
        trio.run(until_signal, run_until)
        return
    for number in _numbers():  # the second one ends it at once
        signal.signal(number, signal.SIG_DFL)
    main_thread.run(run_until, _numbers())


async def until_signal(run_until: Callable[[trio.Event], Awaitable[None]]) -> None:
    """Run something that ends itself when its event is set: the first signal that asks for the end does. The second one ends the process at once."""
    import trio

    told = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(_hear_signals, told)
        await run_until(told)
        nursery.cancel_scope.cancel()


async def _for_ever(_node: Node) -> None:
    import trio

    await trio.sleep_forever()


async def _end_with(wait: Callable[[], Awaitable[object]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()


async def _hear_signals(told: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
    """The first SIGTERM, SIGHUP or Ctrl-C sets `told`; the next one has its usual effect, at once."""
    import trio

    numbers = _numbers()
    with trio.open_signal_receiver(*numbers) as signals:
        task_status.started()
        async for heard in signals:
            log.info("%s: ending; once more ends at once", signal.Signals(heard).name)
            break
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)
    told.set()


def _numbers() -> list[signal.Signals]:
    """The signals that end it."""
    hangup = signal.getsignal(signal.SIGHUP)
    return [
        signal.SIGINT,
        signal.SIGTERM,
        *([signal.SIGHUP] if hangup is not signal.SIG_IGN else []),
    ]  # as nohup wants it


def put_own_scripts_first() -> None:
    """Let children find this installation's `rpyc-gw`, also where its virtual environment is not activated."""
    scripts = sysconfig.get_path("scripts")
    paths = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if paths[0] != scripts and (Path(scripts) / "rpyc-gw").exists():
        os.environ["PATH"] = os.pathsep.join([scripts, *paths])

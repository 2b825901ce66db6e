"""What mitogen calls over there; it takes this module there itself. Generators and callbacks are messages to a receiver."""

from __future__ import annotations

from typing import Any

import mitogen.core

from tests.bench import objects


def add(a: int, b: int) -> int:
    return objects.add(a, b)


def length(data: bytes) -> int:
    return objects.length(data)


def generate(sender: Any, n: int) -> None:
    for number in objects.generate(n):
        sender.send(number)
    sender.close()


@mitogen.core.takes_router
def call_back(sender: Any, n: int, router: Any) -> int:
    answers = mitogen.core.Receiver(router)
    sender.send(answers.to_sender())

    def ask(i: int) -> int:
        sender.send(i)
        answer: int = answers.get().unpickle()
        return answer

    total = objects.call_back(ask, n)
    sender.close()
    return total

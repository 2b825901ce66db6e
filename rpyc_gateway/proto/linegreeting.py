"""The greeting of a serial line: who says HELLO and when, and what the HELLO of the peer means."""

from __future__ import annotations

from enum import Enum
from math import inf

from msgspec import structs

from rpyc_gateway.proto.lineframes import LONG_MAP, NONCE, Encoder, Greeting

__all__ = ["Greeter", "Meaning"]

REPEAT = 0.3  # seconds between two HELLOs
REPEAT_HEARD = 0.05  # the same to a peer that has been heard: they were lost
PATIENCE = 10.0  # seconds that a dialler waits for a peer, and that a listener answers one that says no more
HEARD = 60  # bytes that an error quotes


class Meaning(Enum):
    """What the HELLO of a peer means."""

    BEGUN = "the session begins"
    KNOWN = "nothing new"
    UNHEARD = "the peer has heard nothing of this session yet"
    RESTARTED = "the peer is another one than that of the session"


class Greeter:
    """Says HELLO until there is a session, and answers later ones."""

    def __init__(self, hello: Greeting, *, dialler: bool, now: float) -> None:
        self.in_session = False
        self._hello = hello
        self._dialler = dialler
        self._encoder = Encoder(LONG_MAP, dialler=dialler)
        self._echo = bytes(NONCE)  # the nonce of the peer, as far as known
        self._answering = True  # a HELLO is to be said now, whatever the time
        self._next = now
        self._until = now + PATIENCE if dialler else now

    def hear(self, peer: Greeting, now: float) -> Meaning:
        """A HELLO has come."""
        if self.in_session:
            if peer.nonce != self._echo:
                return Meaning.RESTARTED
            self._answering = self._answering or peer.wanted
            return Meaning.UNHEARD if peer.wanted else Meaning.KNOWN
        self._echo = peer.nonce
        self._answering = peer.wanted
        self.in_session = peer.echo == self._hello.nonce
        if not self._dialler:
            self._until = now + PATIENCE
        return Meaning.BEGUN if self.in_session else Meaning.KNOWN

    def hear_remains(self, now: float) -> None:
        """Something came that seems to be a frame: of a session that this side has forgotten, perhaps."""
        self._answering = self._answering or now >= self._next

    def say_at(self) -> float:
        """When the next HELLO is to be said; inf if never."""
        if self._answering:
            return 0.0
        return self._next if not self.in_session and self._next < self._until else inf

    def encode(self, now: float, rate: float) -> bytes:
        """The HELLO, which is counted as said."""
        body = structs.replace(self._hello, echo=self._echo, wanted=not self.in_session).encode()
        frame = b"\n" + self._encoder.encode(body)  # what came before, if anything, is no part of the line
        self._answering = False
        self._next = now + (REPEAT_HEARD if any(self._echo) else REPEAT) + 4 * len(frame) / rate
        return frame

    def give_up_at(self) -> float:
        return self._until if self._dialler and not self.in_session else inf


def describe_silence(said: bytes, damaged: int) -> str:
    """Why there is no session: what came last and was no frame, and how many lines of damage there were."""
    if said:
        instead = f"it said {said[-HEARD:]!r}"
    elif damaged:
        instead = "only garbage came: is the baud rate right?"
    else:
        instead = "nothing came at all: is it connected, and on?"
    return f"nobody speaks the protocol of the serial line at the other end ({PATIENCE:g} s); {instead}"

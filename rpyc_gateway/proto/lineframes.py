"""Frames of the serial line <-> bytes: escaped lines with a checksum, among whatever else comes (docs/protocol.md, section 12)."""

from __future__ import annotations

import re
from binascii import crc32
from collections.abc import Iterator
from enum import IntEnum

from msgspec import Struct

__all__ = ["LONG_MAP", "SHORT_MAP", "TO_DIALLER", "TO_LISTENER", "Encoder", "Frame", "Greeting", "Kind", "Lines"]

TO_LISTENER = b"#"
TO_DIALLER = b"\x1e"
ESCAPE = b"\x7d"
FLIP = 0x40  # what an escaped byte is xored with
END = b"\n"

LONG_MAP = bytes((*range(1, 6), 8, 9, 10, 13, 14, 16, 17, 19, 21, 23, 27, 30, 35, 125, 127))
"""What is escaped as long as a REPL may be at the other end."""

SHORT_MAP = b"\r\x11\x13"
"""What a node wants to be escaped, beside what always is: terminals may change CR, and a UART may take XON and XOFF for itself."""

OVERHEAD = 11
"""Bytes of a frame of data that are no data, with one that is escaped."""

LEAST_MTU = 16  # bytes
LARGEST_WINDOW = (
    64  # pieces: half as many as one byte of a sequence number could tell apart, and a bitmap of eight bytes
)
LEAST_BUFFER = 64  # bytes
VERSION = 1
TEXT = 1024  # bytes of one line of console text
NONCE = 4  # bytes
BITS = 10  # of each byte on the line: start, eight, stop


class Kind(IntEnum):
    """What a frame is: the two highest bits of its first byte."""

    DATA = 0x00
    ACK = 0x40
    CTRL = 0x80
    DGRAM = 0xC0


DATA, ACK, CTRL, DGRAM = map(int, Kind)
MORE = 0x20  # in DATA
NAK = 0x20  # in ACK
POLL = 0x10  # in DATA and ACK
FIN = 0x08  # in DATA
FULL = 0x08  # in ACK
HELLO = CTRL
RESET = CTRL | 1
RATE = CTRL | 2
HEADERS = {DATA: 4, ACK: 3, CTRL: 1, DGRAM: 1}  # bytes


class Encoder:
    """Makes frames for one direction. `dialler` says who sends them; `escapes` is what must not occur in them, beside SOF, ESC and LF.

    Raises ValueError for a set of escapes that cannot be had.
    """

    __slots__ = ("_pairs", "_sof", "seed")

    def __init__(self, escapes: bytes, *, dialler: bool, seed: int = 0) -> None:
        self._sof = TO_LISTENER if dialler else TO_DIALLER
        self.seed = seed
        wanted = {*escapes, *self._sof, *END} - {*ESCAPE}
        if any(value ^ FLIP in wanted or value ^ FLIP == ESCAPE[0] for value in wanted):
            raise ValueError(f"these bytes cannot all be escaped: {bytes(sorted(wanted)).hex(' ')}")
        self._pairs = [(bytes((value,)), bytes((*ESCAPE, value ^ FLIP))) for value in (*ESCAPE, *sorted(wanted))]

    def encode(self, body: bytes) -> bytes:
        """The frame, ready to be sent."""
        body += crc32(body, self.seed).to_bytes(4, "big")
        for plain, escaped in self._pairs:
            if plain in body:
                body = body.replace(plain, escaped)
        return self._sof + body + END


class Frame(Struct, frozen=True):
    """A whole frame of this session: its first byte, the rest of its header, its payload."""

    first: int
    header: bytes
    payload: bytes


class Text(Struct, frozen=True):
    """What somebody printed at the other end: one line, or its beginning if it is long."""

    text: bytes


class Damage(Struct, frozen=True):
    """A line that is neither. `framed` if it seems to have been a frame, perhaps one of another session."""

    framed: bool


class Lines:
    """Finds the frames in what arrives. Total: any bytes, in any pieces, are frames, text or damage, and it keeps few of them.

    `dialler` says who receives; `mtu` is the longest payload that is taken. `seed` is that of the session, when there is one.
    """

    __slots__ = ("_longest", "_mtu", "_skipping", "_sof", "seed", "unfinished")

    def __init__(self, mtu: int, *, dialler: bool) -> None:
        self.seed: int | None = None
        self.unfinished = b""  # the line that has begun: a prompt, perhaps
        self._sof = TO_DIALLER if dialler else TO_LISTENER
        self._mtu = mtu
        self._longest = max(2 * (mtu + OVERHEAD), TEXT)
        self._skipping = False  # the line was too long, and is told; only a frame at its end counts any more

    def receive(self, data: bytes) -> Iterator[Frame | Text | Damage]:
        """What has arrived, one after another: `seed` may be set in between."""
        *lines, rest = (self.unfinished + data).split(END)
        self.unfinished = rest[-self._longest :]
        for line in lines:
            if line:
                yield from self._read(line[-self._longest :])
            self._skipping = False
        if len(rest) > self._longest and not self._skipping:
            yield from self._judge(rest)
            self._skipping = True

    def _read(self, line: bytes) -> Iterator[Frame | Text | Damage]:
        at = line.rfind(self._sof)
        frame = self._decode(line[at + 1 :]) if at >= 0 else None
        if frame is None:
            yield from self._judge(line)
            return
        if at:
            yield from self._judge(line[:at])
        yield frame

    def _decode(self, escaped: bytes) -> Frame | None:
        body = unescape(escaped)
        if body is None or len(body) < 5:
            return None
        first = body[0]
        seed = 0 if first == HELLO else self.seed
        if seed is None or crc32(body[:-4], seed) != int.from_bytes(body[-4:], "big"):
            return None
        size = HEADERS[first & 0xC0]
        if not size <= len(body) - 4 <= size + max(self._mtu, 255):
            return None
        return Frame(first, body[1:size], body[size:-4])

    def _judge(self, line: bytes) -> Iterator[Text | Damage]:
        """Text or damage? Of a line that was too long this is known."""
        if self._skipping:
            return
        line = line.removesuffix(b"\r")
        if self._sof in line or not is_text(line):
            yield Damage(framed=self._sof in line)
        elif line:
            yield Text(line[:TEXT])


def unescape(data: bytes) -> bytes | None:
    """Undo the escapes; None if the last one is cut off."""
    first, *others = data.split(ESCAPE)
    if not others:
        return data
    if not all(others):
        return None
    return first + b"".join([_FLIPPED[part[0]] + part[1:] for part in others])


def is_text(line: bytes) -> bool:
    """Whether somebody may have printed this: UTF-8 without control characters."""
    if _CONTROL.search(line):
        return False
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and error.start > 0  # it was cut
    return True


_FLIPPED = [bytes((value ^ FLIP,)) for value in range(256)]
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x0c\x0e-\x1a\x1c-\x1f\x7f]")


class Greeting(Struct, frozen=True):
    """What a side says of itself in HELLO. `delay` is in milliseconds, `buffer` and `mtu` in bytes."""

    nonce: bytes
    echo: bytes = bytes(NONCE)
    wanted: bool = True  # an answer is
    mtu: int = 240
    window: int = LARGEST_WINDOW
    buffer: int = 65536
    delay: int = 20
    baud: int = 0
    escapes: bytes = SHORT_MAP

    def encode(self) -> bytes:
        """The body of the frame."""
        return b"".join(
            (
                bytes((HELLO, VERSION, self.wanted)),
                self.nonce,
                self.echo,
                self.mtu.to_bytes(2, "big"),
                bytes((self.window,)),
                self.buffer.to_bytes(4, "big"),
                bytes((self.delay,)),
                self.baud.to_bytes(4, "big"),
                bytes((len(self.escapes),)),
                self.escapes,
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> Greeting:
        """Raises ValueError, with words for people, for what is no HELLO of our version."""
        if not payload or payload[0] != VERSION:
            theirs = payload[0] if payload else "none"
            raise ValueError(
                f"the peer speaks version {theirs} of the serial line, this side {VERSION}: update the older one"
            )
        if len(payload) < 23 or len(payload) < 23 + payload[22]:
            raise ValueError(f"a HELLO of {len(payload)} bytes is too short")
        number = int.from_bytes
        greeting = cls(
            wanted=bool(payload[1] & 1),
            nonce=payload[2:6],
            echo=payload[6:10],
            mtu=number(payload[10:12], "big"),
            window=payload[12],
            buffer=number(payload[13:17], "big"),
            delay=payload[17],
            baud=number(payload[18:22], "big"),
            escapes=payload[23 : 23 + payload[22]],
        )
        greeting.check()
        return greeting

    def check(self) -> None:
        """Raises ValueError for what nobody can keep to."""
        if self.mtu < LEAST_MTU or not 1 <= self.window <= LARGEST_WINDOW or self.buffer < LEAST_BUFFER:
            raise ValueError(
                f"a peer that takes {self.mtu} bytes, {self.window} pieces, {self.buffer} in all: too little to talk"
            )
        for dialler in (True, False):
            Encoder(self.escapes, dialler=dialler)


def session_seed(dialler: bytes, listener: bytes) -> int:
    """What the checksums of a session begin with, from the nonces of both sides."""
    return crc32(dialler + listener)

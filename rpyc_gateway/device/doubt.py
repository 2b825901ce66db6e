"""Whether a board still runs its agent, from what it prints, its prompts and its silence; as a value, time comes in."""

from __future__ import annotations

import re
from math import inf

from rpyc_gateway.proto.lineframes import TO_DIALLER, TO_LISTENER

__all__ = ["PROMPT", "QUESTION", "STARTED", "Doubt"]

ASK = 2.0  # seconds without a frame, while a call is open, until it is asked whether an agent is there; then again, each time after twice as long
LONGEST_ASK = 600.0  # seconds: a board that works for a day gets few bytes meanwhile

QUESTION = (
    b"\r\x01\n"  # any REPL says that it is one, and echoes nothing from then on; an agent says that it is no frame
)
# The same to a REPL that waits for the rest of a statement, which frames have begun: it ends that, and answers the next question.
QUESTION_AGAIN = b"\r\x01\x04\n"

# What a board says when it starts. If its prompt follows that was no program which printed the like: each REPL tells its prompt when it is asked.
STARTED = rb"MPY: soft reboot|MicroPython v\d[^;]*; |Adafruit CircuitPython \d|ets \w{3} +\d|rst:0x|ESP-ROM:"
BANNER = re.compile(STARTED + rb"|raw REPL; CTRL-B to exit|^>>> ")
# What only says that it starts: its main.py may run then, and no prompt come. So it is believed without one, if no frame comes for a while.
BOOTED = re.compile(rb"^(MPY: soft reboot\r?$|ets \w{3} +\d+ \d{4} \d|rst:0x[\da-f]+ |ESP-ROM:)")
PROMPT = b">>> "
FURTHER = b"... "  # it has taken for the beginning of a program what was on its way to its agent
# A REPL echoes a frame that it takes for a comment. People write a space after their #, also in what a program prints of them.
ECHO = re.compile(re.escape(PROMPT + TO_LISTENER) + rb"[^ ]")
RAW_PROMPT = b"\x04>"
VERDICT = 3.0  # seconds without a frame after what only says that a board starts: it does
UNPROVEN = 1e9  # seconds after anything else: a program that prints the like may compute for long
PROOF = 0.3  # seconds for a prompt to come by itself, before it is asked for
PROMPT_VERDICT = 0.03  # seconds, if a prompt has come too

ANEW = "it has started anew"
ENDED = "its agent was ended"


class Doubt:
    """What a board has said since its last frame. A frame ends all doubt.

    `longest` is the seconds that a frame of the board takes. On a `lossless` pipe what looks like the prompt of a raw REPL is none.
    """

    __slots__ = (
        "_asked",
        "_longest",
        "_lossless",
        "_pause",
        "ask_at",
        "begun",
        "certain",
        "reason",
        "verdict_at",
    )

    def __init__(self, *, longest: float = 0.0, lossless: bool = False) -> None:
        self._longest = longest
        self._lossless = lossless
        self._pause = ASK
        self._asked = False  # since its last frame
        self.ask_at = inf  # when the board is to be asked
        self.verdict_at = inf  # when it is clear that no agent runs, if no frame comes before
        self.reason = ANEW  # of the verdict
        self.certain = False  # no need to wait for it
        self.begun = False  # since somebody looked: an agent that does nothing is to be asked for a sign

    def hear_frame(self, now: float, *, waited: bool) -> None:
        """Its agent runs. `waited` says whether somebody waits for it."""
        self.verdict_at = inf
        self.expect(now, waited=waited)

    def expect(self, now: float, *, waited: bool) -> None:
        """From now on silence counts, if somebody waits."""
        self._pause = ASK
        self._asked = False
        self.ask_at = now + ASK if waited else inf

    def hear(self, text: bytes, now: float) -> None:
        """It has printed a line."""
        self._look_for_echo(text)
        if BANNER.search(text):
            self._begin(ANEW, now, now + PROOF)
        if BOOTED.search(text):
            self.verdict_at = min(self.verdict_at, now + VERDICT)

    def look_at(self, last: bytes, now: float) -> None:
        """What it has said last, and is no line yet, may be the prompt of a board without an agent."""
        self._look_for_echo(last)
        if self.verdict_at < inf and (last.endswith((PROMPT, FURTHER)) or last == b">"):
            self.verdict_at = min(self.verdict_at, now + PROMPT_VERDICT)
        elif last.endswith(RAW_PROMPT) and not self._lossless:
            if TO_DIALLER in last:  # a frame may have such bytes anywhere; or it was one that did not end
                self.verdict_at = min(self.verdict_at, now + PROMPT_VERDICT + self._longest)
            else:  # or a program has printed them: it is asked at once
                self._begin(ENDED, now, now)

    def question(self, now: float) -> bytes:
        """What to ask it now. Noise may end an agent and hide what its board says then; its REPL would take our frames for ever, or echo them and be told that they are damaged."""
        if now < self.ask_at:
            return b""
        self.ask_at = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_ASK)
        asked, self._asked = self._asked, True
        return QUESTION_AGAIN if asked else QUESTION

    def _look_for_echo(self, text: bytes) -> None:
        if self.verdict_at < inf and ECHO.search(text):
            self.certain = True

    def _begin(self, reason: str, now: float, ask_at: float) -> None:
        """An agent that does nothing answers a sign, and a REPL the question; one that works says nothing to either."""
        if self.verdict_at == inf:
            self.reason = reason
            self.verdict_at = now + UNPROVEN
            self.ask_at = min(self.ask_at, ask_at)
            self.begun = True

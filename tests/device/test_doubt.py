"""Whether an agent still runs: what a board says, as values; who asks and who restarts is in test_driver.py."""

from __future__ import annotations

from math import inf

import pytest

from rpyc_gateway.device.doubt import (
    ASK,
    LONGEST_ASK,
    PROMPT_VERDICT,
    PROOF,
    QUESTION,
    QUESTION_AGAIN,
    UNPROVEN,
    VERDICT,
    Doubt,
)
from rpyc_gateway.proto.lineframes import TO_DIALLER, TO_LISTENER

NOW = 100.0


def test_a_banner_alone_proves_nothing_and_the_board_is_asked() -> None:
    doubt = Doubt()
    doubt.hear(b"MicroPython v1.26.0 on 2026-01-01; linux\r\n", NOW)
    assert doubt.begun
    assert doubt.verdict_at == NOW + UNPROVEN
    assert doubt.question(NOW) == b""
    assert doubt.question(NOW + PROOF) == QUESTION


@pytest.mark.parametrize("prompt", [b">>> ", b"... ", b">"])
def test_with_a_prompt_after_it_the_verdict_is_near(prompt: bytes) -> None:
    doubt = Doubt()
    doubt.hear(b"raw REPL; CTRL-B to exit\r\n", NOW)
    doubt.look_at(prompt, NOW + 1)
    assert doubt.verdict_at == NOW + 1 + PROMPT_VERDICT


@pytest.mark.parametrize("prompt", [b">>> ", b">"])
def test_a_prompt_alone_may_be_anything(prompt: bytes) -> None:
    doubt = Doubt()
    doubt.look_at(prompt, NOW)
    assert doubt.verdict_at == inf
    assert not doubt.begun


def test_what_only_says_that_a_board_starts_needs_no_prompt() -> None:
    doubt = Doubt()
    doubt.hear(b"ets Jul 29 2019 12:21:46\r\n", NOW)
    assert doubt.verdict_at == NOW + VERDICT


def test_a_frame_ends_all_doubt_and_silence_counts_from_then_on_for_who_waits() -> None:
    doubt = Doubt()
    doubt.hear(b"MPY: soft reboot\r\n", NOW)
    doubt.hear_frame(NOW + 1, waited=False)
    assert doubt.verdict_at == doubt.ask_at == inf
    doubt.hear_frame(NOW + 2, waited=True)
    assert doubt.ask_at == NOW + 2 + ASK


def test_the_end_of_an_agent_is_asked_for_at_once_as_a_program_may_have_printed_that() -> None:
    doubt = Doubt()
    doubt.look_at(b"\x04>", NOW)
    assert doubt.begun
    assert not doubt.certain
    assert doubt.question(NOW) == QUESTION
    doubt.look_at(b">", NOW + 1)
    assert doubt.verdict_at == NOW + 1 + PROMPT_VERDICT
    assert doubt.reason == "its agent was ended"


def test_a_prompt_at_the_end_of_a_frame_may_belong_to_it_for_as_long_as_frames_take() -> None:
    doubt = Doubt(longest=2.0)
    doubt.look_at(TO_DIALLER + b"half a frame\x04>", NOW)
    assert doubt.verdict_at == NOW + PROMPT_VERDICT + 2.0


def test_on_a_lossless_pipe_such_bytes_are_no_prompt() -> None:
    doubt = Doubt(lossless=True)
    doubt.look_at(b"\x04>", NOW)
    assert not doubt.begun


def test_an_echo_of_a_frame_leaves_no_doubt_but_only_after_a_banner() -> None:
    doubt = Doubt()
    echo = b">>> " + TO_LISTENER + b"x"
    doubt.look_at(echo, NOW)
    assert not doubt.certain
    doubt.hear(b"MPY: soft reboot\r\n", NOW)
    doubt.look_at(b">>> " + TO_LISTENER + b" a comment of a person", NOW)
    assert not doubt.certain
    doubt.look_at(echo, NOW)
    assert doubt.certain


def test_questions_become_rarer_and_a_frame_begins_anew() -> None:
    doubt = Doubt()
    doubt.expect(NOW, waited=True)
    at, pauses, questions = NOW, [], []
    for _ in range(12):
        pauses.append(doubt.ask_at - at)
        at = doubt.ask_at
        questions.append(doubt.question(at))
    assert questions == [QUESTION] + 11 * [QUESTION_AGAIN]
    assert pauses[:4] == [ASK, ASK, 2 * ASK, 4 * ASK]
    assert pauses[-1] == LONGEST_ASK
    doubt.hear_frame(at, waited=True)
    assert doubt.ask_at == at + ASK
    assert doubt.question(at + ASK) == QUESTION

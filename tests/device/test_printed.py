"""What a program prints, and what is said to its front in between, however it comes in pieces."""

from __future__ import annotations

from rpyc_gateway.device.printed import Asked, Printed, Shown


def heard(text: bytes, size: int) -> tuple[list[Shown | Asked], bytes | None]:
    printed = Printed(b"M")
    for at in range(0, len(text), size):
        printed.hear(text[at : at + size])
    answer = printed.end()
    return printed.facts(), answer


def test_an_answer_is_the_last_line_with_the_mark() -> None:
    text = b"a\r\n\r\nM1\r\nb\r\nunended\r\nM'two'\r\n"
    for size in range(1, len(text) + 1):
        facts, answer = heard(text, size)
        assert answer == b"'two'"
        assert facts == [Shown(line) for line in (b"a", b"", b"M1", b"b", b"unended")]


def test_a_call_is_told_at_once_and_in_order() -> None:
    text = b"a\n\nM!7,((1,), {})\nb\n\nM!8,((), {})\n\nM2\n"
    for size in range(1, len(text) + 1):
        facts, answer = heard(text, size)
        assert facts == [Shown(b"a"), Asked(b"7,((1,), {})"), Shown(b"b"), Asked(b"8,((), {})")]
        assert answer == b"2"


def test_what_a_board_prints_of_what_it_is_told_is_not_shown() -> None:
    printed = Printed(b"M")
    printed.echo = b"(None,)"
    printed.hear(b"(None,)\r\n(None,)\r\n")
    assert printed.facts() == [Shown(b"(None,)")]


def test_a_long_line_is_shown_in_pieces() -> None:
    facts, answer = heard(b"x" * 10_000, 100)
    assert answer is None
    assert b"".join(fact.line for fact in facts if isinstance(fact, Shown)) == b"x" * 10_000


def test_a_line_for_the_front_that_does_not_end_is_not_kept_for_ever() -> None:
    printed = Printed(b"M")
    printed.hear(b"\nM" + b"x" * (1 << 20))
    printed.hear(b"\nend\n")
    assert sum(len(fact.line) for fact in printed.facts() if isinstance(fact, Shown)) > 1 << 20

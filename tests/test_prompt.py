"""A prompt: which lines belong together, what is completed, where history is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from rpyc_gateway.prompt import Completer, history_file, is_expression, read_block, with_history


def read(*lines: str) -> str:
    given = iter(lines)
    block = read_block(lambda _prompt: next(given))
    assert not list(given), "it did not read all lines"
    return block


def test_lines_are_read_until_a_statement_is_whole() -> None:
    assert read("x = 1") == "x = 1"
    assert read("for x in y:", "    pass", "") == "for x in y:\n    pass\n"
    assert (
        read(
            "if x:",
            "  pass",
            "   ",
        )
        == "if x:\n  pass\n"
    )
    assert read("f(1,", "2)") == "f(1,\n2)"
    assert read("'''a", "", "b'''") == "'''a\n\nb'''"


def test_what_is_wrong_here_is_whole_for_the_board_to_say_so() -> None:
    assert read("def (") == "def ("
    assert read("x = $") == "x = $"
    assert read("1 is 1") == "1 is 1"  # a warning at most
    assert read("\0") == "\0"


def test_an_expression_has_a_value_to_show() -> None:
    assert is_expression("  f(1,\n 2) ")
    assert not is_expression("x = 1")
    assert not is_expression("f(); g()")
    assert not is_expression("\0")


def complete(text: str, *known: str) -> list[str]:
    asked: list[tuple[str, str]] = []

    def names(owner: str, begun: str) -> Sequence[str]:
        asked.append((owner, begun))
        return [name for name in known if name.startswith(begun)]

    completer = Completer(names)
    found = []
    while (word := completer(text, len(found))) is not None:
        found.append(word)
    assert len(asked) <= 1, "readline asks for one word after another, the board once"
    return found


def test_words_are_completed_by_what_is_known_there_and_by_python() -> None:
    assert complete("im", "image", "os") == ["image", "import"]
    assert complete("a.b.c", "cd", "ce", "x") == ["a.b.cd", "a.b.ce"]
    assert complete("a.", "_private", "open") == ["a.open"]
    assert complete("a._", "_private", "open") == ["a._private"]
    assert complete("f().", "x") == []
    assert complete("", "x") == ["    "]
    assert complete("a.", "\x1b[2J", "no name") == []


def test_history_is_state_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert history_file() == Path("/state/rpyc-gw/shell_history")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/me")
    assert history_file() == Path("/home/me/.local/state/rpyc-gw/shell_history")


def test_a_prompt_within_another_leaves_its_history_and_completion(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    readline = pytest.importorskip("readline")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def theirs(_text: str, _state: int) -> None:
        return None

    def lines() -> list[str | None]:
        return [readline.get_history_item(at) for at in range(1, readline.get_current_history_length() + 1)]

    kept, completer = lines(), readline.get_completer()
    readline.set_completer(theirs)
    readline.add_history("their line")
    for _ in range(2):
        with with_history(lambda _owner, _begun: ()):
            assert "their line" not in lines()
            readline.add_history("our line")
    assert history_file().read_text().splitlines() == ["our line", "our line"]
    assert lines() == [*kept, "their line"]
    assert readline.get_completer() is theirs
    readline.clear_history()
    readline.set_completer(completer)

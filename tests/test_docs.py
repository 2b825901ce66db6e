"""The lines of the pages in docs/ that look like a conversation with the interpreter are one."""

from __future__ import annotations

import builtins
import doctest
from pathlib import Path

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.sync import BlockingSession
from tests.house import open_lab

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", sorted(page.name for page in DOCS.glob("*.md") if ">>> " in page.read_text()))
async def test_a_page_says_what_happens(page: str) -> None:
    text = (DOCS / page).read_text()

    def converse(conn: BlockingSession) -> None:
        test = doctest.DocTestParser().get_doctest(text, {"conn": conn, "gw": gw}, page, page, 0)
        said: list[str] = []
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
        assert result.attempted > 0
        assert result.failed == 0, "".join(said)

    try:
        async with open_lab() as lab:
            await trio.to_thread.run_sync(converse, BlockingSession(lab, lambda: None))
    finally:
        vars(builtins).pop("_", None)  # where a conversation has its last value, for all that runs in this process

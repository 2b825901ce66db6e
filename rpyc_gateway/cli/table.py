"""Columns for people."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["table"]


def table(rows: Sequence[Sequence[str]]) -> str:
    """The rows with their cells in columns; the first holds the titles. What a terminal would obey is shown as `?`."""
    safe = [["".join(char if char.isprintable() else "?" for char in cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*safe, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in safe
    )

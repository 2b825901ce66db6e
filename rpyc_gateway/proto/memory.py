"""Memory for long bodies, in large pages where the system has some."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from functools import cache
from io import BytesIO

__all__ = ["FRESH", "fresh_memory"]

FRESH = 2**25
"""Bytes of a block of memory that the system is asked for each time, and gets back: what is smaller is used again by the allocator of Linux."""


def fresh_memory(size: int) -> BytesIO:
    """So many zeros, to be written over; its value is its memory, not a copy. Nothing of it is taken from the system before it is written.

    In pages of the usual size that would take longer than all the rest that is done with a long body. Raises MemoryError.
    """
    memory = BytesIO(bytes(size))  # nobody else has these bytes: it writes into them
    advise = _large_pages()
    if advise is not None:
        advise(memory, size)
    return memory


@cache
def _large_pages() -> Callable[[BytesIO, int], None] | None:
    """What asks for large pages behind some memory, which may be refused; None where nobody can be asked."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    import ctypes  # takes a while to load

    try:
        madvise = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return None

    def advise(memory: BytesIO, size: int) -> None:
        with memory.getbuffer() as view:
            place = ctypes.addressof(ctypes.c_char.from_buffer(view))
        start = -(-place // mmap.PAGESIZE) * mmap.PAGESIZE
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(place + size - start), mmap.MADV_HUGEPAGE)

    return advise

"""Source into the RAM of a board, over a line that may change bytes: each part is run only if its checksum is right, and sent again if not."""

from __future__ import annotations

import zlib
from binascii import b2a_base64, crc32
from collections.abc import Callable, Sequence

from rpyc_gateway.device.repl import RUN, STEP, Repl, ReplFailed
from rpyc_gateway.device.source import parts
from rpyc_gateway.errors import DialFailed

__all__ = ["upload"]

TRIES = 6  # of one part, or piece
SHORT_PART = 500  # bytes of the parts of one that did not arrive
PIECE = 48  # bytes of the pieces of one that did not arrive either: at 1 % of damaged bytes every second comes through
PART_STEP, PART_RUN = (
    2.0,
    5.0,
)  # seconds for the board to take a part, and to compile it: noise may have hidden that it has
SHORT_STEP, SHORT_RUN = 0.3, 1.0  # the same for a piece
MOST = 400  # tries that are in vain, of everything together: then the line is no line

# Runs source, or keeps it for what follows, if all that has come of it is right: `k` characters of it are there.
LOADER = """from binascii import crc32
_b=""
def _u(s,n,k=0,x=1):
 global _b
 s=_b[:k]+s
 if crc32(s)==n:
  _b=s
  if x:
   _b=""
   exec(s,globals())
  print("=")
print("=")"""
DONE = b"="
# Before each part where heap is scarce: what is kept lies close together then, and leaves room for what takes 1 KiB in one, as compilers do.
COLLECT = "import gc;gc.collect()"
WINDOW = 10  # as a power of two: bytes of memory there
# Unpacks what has been packed, on boards that can; most with so much memory can.
UNPACKER = f"""try:
 from deflate import DeflateIO,RAW
 from io import BytesIO
 from binascii import a2b_base64
 def _z(s,n):return DeflateIO(BytesIO(a2b_base64(s)),RAW,{WINDOW}).read(n).decode()
 print("z")
except ImportError:pass
"""
UNPACKS = b"z"


async def upload(
    repl: Repl,
    sources: Sequence[str],
    progress: Callable[[int, int], object] | None = None,
    *,
    checked: bool = True,
    packed: bool = False,
) -> None:
    """Run each of these, one after another. `progress` is told the bytes that are done, and all. What is not `checked` takes less heap,
    what is `packed`, if the board can unpack, less time on the line and more heap.

    Raises ReplFailed for what the board has to say against it, its MemoryError for example; DialFailed if too much is damaged on its way.
    """
    loading = Uploading(repl)
    if checked:
        repl.patience, repl.longest = SHORT_STEP, SHORT_RUN
        await loading.begin(packed=packed)
    whole = sum(map(len, sources))
    done = 0
    for number, source in enumerate(sources, 1):
        try:
            if checked:
                await loading.put(source)
            else:
                await repl.run(COLLECT)
                await repl.run(source)
        except ReplFailed as exc:
            raise ReplFailed(f"part {number} of {len(sources)}: {exc}") from None
        done += len(source)
        if progress is not None:
            progress(done, whole)
    repl.patience, repl.longest = STEP, RUN


class Uploading:
    """The way of one program."""

    def __init__(self, repl: Repl) -> None:
        self._repl = repl
        self._failed = 0
        self._unpacks = False

    async def begin(self, *, packed: bool = False) -> None:
        """Give the board what checks, and what unpacks."""
        loader = UNPACKER + LOADER if packed else LOADER
        while (said := await self._try(loader)) is None:
            pass
        self._unpacks |= UNPACKS in said.split()

    async def put(self, source: str) -> None:
        """Run a part."""
        self._repl.patience, self._repl.longest = PART_STEP, PART_RUN
        if await self._put(pack(source) if self._unpacks else literal(source), source, tries=1):
            return
        for part in parts(source, SHORT_PART):
            self._repl.patience, self._repl.longest = PART_STEP, PART_RUN
            if not await self._put(literal(part), part, tries=TRIES):
                await self._put_in_pieces(part)

    async def _put_in_pieces(self, source: str) -> None:
        self._repl.patience, self._repl.longest = SHORT_STEP, SHORT_RUN
        while True:
            for at in range(0, len(source), PIECE):
                end = at + PIECE
                last = end >= len(source)
                if not await self._put(repr(source[at:end]), source[:end], at, tries=4 * TRIES, run=last):
                    await self.begin()  # perhaps it is no longer there as it was
                    break
            else:
                return

    async def _put(self, text: str, whole: str, at: int = 0, *, tries: int, run: bool = True) -> bool:
        order = f"_u({text},{crc32(whole.encode())}{f',{at}' if at or not run else ''}{'' if run else ',0'})"
        for _ in range(tries):
            if await self._try(order) is not None:
                return True
        return False

    async def _try(self, source: str) -> bytes | None:
        """What it says if it was run, as far as is known: what has run once more does no harm."""
        why = ""
        try:
            said = await self._repl.run(source)
            if said.strip().endswith(DONE):
                return said
        except ReplFailed as exc:
            if "MemoryError" in str(exc):
                raise
            why = f": {exc}"
        except DialFailed as exc:
            why = f": {exc}"
        self._failed += 1
        if self._failed >= MOST:
            raise DialFailed(f"{self._repl.peer}: what is sent arrives damaged too often, {self._failed} times{why}")
        await self._repl.find()
        return None


def pack(source: str) -> str:
    """An expression for it that is short, for who has `_z`."""
    data = source.encode()
    packer = zlib.compressobj(zlib.Z_BEST_COMPRESSION, wbits=-WINDOW)
    return f"_z('{b2a_base64(packer.compress(data) + packer.flush(), newline=False).decode()}',{len(data)})"


def literal(source: str) -> str:
    """As short as it can be: what is raw needs no escapes for its ends of lines."""
    return f"r'''{source}'''" if "'''" not in source and source[-1:] not in ("'", "\\") else repr(source)

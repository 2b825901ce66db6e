"""The agent: what runs on a board (docs/protocol.md, section 13). MicroPython 1.19 and later, CircuitPython, CPython 3.8 and later (hosted.py has its port); never imported here.

It is composed of the sections that the lines `#: name` begin, made small (device/source.py) and uploaded. One port, `core`, and `callbacks` if
there is room. Every statement at the left margin is compiled alone, so each is short. KeyboardInterrupt comes at any jump: what
belongs together is changed by statements without a jump between them, and what is left half done can be begun again.
"""

#: console
# readline() is one C call: the one fast way to receive. CircuitPython has a buffer of stdin on few boards.
import select
import sys
from gc import mem_free

keys = sys.stdin.buffer
poller = select.poll()
poller.register(sys.stdin, 1)
write = sys.stdout.buffer.write


def read_line(ms):
    if not poller.poll(ms):
        return b""
    line = keys.readline(600)
    if not line:
        raise SystemExit
    return line


#: usb
# CircuitPython's other boards.
from gc import mem_free

import usb_cdc

port = usb_cdc.data or usb_cdc.console
write = port.write
begun = [b""]


def read_line(ms):
    port.timeout = ms / 1000
    begun[0] += port.readline() or b""
    line = b""
    if begun[0][-1:] == b"\n" or len(begun[0]) > 600:
        line, begun[0] = begun[0], b""
    return line


#: micropython
import io


def trace(error):
    out = io.StringIO()
    sys.print_exception(error, out)
    return out.getvalue()


#: others
import traceback


def trace(error):
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


#: core
import gc
from binascii import crc32
from struct import pack, unpack_from

Host = None
flush = int  # nothing, until there are events
space = {"__name__": "__main__"}
waiting = {}  # callbacks: a list that gets the answer
table = []  # the objects of this side; those that were released are None
free = []  # their numbers
results = []  # of the program that runs
inbox = []  # messages not yet run
outbox = []  # messages not yet sent
unacked = []  # pieces: number, flags, sequence, data
events = []
idle = 500  # ms
patience = 60  # ms
# The first piece that is not acknowledged, or the next; the latest transmission; the piece that is missing, the transmission that came last.
base = number = expected = latest = 0
at = 0  # how much of the first message of the outbox is in pieces
owed = 0  # pieces that were not acknowledged
skip = allowed = 0  # bytes of the stream that are not wanted; whether the length of the message that comes is all right
damaged = 0  # lines, since the transmission that came last
strikes = seed = 0
inflow = mine = peer = b""  # the stream, as far as it was not read; nonces
escapes = b"}\n\x1e\r\x11\x13"


def put(body, start):
    body += crc32(body, start).to_bytes(4, "big")
    for byte in escapes:
        plain = bytes((byte,))
        if plain in body:
            body = body.replace(plain, bytes((125, byte ^ 64)))
    write(b"\x1e" + body + b"\n")


def acknowledge(damage=b""):
    global owed
    owed = 0
    put(bytes((96 if damage else 64, latest, expected)) + damage, seed)


def transmit(piece):
    global number, owed, piece_size
    owed = 0
    if piece[0]:  # it was lost: a shorter one is less often
        piece_size = max(24, piece_size * 3 // 4)
    number = (number + 1) & 255
    piece[0] = number
    put(bytes((piece[1], number, piece[2], expected)) + piece[3], seed)


def pump():
    global at
    while outbox:
        message = outbox[0]
        if at >= len(message):
            outbox.pop(0)
            at = 0
            continue
        if len(unacked) > 7:
            return
        end = at + piece_size
        poll = 16 if len(unacked) > 6 or (len(message) > piece_size and end >= len(message)) else 0
        piece = [0, poll, (base + len(unacked)) & 255, message[at:end]]
        at = end
        unacked.append(piece)
        transmit(piece)


def acked(ack, said=None):
    global base, piece_size
    count = (ack - base) & 255
    if count > len(unacked):
        return
    if count:
        piece_size = min(longest, piece_size + 8)
        unacked[:count] = []
        base = ack
    if said is None:
        return
    bits = said[3:]
    reached = said[1]
    if said[0] & 32 and bits:
        reached += bits[0]
        bits = bits[1:]
    for piece in unacked:
        bit = (piece[2] - ack - 1) & 255
        if (reached - piece[0]) & 255 < 128 and not (bit >> 3 < len(bits) and bits[bit >> 3] >> (bit & 7) & 1):
            transmit(piece)


def step(ms):
    global owed, patience, latest, expected, inflow, strikes, damaged
    pump()
    line = read_line(20 if owed else patience if unacked else ms)
    if not line:
        if owed:
            acknowledge()
        elif unacked:
            patience = min(patience * 2, 2000)
            unacked[0][1] = 16
            transmit(unacked[0])
        return
    strikes = 0
    start = line.rfind(b"#")
    body = unescape(line[start + 1 : -1])
    end = body[-4:]
    body = body[:-4]
    kind = body and body[0]
    if crc32(body, seed * (kind != 128)).to_bytes(4, "big") != end:
        if len(line) > 1 and peer:
            damaged = min(damaged + 1, 255)
            acknowledge(bytes((damaged,)))
        return
    patience = 60
    if kind == 128:
        greet(body)
    elif kind == 129:
        strikes = 9
        waiting.clear()
    elif kind & 192 == 64:
        acked(body[2], body)
        if kind & 16:
            acknowledge()
    elif kind < 64:
        acked(body[3])
        latest = body[1]
        damaged = 0
        if body[2] != expected:
            acknowledge()
            return
        inflow += body[4:]
        expected = (expected + 1) & 255
        owed += 1
        if kind & 16 or owed > 3:
            acknowledge()


def unescape(data):
    parts = data.split(b"}")
    data = parts[0]
    for part in parts[1:]:
        if not part:
            return b""
        data += bytes((part[0] ^ 64,)) + part[1:]
    return data


def greet(body):
    global peer, seed, escapes, base, number, expected, latest, owed, at, inflow, skip, allowed
    if body[3:7] != peer:
        peer = body[3:7]
        base = number = expected = latest = owed = at = skip = allowed = 0
        inflow = inflow[:0]
        for each in (unacked, inbox, outbox, events, free):
            each[:] = []
        table[11:] = []
        waiting.clear()
        seed = crc32(peer + mine)
        escapes = b"}\n\x1e" + body[24 : 24 + body[23]]
    elif not body[2] & 1:
        return
    hello()


def hello():
    put(bytes((128, 1, not peer)) + mine + (peer or bytes(4)) + greeting, 0)


def parse():
    global inflow, skip, allowed
    while inflow:
        if skip:
            count = min(skip, len(inflow))
            inflow = inflow[count:]
            skip -= count
            continue
        try:
            count, start = varint(inflow, 0)
            head = inflow[start]
        except IndexError:
            return
        if count > 127 and not allowed:
            if count > mem_free() // 4:
                gc.collect()
            if count > mem_free() // 4:
                refuse(head, count, start)
                continue
            allowed = 1
        if len(inflow) - start < count:
            return
        message = inflow[start : start + count]
        inflow = inflow[start + count :]
        allowed = 0
        (waiting.pop(head & 31, []) if head & 128 else inbox).append(message)


def refuse(head, count, start):
    global inflow, skip
    if head & 128:
        answer, there = b"\xa0", waiting.pop(head & 31, [])
    else:
        answer, there = failure(head, 0, "MemoryError", "a message of %d bytes" % count), outbox if head & 31 else []
    inflow = inflow[start:]
    skip = count
    there.append(answer)


def varint(data, i):
    value = shift = 0
    while 1:
        byte = data[i]
        i += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, i
        shift += 7


def add(data, value):
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)


def lead(data, kind, value):
    data.append(kind)
    add(data, value)


def encode(o, data, deep):
    kind = type(o)
    if o is None:
        data.append(192)
    elif kind is bool:
        data.append(193 + o)
    elif kind is int:
        if -33 < o < 128:
            data.append(o & 255)
        else:
            lead(data, 196 + (o < 0), o ^ -(o < 0))
    elif kind is float:
        data.append(195)
        data.extend(pack("<d", o))
    elif kind is str:
        o = o.encode()
        if len(o) < 32:
            data.append(160 + len(o))
        else:
            lead(data, 203, len(o))
        data.extend(o)
    elif kind is bytes:
        lead(data, 202, len(o))
        data.extend(o)
    elif kind is tuple or (deep and kind is list):
        lead(data, 204 + (kind is list), len(o))
        for x in o:
            encode(x, data, deep)
    elif deep and kind is dict:
        lead(data, 206, len(o))
        for x in o:
            encode(x, data, deep)
            encode(o[x], data, deep)
    elif kind is Host:
        lead(data, 200, o.n)
    else:
        if free:
            n = free.pop()
            table[n] = o
        else:
            n = len(table)
            table.append(o)
        lead(data, 198, n)


def decode(data, i):
    kind = data[i]
    i += 1
    if kind < 128:
        return kind, i
    if kind > 223:
        return kind - 256, i
    if kind > 191:
        if kind < 195:
            return (None, False, True)[kind - 192], i
        if kind == 195:
            return unpack_from("<d", data, i)[0], i + 8
        n, i = varint(data, i)
        if kind < 198:
            return (n if kind == 196 else ~n), i
        if kind < 200:
            return (table if kind == 198 else results)[n], i
        if kind < 202:
            return Host(n, kind == 201), i
        if kind < 204:
            return (bytes(data[i : i + n]) if kind == 202 else str(data[i : i + n], "utf8")), i + n
    else:
        n = kind - 160
        return str(data[i : i + n], "utf8"), i + n
    items = []
    for _ in range(n * 2 if kind == 206 else n):
        x, i = decode(data, i)
        items.append(x)
    if kind == 206:
        return dict(zip(items[::2], items[1::2])), i
    return (items if kind == 205 else tuple(items)), i


def framed(body):
    data = bytearray()
    add(data, len(body))
    return bytes(data) + body


def failure(head, step, *values):
    data = bytearray((160 | head & 31,))
    for x in (step,) + values:
        encode(x, data, 0)
    return framed(data)


def work(message, done):
    global results
    head = message[0]
    i = 1
    while i < len(message):
        left = 256
        if head & 64:
            left = message[i]
            i += 1
        results = done
        start = i
        call, i = decode(message, i)
        if message[start] != 199:
            call = table[call]
        args = []
        while left and i < len(message):
            x, i = decode(message, i)
            args.append(x)
            left -= 1
        done.append(call(*args))
    data = bytearray((128 | head & 31,))
    encode(done[-1], data, head & 32)
    return framed(data)


def run():
    who = peer
    message = answer = None
    done = []
    tries = 0
    while answer is None:
        tries += 1
        try:
            if message is None:
                message = inbox.pop(0)
                answer = work(message, done)
            else:  # saying why has failed, for want of memory or by an interrupt
                answer = bytes((1, 160 | message[0] & 31))
        except BaseException as e:
            try:
                name = type(e).__name__
                answer = failure(message[0], len(done), name, str(e), trace(e), getattr(e, "errno", None))
            except BaseException:
                pass
    if message[0] & 31 and who == peer:
        outbox.append(answer)


def go(ms):
    parse()
    if inbox:
        run()
        pump()
    else:
        step(ms)


def release(*numbers):
    for n in numbers:
        table[n] = None
        free.append(n)


table.extend(
    (
        release,
        getattr,
        setattr,
        lambda a, b: a[b],
        lambda source: eval(source, space),
        lambda source: exec(source, space),
        lambda name: __import__(name, None, None, ("__name__",)),
        repr,
        dir,
        lambda f, a, k: f(*a, **k),
        lambda a: a,
    )
)


def main(nonce, rest, size):
    global mine, greeting, piece_size, longest, strikes, owed
    mine = nonce
    greeting = rest
    piece_size = longest = size
    hello()
    while strikes < 3:
        try:
            flush()
            go(idle)
        except KeyboardInterrupt:
            strikes += 1
            owed = 1
        except SystemExit:
            return
        except Exception as e:  # for want of memory perhaps, and again at once
            print(e)
            strikes += 1


#: callbacks
dropped = 0


def flush():
    global dropped
    while events and len(outbox) < 4:
        n, args = events[0]
        data = bytearray((192,))
        add(data, n)
        for x in args:
            encode(x, data, 0)
        outbox.append(framed(data))
        events.pop(0)
    if dropped and not events:
        data = bytearray((192, 0))
        encode(dropped, data, 0)
        dropped = 0
        outbox.append(framed(data))


class Host:
    def __init__(self, n, event):
        global idle
        self.n = n
        self.event = event
        if event:
            idle = 10

    def __call__(self, *args, **keywords):
        global dropped
        if self.event:
            if len(events) < 32:
                events.append((self.n, args))
            else:
                dropped += 1
            return None
        name = 1
        while name in waiting:
            name += 1
        if name > 31:
            raise RuntimeError("31 callbacks are under way")
        data = bytearray((name | (64 if keywords else 0),))
        add(data, self.n)
        for x in args + ((keywords,) if keywords else ()):
            encode(x, data, x is keywords)
        answer = waiting[name] = []
        outbox.append(framed(data))
        return wait(name, answer)


def wait(name, answer):
    while not answer:
        if waiting.get(name) is not answer:
            raise OSError("the host has gone")
        go(idle)
    message = answer[0]
    values = []
    i = 1
    while i < len(message):
        x, i = decode(message, i)
        values.append(x)
    if not message[0] & 32:
        return values[0]
    if not values:
        raise MemoryError("the answer is too long for what is free here")
    import builtins

    raise getattr(builtins, values[1], RuntimeError)(values[2])


#: installed
# On flash: main.py says `import gwagent; gwagent.begin()`. When a front lets go it waits for the next; three 03 end it.
from os import urandom


def begin():
    global strikes, peer
    while 1:
        strikes = 0
        peer = b""
        space.clear()
        space["__name__"] = "__main__"
        main(urandom(4), GREETING, PIECE)
        if strikes < 9:
            return

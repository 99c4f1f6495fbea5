#!/usr/bin/env python3
"""A Trellis capability provider in Python, with nothing but its standard library: `wasi:keyvalue/store`, in memory.

A host starts it with a socket as file descriptor 3. What goes over the socket is section 12 of PROTOCOL.md; sections 4
(values), 5 (heads) and 6 (refusals) say what is in it. The file has four parts: MessagePack, hashes of types, the
store, and the socket.
"""

import hashlib
import socket
import struct
import sys

# 1. MessagePack, as much of it as the protocol uses. Integers and lengths are written in their shortest form.


def pack(value):
    if value is None:
        return b"\xc0"
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        if value < 0:
            for low, head, form in ((-0x20, b"", "b"), (-0x80, b"\xd0", "b"), (-0x8000, b"\xd1", ">h"),
                                    (-0x80000000, b"\xd2", ">i"), (-(1 << 63), b"\xd3", ">q")):
                if value >= low:
                    return head + struct.pack(form, value)
        for high, head, form in ((0x7F, b"", "B"), (0xFF, b"\xcc", "B"), (0xFFFF, b"\xcd", ">H"),
                                 (0xFFFFFFFF, b"\xce", ">I"), ((1 << 64) - 1, b"\xcf", ">Q")):
            if 0 <= value <= high:
                return head + struct.pack(form, value)
    if isinstance(value, bytes):
        return sized(len(value), None, 0xC4) + value
    if isinstance(value, str):
        text = value.encode()
        return sized(len(text), (0xA0, 31), 0xD9) + text
    if isinstance(value, list):
        return sized(len(value), (0x90, 15), 0xDB) + b"".join(map(pack, value))
    if isinstance(value, dict):
        items = b"".join(pack(key) + pack(item) for key, item in value.items())
        return sized(len(value), (0x80, 15), 0xDD) + items
    raise ValueError(f"no form for {value!r}")


def sized(length, small, base):
    """The head of something with a length. Arrays and maps have no form with a length of one byte."""
    if small and length <= small[1]:
        return bytes([small[0] | length])
    if length <= 0xFF and base in (0xC4, 0xD9):
        return bytes([base, length])
    if length <= 0xFFFF:
        return struct.pack(">BH", base + 1, length)
    return struct.pack(">BI", base + 2, length)


def unpack(data):
    value, end = read(data, 0)
    if end != len(data):
        raise ValueError("bytes behind the value")
    return value


FIXED = {0xCA: ">f", 0xCB: ">d", 0xCC: "B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
         0xD0: "b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
LENGTHS = {0xC4: "B", 0xC5: ">H", 0xC6: ">I", 0xD9: "B", 0xDA: ">H", 0xDB: ">I",
           0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}


def read(data, at):
    head, at = data[at], at + 1
    if head <= 0x7F or head >= 0xE0:
        return (head if head <= 0x7F else head - 0x100), at
    if head in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[head], at
    if head in FIXED:
        size = struct.calcsize(FIXED[head])
        return struct.unpack_from(FIXED[head], data, at)[0], at + size
    if head <= 0x8F:
        length, kind = head & 0x0F, "map"
    elif head <= 0x9F:
        length, kind = head & 0x0F, "array"
    elif head <= 0xBF:
        length, kind = head & 0x1F, "string"
    elif head in LENGTHS:
        length = struct.unpack_from(LENGTHS[head], data, at)[0]
        at += struct.calcsize(LENGTHS[head])
        kind = {0xC: "bytes", 0xD: "string"}[head >> 4] if head < 0xDC else "array" if head < 0xDE else "map"
    else:
        raise ValueError(f"no such form: {head:02x}")
    if length > len(data) - at:
        raise ValueError("a length beyond the bytes that are there")
    if kind in ("bytes", "string"):
        part = data[at:at + length]
        return (part if kind == "bytes" else part.decode()), at + length
    items = []
    for _ in range(length * (2 if kind == "map" else 1)):
        item, at = read(data, at)
        items.append(item)
    return (items if kind == "array" else dict(zip(items[::2], items[1::2]))), at


# 2. Hashes of function types (section 4.3): both ends refuse a call whose type they know differently.

KINDS = ("bool u8 u16 u32 u64 s8 s16 s32 s64 f32 f64 char string list option result tuple record variant enum flags "
         "handle").split()


def shape(kind, *parts):
    code = bytes([KINDS.index(kind) + 1])
    if kind in ("list", "option"):
        return code + parts[0]
    if kind == "result":
        return code + b"".join(b"\0" if part is None else b"\1" + part for part in parts)
    if kind == "record":
        return code + count(parts) + b"".join(name(field) + part for field, part in parts)
    if kind == "variant":
        cases = (name(case) + (b"\0" if part is None else b"\1" + part) for case, part in parts)
        return code + count(parts) + b"".join(cases)
    return code


def count(parts):
    return struct.pack(">I", len(parts))


def name(text):
    return count(text) + text.encode()


def function(params, result):
    text = b"trellis.shape.v1\0" + count(params) + b"".join(name(param) + part for param, part in params)
    text += b"\0" if result is None else b"\1" + result
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") or 1


STRING, U64, HANDLE, BYTES = shape("string"), shape("u64"), shape("handle"), shape("list", shape("u8"))
ERROR = shape("variant", ("no-such-store", None), ("access-denied", None), ("other", STRING))
PAGE = shape("record", ("keys", shape("list", STRING)), ("cursor", shape("option", U64)))
SELF, KEY = ("self", HANDLE), ("key", STRING)

# 3. The store. A method answers with the value of its `ok`; `Refused` is for what the interface has no word for.


class Refused(Exception):
    pass


class Error(Exception):
    """An error of the interface itself."""


class Store:
    PAGE_KEYS = 1000

    def __init__(self):
        self.links = {}  # (source, link name) -> the entries of its bucket
        self.handles = {}  # lease -> handle -> (source, link name)
        # Handles of a former run of this program must lead to nothing.
        self.next = int.from_bytes(hashlib.sha256(open("/dev/urandom", "rb").read(16)).digest()[:6], "big")

    def link_put(self, key):
        self.links.setdefault((key[0], key[1]), {})

    def link_delete(self, key):
        self.links.pop((key[0], key[1]), None)

    def bucket(self, lease, handle):
        place = self.handles.get(lease, {}).get(handle)
        if place is None:
            raise Refused("bad-handle", f"handle {handle} is not held by this caller")
        if place not in self.links:
            raise Error({"other": "the link is gone"})
        return self.links[place]

    def open(self, lease, place, identifier):
        if identifier not in ("", "default"):
            raise Error("no-such-store")
        if place not in self.links:
            raise Refused("no-link", "the link is gone")
        self.next += 1
        self.handles.setdefault(lease, {})[self.next] = place
        return self.next

    def get(self, lease, _, bucket, key):
        return self.bucket(lease, bucket).get(key)

    def set(self, lease, _, bucket, key, value):
        self.bucket(lease, bucket)[key] = value

    def delete(self, lease, _, bucket, key):
        self.bucket(lease, bucket).pop(key, None)

    def exists(self, lease, _, bucket, key):
        return key in self.bucket(lease, bucket)

    def list_keys(self, lease, _, bucket, cursor):
        keys, start = sorted(self.bucket(lease, bucket)), cursor or 0
        page, end = keys[start:start + self.PAGE_KEYS], start + self.PAGE_KEYS
        return [page, end if end < len(keys) else None]

    def drop(self, lease, _, bucket):
        self.handles.get(lease, {}).pop(bucket, None)

    # What actors call it, its type, its method; all but the last answer with `result<…, error>`.
    FUNCTIONS = {
        "open": (function([("identifier", STRING)], shape("result", HANDLE, ERROR)), open),
        "[method]bucket.get": (function([SELF, KEY], shape("result", shape("option", BYTES), ERROR)), get),
        "[method]bucket.set": (function([SELF, KEY, ("value", BYTES)], shape("result", None, ERROR)), set),
        "[method]bucket.delete": (function([SELF, KEY], shape("result", None, ERROR)), delete),
        "[method]bucket.exists": (function([SELF, KEY], shape("result", shape("bool"), ERROR)), exists),
        "[method]bucket.list-keys": (
            function([SELF, ("cursor", shape("option", U64))], shape("result", PAGE, ERROR)), list_keys),
        "[resource-drop]bucket": (function([SELF], None), drop),
    }

    def invoke(self, head, payload):
        _, source, _, (interface, called), link, _, _, type_hash, _, lease = head[:10]
        if interface.split("@")[0] != "wasi:keyvalue/store" or called not in self.FUNCTIONS:
            raise Refused("unknown-operation", f"there is no `{interface}#{called}` here")
        known, method = self.FUNCTIONS[called]
        if type_hash != known:
            raise Refused("type-mismatch", f"`{called}` is known by another type here")
        try:
            params = unpack(payload)
            answer = method(self, tuple(lease), (source, link), *params)
        except Error as error:
            return pack({"Err": error.args[0]})
        except (ValueError, TypeError, IndexError, struct.error) as error:
            raise Refused("bad-payload", str(error)) from error
        return pack(None if called.startswith("[resource-drop]") else {"Ok": answer})


# 4. The socket. One call is served after the other, since none of them waits for anything.

INVOKE, HTTP, REPLY, REFUSE, DATA, CREDIT, CANCEL, RELEASE = 1, 2, 3, 4, 6, 7, 10, 11
HELLO, START, LINK_PUT, LINK_DELETE, HEALTH, RELEASE_HOST, SHUTDOWN, DONE = range(32, 40)
FRAME_MAX, PIECE, VALUE_MAX = 60 * 1024, 40 * 1024, 4 * 1024 * 1024


class Provider:
    def __init__(self, pipe):
        self.pipe, self.store = pipe, Store()
        self.arriving = {}  # call -> [head, parameters so far, bytes that are missing]
        self.leaving = {}  # call -> [rest of the result, sequence, credit]

    def send(self, kind, *fields):
        frame = bytes([kind]) + pack(list(fields))
        self.pipe.sendall(struct.pack(">I", len(frame)) + frame)

    def receive(self):
        length = self.exactly(4)
        if not length:
            return None
        length = struct.unpack(">I", length)[0]
        if not 1 <= length <= FRAME_MAX:
            raise ValueError(f"a frame of {length} bytes")
        frame = self.exactly(length)
        return frame[0], unpack(frame[1:])

    def exactly(self, length):
        data = b""
        while len(data) < length:
            part = self.pipe.recv(length - len(data))
            if not part:
                return b""  # The host is gone, or wants this process to go.
            data += part
        return data

    def run(self):
        serves = ["wasi:keyvalue/store@0.2.0-draft"]
        self.send(HELLO, 1, "keyvalue-python", serves, [], 256)
        while message := self.receive():
            kind, fields = message
            if kind == INVOKE:
                self.invoke(*fields)
            elif kind == HTTP:
                self.send(REFUSE, fields[0], ["unknown-operation", "this provider sends no requests", None])
            elif kind == DATA:
                self.data(*fields)
            elif kind == CREDIT and fields[0] in self.leaving:
                self.leaving[fields[0]][2] += fields[2]
                self.rest(fields[0])
            elif kind == CANCEL and (self.arriving.pop(fields[0], None) or self.leaving.pop(fields[0], None)):
                self.send(REFUSE, fields[0], ["cancelled", "the caller has gone", None])
            elif kind == RELEASE:
                self.store.handles.pop(tuple(fields[0]), None)
            elif kind == RELEASE_HOST:
                gone = [lease for lease in self.store.handles if lease[0] == fields[0]]
                for lease in gone:
                    del self.store.handles[lease]
            elif kind in (START, LINK_PUT, LINK_DELETE, HEALTH, SHUTDOWN):
                if kind == START:
                    print(f"{fields[1]} serves the lattice {fields[2]}", file=sys.stderr, flush=True)
                elif kind == LINK_PUT and fields[1][3] == "target":
                    self.store.link_put(fields[1][0])
                elif kind == LINK_DELETE and fields[2] == "target":
                    self.store.link_delete(fields[1])
                self.send(DONE, fields[0], None)

    def invoke(self, call, head, payload, rest):
        if rest:  # The parameters go on as data, once there is credit for them.
            self.arriving[call] = [head, payload, rest]
            self.send(CREDIT, call, 0, rest + 256 * -(-rest // PIECE))
            return
        try:
            result = self.store.invoke(head, payload)
            if len(result) > VALUE_MAX:
                raise Refused("too-large", "the result exceeds 4 MiB")
        except Refused as refused:
            self.send(REFUSE, call, [*refused.args, None])
            return
        self.send(REPLY, call, result[:PIECE], len(result[PIECE:]))
        if len(result) > PIECE:
            self.leaving[call] = [result[PIECE:], 0, 0]

    def data(self, call, _stream, _sequence, part, _last, _trailers):
        if call in self.arriving:
            head, payload, rest = self.arriving.pop(call)
            if rest > len(part):
                self.arriving[call] = [head, payload + part, rest - len(part)]
            else:
                self.invoke(call, head, payload + part, 0)

    def rest(self, call):
        result, sequence, credit = self.leaving.pop(call)
        while result and credit >= len(result[:PIECE]) + 256:
            part, result = result[:PIECE], result[PIECE:]
            self.send(DATA, call, 1, sequence, part, not result, None)
            sequence, credit = sequence + 1, credit - len(part) - 256
        if result:
            self.leaving[call] = [result, sequence, credit]


if __name__ == "__main__":
    try:
        pipe = socket.socket(fileno=3)
    except OSError:
        sys.exit("this program is started by a Trellis host, which hands it a socket as descriptor 3")
    try:
        Provider(pipe).run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # The host has gone.

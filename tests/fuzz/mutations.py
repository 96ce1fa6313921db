"""Damaged copies of a file's bytes, the same ones for the same seed: what copying, editing and other programs do to files."""

import random
import re
import struct
from collections.abc import Callable

_NUMBERS = (
    "nan", "inf", "-inf", "1e308", "1e400", "-1", "0", "-0", "99999999999999999999", "2147483648", "1e9", "", "abc",
    "0x10", "1_000", "--5", "True", "1e-320", "1,5", "65536", "٣", "1e18", "-1e9", "None", "4096", "1.5",
)  # fmt: skip
_NUMBER = re.compile(rb"(?<![A-Za-z_])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_][A-Za-z_0-9.]{2,}")
_PACKED = tuple(
    struct.pack(layout, value)
    for order in "<>"
    for layout, value in (
        (order + "i", 0), (order + "i", -1), (order + "i", 2**31 - 1), (order + "i", -(2**31)), (order + "i", 2**24 - 1),
        (order + "i", 65536), (order + "i", 10**6), (order + "i", 1), (order + "i", 3), (order + "i", 101),
        (order + "f", float("nan")), (order + "f", float("inf")), (order + "f", 1e38), (order + "f", -1.0),
        (order + "H", 65535), (order + "H", 0), (order + "Q", 2**63 - 1), (order + "Q", 2**40), (order + "q", -1),
        (order + "d", float("nan")), (order + "d", 1e300),
    )
)  # fmt: skip
_MOST = 400_000  # bytes: what makes a file larger stays below


def _some(chance: random.Random) -> int:
    return chance.choice((1, 1, 1, 2, 3, 8))


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _cut_front(data: bytes, chance: random.Random) -> bytes:
    return data[chance.randrange(min(len(data), 64) + 1) :]


def _flip(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(_some(chance) if out else 0):
        out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    return bytes(out)


def _replace_bytes(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(_some(chance) if out else 0):
        out[chance.randrange(len(out))] = chance.randrange(256)
    return bytes(out)


def _noise(data: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((1, 7, 512, 1024, 3000)))


def _empty(data: bytes, chance: random.Random) -> bytes:
    return chance.choice((b"", b"\n", b"\0", bytes(1024), b" \n \n", b"#\n"))


def _noise_within(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.choice((1, 4, 50))) + data[at:]


def _remove_within(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at + chance.choice((1, 4, 50, 1024)) :]


def _double(data: bytes, chance: random.Random) -> bytes:
    return data + data[: chance.choice((len(data), len(data) // 2, 10))]


def _packed(data: bytes, chance: random.Random) -> bytes:
    """Huge, negative or odd numbers, mostly where headers are."""
    out = bytearray(data)
    for _ in range(_some(chance)):
        value = chance.choice(_PACKED)
        reach = chance.choice((64, 256, 1024, len(out)))
        place = chance.randrange(max(1, min(reach, len(out)) // 2)) * 2
        if chance.random() < 0.7:
            place = place // 4 * 4
        out[place : place + len(value)] = value
    return bytes(out[: len(data)])


def _swap_order(data: bytes, chance: random.Random) -> bytes:
    """Words of the first part in the other byte order."""
    end = min(chance.choice((16, 224, 1024)), len(data) // 4 * 4)
    head = b"".join(data[i : i + 4][::-1] for i in range(0, end, 4))
    return head + data[end:]


def _numbers(data: bytes, chance: random.Random) -> bytes:
    found = list(_NUMBER.finditer(data))
    out = data
    for match in sorted(chance.sample(found, min(len(found), _some(chance))), key=lambda m: -m.start()):
        out = out[: match.start()] + chance.choice(_NUMBERS).encode() + out[match.end() :]
    return out


def _every_number(data: bytes, chance: random.Random) -> bytes:
    new = chance.choice(_NUMBERS).encode()
    return _NUMBER.sub(new, data)[:_MOST]


def _words(data: bytes, chance: random.Random) -> bytes:
    found = list(_WORD.finditer(data))
    if not found:
        return data
    one, other = chance.choice(found), chance.choice(found)
    return data[: one.start()] + chance.choice((b"", b"x", b"rlnOdd", other.group())) + data[one.end() :]


def _lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    for _ in range(_some(chance)):
        if not lines:
            break
        at = chance.randrange(len(lines))
        match chance.randrange(5):
            case 0:
                lines.insert(at, lines[at])
            case 1:
                del lines[at]
            case 2:
                lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
            case 3:
                other = chance.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case _:
                lines[at] = lines[at].rstrip(b"\r\n")
    return b"".join(lines)


def _columns(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines()
    if not lines:
        return data
    rows = range(len(lines)) if chance.random() < 0.3 else [chance.randrange(len(lines))]
    which, kind = chance.randrange(12), chance.randrange(3)
    for row in rows:
        comma = b"," in lines[row]
        words = lines[row].split(b",") if comma else lines[row].split()
        if not words:
            continue
        at = which % len(words)
        if kind == 0:
            del words[at]
        elif kind == 1:
            words.insert(at, chance.choice(_NUMBERS).encode())
        else:
            words[at], words[-1] = words[-1], words[at]
        lines[row] = (b"," if comma else b" ").join(words)
    return b"\n".join(lines) + b"\n"


def _line_ends(data: bytes, chance: random.Random) -> bytes:
    ends = chance.choice(
        ((b"\r\n",), (b"\r",), (b"\r\n", b"\n", b"\r"), (b"\n\n",), (b"\x0b", b"\n"), (b"\x85", b"\n"))
    )
    return b"".join(line + chance.choice(ends) for line in data.splitlines())


def _characters(data: bytes, chance: random.Random) -> bytes:
    new = chance.choice(
        (
            b"\0",
            b'"',
            b"'",
            b"<",
            b">",
            b"&",
            b"\xff\xfe",
            b"\xef\xbb\xbf",
            b"#",
            b";",
            b"\t",
            b"=",
            b"[",
            b"]",
            b"{",
            b"\xb5",
            b"data_\n",
            b"loop_\n",
        )
    )
    at = 0 if chance.random() < 0.2 else chance.randrange(len(data) + 1)
    return data[:at] + new + data[at:]


def _encoding(data: bytes, chance: random.Random) -> bytes:
    text = data.decode("latin-1")
    return text.encode(chance.choice(("utf-16", "utf-16-be", "utf-8-sig", "utf-32", "cp500")))


def _nested(data: bytes, chance: random.Random) -> bytes:
    at = chance.choice((0, chance.randrange(len(data) + 1)))
    return data[:at] + chance.choice((b"[", b'{"a":', b"(", b"<a>")) * 20_000 + data[at:]


def _long(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    line = chance.choice(lines)
    kind = chance.randrange(3)
    if kind == 0:
        return data + line * min(300, _MOST // max(1, len(line)))
    if kind == 1:
        return data + b"7" * 5000 + b"\n"  # more digits than Python takes for a whole number
    return data + b"\n" * 3000


Change = Callable[[bytes, random.Random], bytes]
_ANY: tuple[Change, ...] = (
    _cut, _cut, _cut_front, _flip, _flip, _replace_bytes, _noise, _empty, _noise_within, _remove_within, _double,
)  # fmt: skip
_BINARY: tuple[Change, ...] = (*_ANY, _packed, _packed, _packed, _packed, _packed, _packed, _swap_order)
_TEXT: tuple[Change, ...] = (
    *_ANY, _numbers, _numbers, _numbers, _numbers, _numbers, _every_number, _words, _words, _lines, _lines, _lines,
    _columns, _columns, _columns, _line_ends, _characters, _characters, _encoding, _nested, _long,
)  # fmt: skip


def is_text(data: bytes) -> bool:
    """Whether bytes look like a text."""
    return b"\0" not in data and sum(byte > 126 for byte in data[:2000]) * 20 < len(data[:2000]) + 20


def mutated(data: bytes, seed: int) -> tuple[str, bytes]:
    """A damaged copy, and what was done.

    Parameters
    ----------
    data : of a file that is whole
    seed : the same copy for the same seed
    """
    chance = random.Random(seed)
    choices = _TEXT if is_text(data) else _BINARY
    names = []
    for _ in range(chance.choice((1, 1, 1, 2))):
        change = chance.choice(choices)
        names.append(change.__name__.strip("_"))
        data = change(data, chance)
    return " ".join(names), data

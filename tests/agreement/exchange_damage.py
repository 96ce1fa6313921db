"""Files damaged in many ways, the same each time."""

import random
import re
from collections.abc import Callable
from pathlib import Path

from eucentric.errors import EucentricError

_ODD = (
    b"nan",
    b"inf",
    b"-1",
    b"0",
    b"",
    b"1e308",
    b"1e999",
    b"99999999999999999999",
    b"x",
    b"null",
    b"[]",
    b"{}",
    b'"a"',
    b"\0",
    b"\xff",
)


def damaged(data: bytes, count: int, seed: int = 0) -> list[bytes]:
    """Copies of a file with a word replaced, a byte changed, a piece cut out, or the end missing."""
    rng = random.Random(seed)
    words = list(re.finditer(rb"[^\s,:\[\]{}\"=]+", data))
    out = []
    for k in range(count):
        at = rng.randrange(len(data))
        if k % 2:
            word = rng.choice(words)
            out.append(data[: word.start()] + rng.choice(_ODD) + data[word.end() :])
        elif k % 8 == 0:
            out.append(data[:at])
        elif k % 8 == 2:
            out.append(data[:at] + data[at + rng.randrange(1, 40) :])
        else:
            out.append(data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :])
    return out


def refused_in_words(file: Path, read: Callable[[], object], count: int = 160) -> int:
    """How many damaged copies of a file were refused; each other one was read, and none raised anything but our errors."""
    whole = file.read_bytes()
    refused = 0
    for data in damaged(whole, count):
        file.write_bytes(data)
        try:
            read()
        except EucentricError:
            refused += 1
    file.write_bytes(whole)
    read()
    return refused

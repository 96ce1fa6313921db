"""Copies of a file as disks, transfers and editors damage them."""

from collections.abc import Iterator

import numpy as np

_WORDS = (b"nan", b"1e400", b"-", b"", b"99999999999999999999", b"\0\0", b"zz")


def damaged_copies(content: bytes, seed: int = 0, count: int = 25) -> Iterator[bytes]:
    """Cut short, with bytes changed, with numbers replaced by what is none, with lines gone or doubled."""
    rng = np.random.default_rng(seed)
    for part in np.linspace(0, len(content) - 1, count).astype(int):
        yield content[:part]
    for _ in range(count):
        raw = bytearray(content)
        for at in rng.integers(0, len(raw), 8):
            raw[at] = rng.integers(0, 256)
        yield bytes(raw)
    lines = content.split(b"\n")
    for _ in range(count):
        some = list(lines)
        at = int(rng.integers(0, len(some)))
        words = some[at].split()
        if words:
            words[int(rng.integers(0, len(words)))] = _WORDS[int(rng.integers(0, len(_WORDS)))]
        some[at] = b" ".join(words)
        yield b"\n".join(some)
        yield b"\n".join(lines[:at] + lines[at + 1 :])
        yield b"\n".join([*lines[: at + 1], lines[at], *lines[at + 1 :]])

"""Writes EER files after the public description of the format: BigTIFF, run lengths and sub-pixel places, low bits first."""

import struct
from itertools import pairwise
from xml.sax.saxutils import quoteattr

import numpy as np


def encode(electrons, shape, *, skip_bits=7, sub_bits=2, wasteful=False):
    """The bits of one sensor frame.

    Parameters
    ----------
    electrons : (n, 2) of (y, x) in sub-pixels (halves or quarters of a pixel), from the top left; one a pixel at most
    shape : (y, x) of the sensor
    sub_bits : 1 for halves, 2 for quarters
    wasteful : a run that no electron follows is given sub-pixel bits all the same, as the first cameras did
    """
    electrons = np.asarray(electrons, dtype=np.int64).reshape(-1, 2)
    per_pixel = 1 << sub_bits
    pixel = (electrons[:, 0] // per_pixel) * shape[1] + electrons[:, 1] // per_pixel
    order = np.argsort(pixel)
    pixel, electrons = pixel[order], electrons[order]
    assert len(np.unique(pixel)) == len(pixel)
    top = 1 << (sub_bits - 1)
    y, x = (electrons % per_pixel).T ^ top
    places = x | y << sub_bits
    full = (1 << skip_bits) - 1
    empty = np.diff(np.concatenate([[-1], pixel, [shape[0] * shape[1]]])) - 1
    overflows, rest = np.divmod(empty, full)
    at = np.cumsum(overflows) + np.arange(len(empty))
    value = np.full(at[-1] + 1, full, dtype=np.int64)
    length = np.full(at[-1] + 1, skip_bits + (2 * sub_bits if wasteful else 0))
    value[at] = rest
    value[at[:-1]] |= places << skip_bits
    length[at[:-1]] = skip_bits + 2 * sub_bits
    length[at[-1]] = skip_bits
    start = np.cumsum(length) - length
    bits = np.zeros(-(-(start[-1] + skip_bits) // 64) * 64, dtype=np.uint8)
    for bit in range(skip_bits + 2 * sub_bits):
        has = length > bit
        bits[start[has] + bit] = value[has] >> bit & 1
    return np.packbits(bits, bitorder="little").tobytes()


def metadata_xml(**items):
    """Acquisition metadata; a value is a text, or a pair of text and unit."""
    lines = []
    for name, value in items.items():
        text, unit = value if isinstance(value, tuple) else (value, None)
        attribute = "" if unit is None else f" unit={quoteattr(unit)}"
        lines.append(f"<item name={quoteattr(name.replace('__', '.'))}{attribute}>{text}</item>")
    return ("<metadata>" + "".join(lines) + "</metadata>").encode()


def write_eer(
    path, streams, shapes, *, compression=65001, metadata=None, strips=1, tags=(), summed=None, frame_compressions=None
):
    """A file of frames that are encoded already; shapes may be one for all. Gives the offset where each frame ends."""
    raw = bytearray(b"II" + struct.pack("<HHHQ", 43, 8, 0, 0))
    link, ends = 8, []
    shapes = [shapes] * len(streams) if isinstance(shapes[0], int) else shapes
    kinds = frame_compressions or [compression] * len(streams)
    pages = [(stream, shape, kind, 1) for stream, shape, kind in zip(streams, shapes, kinds, strict=True)]
    if summed is not None:
        pages.insert(0, (summed.astype("<u2").tobytes(), summed.shape, 1, 16))
    for index, (stream, shape, kind, sample_bits) in enumerate(pages):
        cuts = [len(stream) * i // strips for i in range(strips + 1)]
        lengths = [b - a for a, b in pairwise(cuts)]
        places = [len(raw) + a for a in cuts[:-1]]
        raw += stream
        entries = {
            256: (4, [shape[1]]), 257: (4, [shape[0]]), 258: (3, [sample_bits]), 259: (3, [kind]), 262: (3, [1]),
            273: (16, places), 277: (3, [1]), 278: (4, [-(-shape[0] // strips)]), 279: (16, lengths), **dict(tags),
        }  # fmt: skip
        if index == 0 and metadata is not None:
            entries[65001] = (7, metadata)
        fields = b""
        for tag, (kind_of_value, values) in sorted(entries.items()):
            if isinstance(values, bytes):
                packed = values
            else:
                packed = struct.pack(f"<{len(values)}{ {3: 'H', 4: 'I', 16: 'Q'}[kind_of_value] }", *values)
            if len(packed) > 8:
                place, count = len(raw), len(values)
                raw += packed
                packed = struct.pack("<Q", place)
            else:
                count = len(values)
            fields += struct.pack("<HHQ", tag, kind_of_value, count) + packed.ljust(8, b"\0")
        raw[link : link + 8] = struct.pack("<Q", len(raw))
        raw += struct.pack("<Q", len(entries)) + fields
        link = len(raw)
        raw += bytes(8)
        ends.append(len(raw))
    path.write_bytes(raw)
    return ends

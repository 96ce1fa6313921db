"""Writes EER movies (`eucentric.io.eer` says what they hold): BigTIFF, one stream of runs and places for each readout.

Written as the cameras of today do: a run that no electron follows has no sub-pixel bits.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from eucentric.errors import InputError
from eucentric.io.atomic import write_bytes_atomic
from eucentric.typing import PathLike

_COMPRESSIONS = {7: 65001, 8: 65000}
_SUB_BITS = 2
_METADATA = 65001
_SHORT, _LONG, _UNDEFINED, _LONG8 = 3, 4, 7, 16


def encode_readout(
    electrons: Int[NDArray[np.int64], "electron 2"], shape: tuple[int, int], *, run_bits: int = 7
) -> bytes:
    """The stream of bits of one readout of the sensor.

    Parameters
    ----------
    electrons : y and x in quarters of a pixel from the top left of the sensor; one a pixel at most
    shape : (y, x) of the sensor in pixels
    run_bits : 7 or 8, of the number of empty pixels before an electron

    Raises
    ------
    InputError : two electrons in a pixel, an electron outside the sensor, or another number of bits
    """
    if run_bits not in _COMPRESSIONS:
        raise InputError(f"EER runs of {run_bits} bits were asked for; expected 7 or 8.")
    places = np.asarray(electrons, dtype=np.int64).reshape(-1, 2)
    if len(places) and (places.min() < 0 or (places.max(0) >= 4 * np.asarray(shape)).any()):
        raise InputError(f"Some electrons lie outside the sensor of {shape[1]} x {shape[0]} pixels.")
    pixel = (places[:, 0] >> _SUB_BITS) * shape[1] + (places[:, 1] >> _SUB_BITS)
    order = np.argsort(pixel, kind="stable")
    pixel, within = pixel[order], (places[order] & 3) ^ 2  # the higher bit of a place is stored inverted
    if (np.diff(pixel) == 0).any():
        raise InputError("Two electrons of an EER readout share a pixel; a sensor counts one.")
    full = (1 << run_bits) - 1
    empty = np.diff(np.concatenate([[-1], pixel, [shape[0] * shape[1]]])) - 1
    overflows, rest = np.divmod(empty, full)
    # codes: runs of `full` that no electron follows, then the rest with its electron; the last has none
    at = np.cumsum(overflows) + np.arange(len(empty))
    value = np.full(int(at[-1]) + 1, full, dtype=np.int64)
    length = np.full(len(value), run_bits)
    value[at] = rest
    value[at[:-1]] |= (within[:, 1] | within[:, 0] << _SUB_BITS) << run_bits
    length[at[:-1]] += 2 * _SUB_BITS
    start = np.cumsum(length) - length
    bits = np.zeros(-(-int(start[-1] + length[-1]) // 64) * 64, dtype=np.uint8)
    for bit in range(run_bits + 2 * _SUB_BITS):
        has = length > bit
        bits[start[has] + bit] = value[has] >> bit & 1
    return np.packbits(bits, bitorder="little").tobytes()


def eer_metadata(
    *, frame_count: int, exposure_s: float, dose_per_pixel: float, pixel_size_angstrom: float, shape: tuple[int, int]
) -> bytes:
    """Acquisition metadata with the names and units of the format's description; lengths in metres, dose in electrons."""
    items = (
        ("exposureTime", f"{exposure_s:.6g}", "s"),
        ("numberOfFrames", str(frame_count), None),
        ("sensorImageHeight", str(shape[0]), "pixels"),
        ("sensorImageWidth", str(shape[1]), "pixels"),
        ("totalDose", f"{dose_per_pixel:.8g}", "e/pixel"),
        ("meanDoseRate", f"{dose_per_pixel / exposure_s:.8g}", "e/pixel/s"),
        ("sensorPixelSize.height", f"{pixel_size_angstrom * 1e-10:.8g}", "m"),
        ("sensorPixelSize.width", f"{pixel_size_angstrom * 1e-10:.8g}", "m"),
    )
    lines = [
        f"<item name={quoteattr(name)}{'' if unit is None else f' unit={quoteattr(unit)}'}>{escape(text)}</item>"
        for name, text, unit in items
    ]
    return ("<metadata>" + "".join(lines) + "</metadata>").encode()


def write_eer(
    path: PathLike,
    readouts: Iterable[NDArray[np.int64]],
    shape: tuple[int, int],
    *,
    pixel_size_angstrom: float,
    dose_per_pixel: float,
    exposure_s: float = 1.0,
    run_bits: int = 7,
) -> None:
    """Write the electrons of an exposure.

    Parameters
    ----------
    path : `.eer`
    readouts : electrons (n, 2) of every readout, y upwards and x in quarters of a pixel; one a pixel at most
    shape : (y, x) of the sensor in pixels
    pixel_size_angstrom : of a sensor pixel, at the specimen
    dose_per_pixel : electrons that meet a pixel in the whole exposure, at the specimen's plane and without the specimen
    run_bits : 7 or 8

    Raises
    ------
    InputError : as `encode_readout`, no readouts, or a place that may not be written to
    BackendError : the disk is full
    """
    top_first = (4 * shape[0] - 1, 0)
    streams = [
        encode_readout(np.abs(np.asarray(e, dtype=np.int64).reshape(-1, 2) - top_first), shape, run_bits=run_bits)
        for e in readouts
    ]
    if not streams:
        raise InputError(f"`{Path(path)}` was to be written without a readout; expected at least 1.")
    metadata = eer_metadata(
        frame_count=len(streams),
        exposure_s=exposure_s,
        dose_per_pixel=dose_per_pixel,
        pixel_size_angstrom=pixel_size_angstrom,
        shape=shape,
    )
    write_bytes_atomic(path, _big_tiff(streams, shape, _COMPRESSIONS[run_bits], metadata))


def _big_tiff(streams: list[bytes], shape: tuple[int, int], compression: int, metadata: bytes) -> bytes:
    raw = bytearray(b"II" + struct.pack("<HHHQ", 43, 8, 0, 0))
    link = 8  # where the place of the next page goes
    for index, stream in enumerate(streams):
        at = len(raw)
        raw += stream
        tags = [
            (256, _LONG, shape[1]),
            (257, _LONG, shape[0]),
            (258, _SHORT, 1),
            (259, _SHORT, compression),
            (262, _SHORT, 1),
            (273, _LONG8, at),
            (277, _SHORT, 1),
            (278, _LONG, shape[0]),
            (279, _LONG8, len(stream)),
        ]
        fields = b"".join(struct.pack("<HHQQ", tag, kind, 1, value) for tag, kind, value in tags)
        if index == 0:
            fields += struct.pack("<HHQQ", _METADATA, _UNDEFINED, len(metadata), len(raw))
            raw += metadata
        raw[link : link + 8] = struct.pack("<Q", len(raw))
        raw += struct.pack("<Q", len(fields) // 20) + fields
        link = len(raw)
        raw += bytes(8)
    return bytes(raw)

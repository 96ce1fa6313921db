"""Models of a stage's run-out and states of a prediction under way: JSON files with a kind and a version."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.typing import PathLike

GONIOMETER = "eucentric goniometer model"
PREDICTION = "eucentric stage prediction"
VERSION = 1
_MAKE = {GONIOMETER: "eucentric acquisition learn", PREDICTION: "`save FILE` in eucentric acquisition predict"}


def write_goniometer(path: PathLike, values: Mapping[str, Any]) -> None:
    """Write the numbers of a goniometer model (``GoniometerModel.to_dict``); errors as `atomic_path`."""
    _write(path, GONIOMETER, values)


def read_goniometer(path: PathLike) -> dict[str, Any]:
    """Numbers of a goniometer model, for ``GoniometerModel.from_dict``.

    Raises
    ------
    InputError : no such file
    FormatError : not such a file, damaged, or of another version
    """
    return _read(path, GONIOMETER)


def write_prediction_state(path: PathLike, values: Mapping[str, Any]) -> None:
    """Write the state of a prediction under way; errors as `atomic_path`."""
    _write(path, PREDICTION, values)


def read_prediction_state(path: PathLike) -> dict[str, Any]:
    """State of a prediction; errors as `read_goniometer`."""
    return _read(path, PREDICTION)


def _write(path: PathLike, kind: str, values: Mapping[str, Any]) -> None:
    document = {"kind": kind, "version": VERSION, **values}
    write_text_atomic(path, json.dumps(document, allow_nan=False) + "\n")


def _read(path: PathLike, kind: str) -> dict[str, Any]:
    place = Path(path)
    if not place.is_file():
        raise InputError(f"There is no file `{place}`. Give a file that {_MAKE[kind]} has written.")
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise FormatError(f"`{place}` is not JSON that can be read. Make it again by {_MAKE[kind]}.") from error
    found = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(document, dict) or found != kind:
        raise FormatError(
            f"`{place}` is {'an ' + found if isinstance(found, str) else 'something else'}, not an {kind}. "
            f"Give a file written by {_MAKE[kind]}."
        )
    version = document.pop("version", None)
    if version != VERSION:
        raise FormatError(
            f"`{place}` has version {version} of its format; this program reads version {VERSION}. "
            f"Make it again by {_MAKE[kind]}, or use the version of Eucentric that wrote it."
        )
    document.pop("kind")
    return document

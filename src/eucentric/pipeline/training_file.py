"""Where a training stands, on disk beside its model, so that the same command goes on with it."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from eucentric.figures.training import judged_training_figure
from eucentric.io.atomic import make_folder, write_bytes_atomic, write_text_atomic
from eucentric.networks.model_file import Model, load_plain, model_to_bytes
from eucentric.networks.train_network import TrainingState


class TrainingFile:
    """`<model>.training`, of a training that depends on what `about` says."""

    def __init__(self, model: Path, about: Any) -> None:
        self._path = model.with_name(model.name + ".training")
        self._mark = digest(about)
        make_folder(model.parent)

    def load(self) -> TrainingState | None:
        """The state of the very same training; None where there is none.

        Raises
        ------
        FormatError : a damaged file
        """
        if not self._path.is_file():
            return None
        values = load_plain(self._path.read_bytes(), str(self._path), "a state of a training")
        return TrainingState.from_dict(values["state"]) if values.get("mark") == self._mark else None

    def save(self, now: TrainingState) -> None:
        """Keep it."""
        buffer = io.BytesIO()
        torch.save({"mark": self._mark, "state": now.to_dict()}, buffer)
        write_bytes_atomic(self._path, buffer.getvalue())

    def done(self) -> None:
        """The model is written: nothing is to be gone on with."""
        self._path.unlink(missing_ok=True)


def digest(values: Any) -> str:
    """Of what a training depends on."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def stamp(path: Path) -> tuple[str, int, float]:
    """Name, size and time of a file."""
    found = path.stat()
    return path.name, found.st_size, found.st_mtime


def figure_png(figure: Figure) -> bytes:
    """A figure as a PNG without a date, so that the same training gives the same file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def write_judged_model(
    output: Path, model: Model, losses: Sequence[float], checks: Sequence[tuple[int, float]]
) -> None:
    """A model, and how its training went beside it: `<model>.json` and `<model>.png`.

    Parameters
    ----------
    losses : of every step
    checks : step and loss on what was held out
    """
    write_bytes_atomic(output, model_to_bytes(model))
    values = {"settings": model.settings, "provenance": model.provenance, "losses": losses, "held_out": checks}
    write_text_atomic(output.with_name(output.name + ".json"), json.dumps(values, indent=1) + "\n")
    write_bytes_atomic(
        output.with_name(output.name + ".png"), figure_png(judged_training_figure(np.array(losses), checks))
    )

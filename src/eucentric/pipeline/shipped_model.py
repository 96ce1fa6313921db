"""Models that are files, or that come with the program."""

import importlib.resources
from pathlib import Path

from eucentric.errors import InputError

SHIPPED = "shipped"
"""Word for the model that comes with the program."""


def read_model_bytes(model: str, package: str, shipped_file: str, command: str) -> tuple[bytes, str]:
    """The bytes of a model and its name for messages.

    Parameters
    ----------
    model : a file, or :data:`SHIPPED`
    package, shipped_file : where the one that comes with the program lies
    command : that trains one, for messages

    Raises
    ------
    InputError : no such file
    """
    if model == SHIPPED:
        return (importlib.resources.files(package) / shipped_file).read_bytes(), "the model that comes with the program"
    path = Path(model)
    if not path.is_file():
        raise InputError(f"`{model}` does not exist. Train one with `{command}`, or give `--model {SHIPPED}`.")
    return path.read_bytes(), model

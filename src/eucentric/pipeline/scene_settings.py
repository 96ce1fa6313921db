"""Settings of the simulator together with a scene."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from eucentric.errors import InputError
from eucentric.pipeline.explain import explain_validation_error
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.scene import SPECIMEN_SETTINGS, Scene


def scene_with_settings(scene: Scene, changes: Mapping[str, Any]) -> tuple[Scene, SimulationParams]:
    """A scene whose film and beads are changed as asked for, and all settings: `changes` go before its [microscope].

    Parameters
    ----------
    changes : settings of `SimulationParams` by name; thickness, number and size of beads change the scene

    Raises
    ------
    InputError : a setting that the scene's lists say, or that does not fit
    """
    rest = dict(changes)
    film, beads = scene.film, scene.beads
    if "thickness_angstrom" in rest:
        film = film.replace(thickness_angstrom=rest.pop("thickness_angstrom"))
    if "beads" in rest:
        beads = beads.replace(count=rest.pop("beads"), per_um2=0.0)
    if "bead_diameter_angstrom" in rest:
        beads = beads.replace(diameter_angstrom=rest.pop("bead_diameter_angstrom"))
    other = next((name for name in rest if name in SPECIMEN_SETTINGS), None)
    if other is not None:
        raise InputError(
            f"`{other}` belongs to the scene, which lists its species and membranes one by one. "
            "Write a scene file of your own and give it with --scene."
        )
    changed = scene.replace(film=film, beads=beads)
    try:
        return changed, changed.params(**rest)
    except ValidationError as error:
        raise explain_validation_error(error, SimulationParams, "the scene with the settings given") from error

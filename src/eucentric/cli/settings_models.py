"""Which settings class stands behind the options of a command."""

from pydantic import BaseModel

from eucentric.pipeline.stages import STAGES, load_settings


def model_of(command: str) -> type[BaseModel] | None:
    """The settings class of a stage's command or of the simulator; None for other commands."""
    if command == "simulate":
        from eucentric.simulation.params import SimulationParams

        return SimulationParams
    entry = next((e for e in STAGES if e.name == command), None)
    return None if entry is None else load_settings(entry)

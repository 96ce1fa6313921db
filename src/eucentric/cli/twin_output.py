"""The part of `eucentric simulate --run` that processes what was simulated and tells what came of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eucentric.cli.options import show_json, shown_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eucentric.pipeline.simulate_project import SimulatedFiles
    from eucentric.pipeline.simulated_specimen import SpecimenMade


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinOptions:
    """How and on what to run."""

    device: str
    workers: int | None
    as_json: bool


def show_twin(
    folder: Path, written: Sequence[SimulatedFiles], made: SpecimenMade, options: TwinOptions, started: float
) -> int:
    """Process simulated series as their project or plan asks, write and print what to expect; the exit code."""
    from eucentric.pipeline.twin import as_values, run_twin, twin_of
    from eucentric.pipeline.twin_page import lines, write_pages

    of, carried, species = twin_of(folder, made, written)
    with shown_progress() as progress, progress:
        result = run_twin(
            folder,
            written,
            of,
            carried,
            species=species,
            device=options.device,
            workers=options.workers,
            started=started,
            progress=progress,
        )
    written_pages = write_pages(result, made.recording)
    for line in lines(result):
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"Written: {', '.join(f'`{path}`' for path in written_pages)}.\n")
    code = 1 if result.failures else 0
    if options.as_json:
        show_json({"exit_code": code, **as_values(result)})
    return code

"""The record of what was made of particles in a folder: what with, and whether it is still what would be made today."""

import hashlib
import json
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eucentric.pipeline import records
from eucentric.pipeline.extract_series import ParticleJob
from eucentric.pipeline.records import COLLECTIVE, Record
from eucentric.pipeline.reprojecting import project_of, refuse_to_replace
from eucentric.pipeline.series_tables import series_mark
from eucentric.pipeline.tables import write_run_file

VERSION = 2
"""Raised when results change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticleRun:
    """One folder of results, about to be made or found whole."""

    folder: Path
    stage: str
    parameters: Mapping[str, Any]
    fingerprint: str
    inputs: tuple[Path, ...]
    device: str
    started: str
    clock: float
    is_current: bool
    """The folder holds what the same settings gave for the same particles and series: nothing is to be done."""

    @classmethod
    def begin(
        cls,
        folder: Path,
        stage: str,
        job: ParticleJob,
        parameters: Mapping[str, Any],
        *,
        inputs: Sequence[Path],
        outputs: Sequence[Path],
        overwrite: bool,
    ) -> "ParticleRun":
        """Look at what is in the folder.

        Parameters
        ----------
        parameters : plain values of all that decides the result
        inputs : files that are read; those behind the first, the list of particles, count by their content
        outputs : files that may be made, and that are replaced only where asked for

        Raises
        ------
        InputError : other results are in the way, or an output is a file that is read
        """
        mark = _fingerprint(stage, job, parameters, inputs[1:])
        before = records.read_record(folder, COLLECTIVE)
        whole = before is not None and before.is_done and before.stage == stage and before.fingerprint == mark
        current = whole and before is not None and all((folder / n).exists() for n in before.outputs) and not overwrite
        if not current:
            refuse_to_replace(list(outputs), list(inputs), overwrite)
        return cls(
            folder=folder,
            stage=stage,
            parameters=parameters,
            fingerprint=mark,
            inputs=(*inputs, job.table),
            device=str(job.device),
            started=records.now(),
            clock=time.perf_counter(),
            is_current=current,
        )

    def metrics(self) -> dict[str, float]:
        """Of the record in the folder; those that are known."""
        before = records.read_record(self.folder, COLLECTIVE)
        return {} if before is None else {k: v for k, v in before.metrics.items() if v is not None}

    def finish(
        self, outputs: Sequence[Path], metrics: Mapping[str, float | None], caveats: Sequence[str] = ()
    ) -> Record:
        """Write `run.json`, and the record at last."""
        made = Record(
            stage=self.stage,
            series=COLLECTIVE,
            outcome="done",
            fingerprint=self.fingerprint,
            upstream="",
            stage_version=VERSION,
            parameters=dict(self.parameters),
            project={},
            seed=0,
            inputs=records.stat_files([str(p.resolve()) for p in self.inputs], self.folder),
            outputs=tuple(p.name for p in outputs if p.exists()),
            metrics=dict(metrics),
            caveats=tuple(caveats),
            device=self.device,
            host=socket.gethostname(),
            started=self.started,
            ended=records.now(),
            seconds=round(time.perf_counter() - self.clock, 3),
            versions=records.software_versions(),
        )
        write_run_file(
            self.folder,
            {
                "stage": self.stage,
                "parameters": made.parameters,
                "inputs": [f.path for f in made.inputs],
                "versions": made.versions,
                "metrics": made.metrics,
            },
        )
        records.write_record(self.folder, made)
        return made


def _fingerprint(stage: str, job: ParticleJob, parameters: Mapping[str, Any], files: Sequence[Path]) -> str:
    particles = job.particles
    digest = hashlib.sha256(json.dumps([stage, VERSION, parameters], sort_keys=True).encode())
    digest.update(json.dumps([particles.tomograms.tolist(), particles.kinds.tolist()]).encode())
    for values in (particles.positions_angstrom, particles.rotations, particles.scores):
        digest.update(values.tobytes())
    for name in sorted(particles.columns):
        digest.update(name.encode() + particles.columns[name].tobytes())
    for series in job.series.values():
        digest.update(series_mark(series, project_of(job.table)))
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]

"""The stages, in the order in which they run. Each module is the disk shell of one: read, call, write, metrics."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pydantic import BaseModel

    from eucentric.pipeline.stage import AnyStage


class StageEntry(NamedTuple):
    """Where a stage is found, so that it can be named without loading it."""

    name: str
    """Of the command, the module in this package (`_` for `-`), the folder and the table of the plan."""
    kind: str
    """Class in the module."""
    settings: str
    """`module:class` of its settings: options are shown without loading what computes."""
    help: str
    """For the list of commands."""


STAGES = (
    StageEntry(
        "motion", "EstimateMotion", "eucentric.motion.params:MotionParams", "Align and sum the frames of every tilt."
    ),
    StageEntry(
        "align",
        "AlignTiltSeries",
        "eucentric.alignment.params:AlignParams",
        "Find shifts, tilt axis and angles; leave out dark tilts.",
    ),
    StageEntry(
        "axis",
        "ShareAxis",
        "eucentric.alignment.params:AxisParams",
        "Share one tilt axis among the series of a data set.",
    ),
    StageEntry("ctf", "EstimateCtf", "eucentric.ctf.params:CtfParams", "Fit defocus and astigmatism of every tilt."),
    StageEntry(
        "reconstruct",
        "Reconstruct",
        "eucentric.reconstruction.params:ReconstructParams",
        "Reconstruct tomograms and their halves.",
    ),
    StageEntry(
        "denoise",
        "DenoiseTomograms",
        "eucentric.denoising.params:DenoiseParams",
        "Denoise tomograms for the eye, by networks or filters; average from the raw data.",
    ),
    StageEntry(
        "fill-wedge",
        "FillWedge",
        "eucentric.denoising.restoring_params:FillWedgeParams",
        "Fill the missing wedge of tomograms; average from the raw data.",
    ),
    StageEntry(
        "segment",
        "SegmentMembranes",
        "eucentric.segmentation.stage_params:SegmentParams",
        "Find the membranes in tomograms; their surfaces and measures.",
    ),
    StageEntry(
        "pick",
        "PickTemplates",
        "eucentric.picking.stage_params:PickParams",
        "Find particles in tomograms by their structure.",
    ),
    StageEntry("report", "WriteReport", "eucentric.report.params:ReportParams", "Write the report of the project."),
)


def load_stage(entry: StageEntry) -> AnyStage:
    """The class of a stage."""
    kind: AnyStage = getattr(importlib.import_module(f"{__name__}.{entry.name.replace('-', '_')}"), entry.kind)
    return kind


def load_settings(entry: StageEntry) -> type[BaseModel]:
    """The settings class of a stage."""
    module, _, name = entry.settings.partition(":")
    model: type[BaseModel] = getattr(importlib.import_module(module), name)
    return model


def load_stages() -> tuple[AnyStage, ...]:
    """The stage classes of the product, in order."""
    return tuple(load_stage(entry) for entry in STAGES)

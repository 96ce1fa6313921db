"""Which settings class stands behind the options of a command."""

from pydantic import BaseModel, create_model

from eucentric.pipeline.stages import STAGES, load_settings


def model_of(command: str) -> type[BaseModel] | None:
    """The settings class of a stage's command, of the simulator, of averaging, of maps, of learned picking and others; else None."""
    if command == "simulate":
        from eucentric.simulation.params import SimulationParams

        return SimulationParams
    if command == "plan-tilts":
        from eucentric.acquisition.plan_params import ExpectationParams
        from eucentric.acquisition.propose_scheme import SearchParams
        from eucentric.models.tilt_scheme import TiltScheme

        return create_model("Planning", __base__=(TiltScheme, ExpectationParams, SearchParams))
    if command == "live":
        from eucentric.pipeline.live_params import LiveParams

        return LiveParams
    if command.split(" ")[0] in ("denoise", "fill-wedge"):
        return _restoring_model(command)
    if command == "correlate":
        from eucentric.pipeline.correlate_params import CorrelateParams

        return CorrelateParams
    if command in ("pick train", "pick apply"):
        from eucentric.picking.learned.params import PickerParams, PickerUse

        return PickerParams if command == "pick train" else PickerUse
    if command == "segment threshold":
        from eucentric.segmentation.threshold_params import ThresholdParams

        return ThresholdParams
    if command == "segment faces":
        from eucentric.segmentation.params import SpecimenParams

        return SpecimenParams
    if command == "segment mesh":
        from eucentric.pipeline.surface_params import SurfaceParams

        return SurfaceParams
    if command == "segment count":
        from eucentric.pipeline.count_params import CountParams

        return CountParams
    if command in ("extract", "average"):
        from eucentric.averaging.params import AverageParams, ExtractParams

        return create_model("Averaging", __base__=(ExtractParams, AverageParams))
    if command == "initial-model":
        from eucentric.averaging.ab_initio_params import InitialModelParams

        return InitialModelParams
    if command == "symmetry":
        from eucentric.averaging.point_group_params import PointGroupParams

        return PointGroupParams
    if command == "classify":
        from eucentric.averaging.classify_params import ClassifyParams
        from eucentric.averaging.params import ExtractParams

        return create_model("Classification", __base__=(ExtractParams, ClassifyParams))
    if command in ("sharpen", "local-resolution"):
        from eucentric.averaging.map_params import LocalResolutionParams, SharpenParams

        return SharpenParams if command == "sharpen" else LocalResolutionParams
    entry = next((e for e in STAGES if e.name == command), None)
    return None if entry is None else load_settings(entry)


def _restoring_model(command: str) -> type[BaseModel]:
    if command.endswith(" train"):
        from eucentric.denoising.learned.params import RestorerTraining, WedgeTraining

        return RestorerTraining if command.startswith("denoise") else WedgeTraining
    if command.startswith("denoise"):
        from eucentric.denoising.params import DenoiseParams

        return DenoiseParams
    from eucentric.denoising.restoring_params import FillWedgeParams

    return FillWedgeParams

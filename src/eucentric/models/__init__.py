"""Immutable records that travel between stages. Numbers and small numpy arrays; no files, no torch."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Frozen": "settings",
        "Optics": "optics",
        "ParticleSet": "particles",
        "AcquisitionPlan": "acquisition_plan",
        "given_group": "optics_group_names",
        "group_names": "optics_group_names",
        "groups_of_optics": "optics_group_names",
        "FrameShifts": "tilt_series",
        "MovieQuality": "tilt_series",
        "TiltPose": "tilt_series",
        "CtfFit": "tilt_series",
        "Tilt": "tilt_series",
        "ExcludedTilt": "tilt_series",
        "TiltSeries": "tilt_series",
        "Tomogram": "tilt_series",
        "TomogramFrame": "tomogram_frames",
        "TomogramFrames": "tomogram_frames",
        "PlannedMicroscope": "acquisition_plan",
        "PlannedSpecimen": "acquisition_plan",
        "Specimen": "specimen",
        "StageTrack": "stage_track",
        "TiltScheme": "tilt_scheme",
        "Tracks": "tracks",
    },
)

"""The project's own STAR labels, beside RELION-5's: all begin with `euc`. Lengths in A, angles in degrees."""

DOSE = "eucDose"
ACQUISITION = "eucAcquisitionIndex"
MAGNIFICATION = "eucMagnification"
SHIFT_SIGMA = "eucShiftSigmaAngst"
DEFOCUS_SIGMA = "eucDefocusSigmaAngst"
EXCLUSION_REASON = "eucExclusionReason"
THICKNESS = "eucThicknessAngst"
IMAGE_SIZE_X = "eucImageSizeX"
IMAGE_SIZE_Y = "eucImageSizeY"
EXCLUDED_FILE = "eucExcludedTiltsStarFile"
MOTION_FILE = "eucFrameShiftsStarFile"
WARP_FILE = "eucWarpFile"
TREFOIL_X = "eucTrefoilX"
TREFOIL_Y = "eucTrefoilY"
TOMOGRAM_VOXEL_SIZE = "eucTomogramVoxelSizeAngst"
TOMOGRAM_SIZE_X = "eucTomogramSizeX"
TOMOGRAM_SIZE_Y = "eucTomogramSizeY"
TOMOGRAM_SIZE_Z = "eucTomogramSizeZ"
MOTION_SIGMA = "eucMotionSigmaAngst"
MOTION_RESIDUAL = "eucMotionResidualAngst"
MOTION_BLUR = "eucMotionBlurAngst"
DEFECT_FRACTION = "eucDefectFraction"
MEAN_COUNTS = "eucMeanCounts"
FIRST_FRAME = "eucFirstMovieFrame"
END_FRAME = "eucEndMovieFrame"
FRAME = "eucFrameIndex"
FRAME_SHIFT_X = "eucFrameShiftXAngst"
FRAME_SHIFT_Y = "eucFrameShiftYAngst"
FRAME_SHIFT_SIGMA = "eucFrameShiftSigmaAngst"
TRACK_POINT = "eucTrackPoint"
TRACK_X = "eucTrackXAngst"
TRACK_Y = "eucTrackYAngst"
TRACK_SIGMA_X = "eucTrackSigmaXAngst"
TRACK_SIGMA_Y = "eucTrackSigmaYAngst"
TRACK_CORRELATION = "eucTrackCorrelation"
CTF_SOURCE = "eucCtfSource"
CTF_PLACE = "eucCtfPlace"
CTF_EVIDENCE = "eucCtfEvidence"
VERDICT = "eucVerdict"
VERDICT_TEXT = "eucVerdictText"
FOCUS_POSITION = "eucFocusPositionAngst"
SPECIES = "eucSpecies"
MATCH_DISTANCE = "eucMatchDistanceAngst"
LATTICE_VOTES = "eucLatticeVotes"
LATTICE_ORDER = "eucLatticeOrder"
INSTANCE = "eucInstance"
PROTOFILAMENT = "eucProtofilament"
BLOB_DIAMETER = "eucBlobDiameterAngst"
Q_VALUE = "eucQValue"
LIKENESS = "eucLikeness"
TILT_ANGLE = "eucTiltAngle"
VISIBLE = "eucVisible"
HEIGHT = "eucHeightAngst"
ROLE = "eucRole"
PARENT = "eucParent"
IN_FIELD = "eucInField"
LANDMARKS = {
    "name": "eucLandmark",
    **{f"{side}_{axis}": f"euc{side.title()}{axis.upper()}" for side in ("fluorescence", "target") for axis in "xyz"},
}
LANDMARK_ERROR = "eucLandmarkErrorAngst"
LANDMARK_LEFT_OUT = "eucLandmarkLeftOutErrorAngst"
LANDMARK_USED = "eucLandmarkUsed"
TILTS_USED = "eucTiltsUsed"
CLASS_PROBABILITY = "eucClassProbability"
COMPONENT = "eucComponent"
KIND_BEFORE = "eucKindBefore"
CURATED = "eucCurated"
RATING = "eucRating"
NOTE = "eucNote"
FACE = "eucSpecimenFace"
TRACK_BY_HAND = "eucTrackByHand"
SHOWN_DEFOCUS = "eucShownDefocusAngst"
IMAGE_SHIFT_X = "eucImageShiftXUm"
IMAGE_SHIFT_Y = "eucImageShiftYUm"
TIME = "eucTimeSeconds"
EXPOSURE_TIME = "eucExposureTimeSeconds"
LABEL_NUMBER = "eucLabelNumber"
LABEL_NAME = "eucLabelName"

SPECIMEN: dict[str, tuple[str, str]] = {
    "thickness_angstrom": (
        "eucSpecimenThicknessAngst",
        "thickness of the specimen between its faces, all methods together, A",
    ),
    "thickness_sigma_angstrom": ("eucSpecimenThicknessSigmaAngst", "one standard deviation of it, A"),
    "pre_tilt_x_deg": ("eucPretiltXDeg", "inclination of the specimen across the tilt axis at stage tilt 0, degrees"),
    "pre_tilt_x_sigma_deg": ("eucPretiltXSigmaDeg", "one standard deviation of it, degrees"),
    "pre_tilt_y_deg": ("eucPretiltYDeg", "inclination of the specimen about the tilt axis at stage tilt 0, degrees"),
    "pre_tilt_y_sigma_deg": ("eucPretiltYSigmaDeg", "one standard deviation of it, degrees"),
    "x_tilt_deg": ("eucSpecimenTiltXDeg", "inclination about x in the frame of the poses, degrees"),
    "y_tilt_deg": ("eucSpecimenTiltYDeg", "inclination about y in the frame of the poses, degrees"),
    "z_angstrom": ("eucSpecimenHeightAngst", "height of the middle of the specimen above the specimen centre, A"),
    "z_sigma_angstrom": ("eucSpecimenHeightSigmaAngst", "one standard deviation of it, A"),
    "features_thickness_angstrom": ("eucThicknessFromFeaturesAngst", "thickness from what a reconstruction shows, A"),
    "features_thickness_sigma_angstrom": ("eucThicknessFromFeaturesSigmaAngst", "one standard deviation of it, A"),
    "intensity_thickness_angstrom": ("eucThicknessFromIntensityAngst", "thickness from how images darken with tilt, A"),
    "intensity_thickness_sigma_angstrom": ("eucThicknessFromIntensitySigmaAngst", "one standard deviation of it, A"),
    "mean_free_paths": ("eucThicknessMeanFreePaths", "thickness over the mean free path"),
    "ctf_thickness_angstrom": ("eucThicknessFromCtfAngst", "thickness from nodes of the Thon rings, A"),
    "ctf_thickness_sigma_angstrom": ("eucThicknessFromCtfSigmaAngst", "one standard deviation of it, A"),
}
"""Of each number of `eucentric.models.Specimen`: its label, and what it means."""

MEANINGS: dict[str, str] = {
    DOSE: "dose of this image alone, e/A^2 (rlnMicrographPreExposure holds what came before it)",
    ACQUISITION: "order in which the image was taken, from 0",
    SHOWN_DEFOCUS: "defocus that the microscope showed as the image was taken, underfocus positive, A",
    IMAGE_SHIFT_X: "image shift that the microscope applied, x in its own frame, micrometres",
    IMAGE_SHIFT_Y: "image shift that the microscope applied, y in its own frame, micrometres",
    TIME: "when the image was taken, seconds since the first of the series",
    EXPOSURE_TIME: "exposure time of the image, seconds",
    MAGNIFICATION: "how much larger than its pixel size says an image shows the specimen, about the specimen centre; 1 where absent",
    SHIFT_SIGMA: "one standard deviation of a component of rlnTomoX/YShiftAngst, A",
    DEFOCUS_SIGMA: "one standard deviation of the mean of rlnDefocusU and rlnDefocusV, A",
    EXCLUSION_REASON: "why the tilt was left out, in words",
    THICKNESS: "thickness of the specimen, A",
    IMAGE_SIZE_X: "width of the tilt images, pixels",
    IMAGE_SIZE_Y: "height of the tilt images, pixels",
    EXCLUDED_FILE: "table of the tilts left out; None where there is none",
    MOTION_FILE: "table of the shifts of single frames; None where they were not estimated",
    WARP_FILE: "deformation of the images and of the specimen (numpy archive); None where there is none",
    TREFOIL_X: "phase of images over the real part of (kx + i ky)^3, rad A^3; absent where all are 0",
    TREFOIL_Y: "phase of images over the imaginary part of (kx + i ky)^3, rad A^3; absent where all are 0",
    TOMOGRAM_VOXEL_SIZE: "voxel size of the reconstruction, A",
    TOMOGRAM_SIZE_X: "width of the reconstruction, voxels",
    TOMOGRAM_SIZE_Y: "height of the reconstruction, voxels",
    TOMOGRAM_SIZE_Z: "depth of the reconstruction, voxels",
    MOTION_SIGMA: "one standard deviation of a component of a frame's shift, root mean square over frames, A",
    MOTION_RESIDUAL: "distance of frames from where they fit the others best, root mean square, A",
    MOTION_BLUR: "motion within frames at the measured speed, root mean square of its standard deviation, A",
    DEFECT_FRACTION: "part of the pixels that were replaced",
    MEAN_COUNTS: "counts of a pixel in one frame, mean",
    FIRST_FRAME: "first frame of the movie that belongs to the tilt, from 0; absent where all do",
    END_FRAME: "frame after the last of the tilt, from 0",
    FRAME: "frame of the tilt, from 0",
    FRAME_SHIFT_X: "where the content of the frame was displaced to along x, A",
    FRAME_SHIFT_Y: "where the content of the frame was displaced to along y, A",
    FRAME_SHIFT_SIGMA: "one standard deviation of a component of the displacement, A",
    TRACK_POINT: "name of a point that is seen in several tilts, a whole number from 0",
    TRACK_X: "where the point is seen along x from the image centre (pixel n // 2), A",
    TRACK_Y: "where the point is seen along y from the image centre, upwards, A",
    TRACK_SIGMA_X: "one standard deviation of eucTrackXAngst, A",
    TRACK_SIGMA_Y: "one standard deviation of eucTrackYAngst, A",
    TRACK_CORRELATION: "correlation of the errors of x and y, -1 to 1; 0 where absent",
    CTF_SOURCE: "whose estimates of the contrast transfer were taken over",
    CTF_PLACE: "where their defocus holds: in the middle of the `image`, or at the centre of the `specimen`",
    CTF_EVIDENCE: "standard deviations by which the Thon rings stand out of noise",
    VERDICT: "how good the fit of an image is, in a word or two: good, doubtful, no rings, unreadable",
    VERDICT_TEXT: "the verdict in full",
    FOCUS_POSITION: "where a focus image was taken along the tilt axis, from the middle of the tilt images, A",
    SPECIES: "name of the kind of particle",
    MATCH_DISTANCE: "distance to the same particle in another list, A",
    Q_VALUE: "part of false picks among those at least as good",
    LIKENESS: "cosine between what a network sees in the particle and in the examples given, -1 to 1",
    BLOB_DIAMETER: "diameter of the size that answered most, A",
    LATTICE_VOTES: "neighbours that expect a particle at its place in a lattice; 0 for particles that were given",
    LATTICE_ORDER: "how well the neighbours of a particle lie at the angles of a lattice: 1 all, 0 none",
    INSTANCE: "number of the object that a particle belongs to, such as a filament; 0 for none",
    PROTOFILAMENT: "number of the protofilament of a tube's wall, from 1",
    TILT_ANGLE: "nominal angle of the tilt image, degrees",
    VISIBLE: "whether the particle lies in the image with its margin: 1 yes, 0 no",
    HEIGHT: "height of the particle above the specimen centre in the camera's frame, A",
    ROLE: "what the particle belongs to: free, membrane, filament or lattice",
    PARENT: "name of the membrane, filament or lattice that it belongs to; none for a free one",
    TILTS_USED: "images that went into the average from a particle",
    CURATED: "what a person did to the pick: picked (nothing), moved or added",
    RATING: "how good the tomogram is to a person's eye: 0 of no use, 5 as good as can be",
    NOTE: "why, in words",
    FACE: "which face of the specimen a person marked a point on: top (larger z) or bottom",
    TRACK_BY_HAND: "whether a person set the point: 1 yes, 0 no",
    LABEL_NUMBER: "number of a label in painted volumes",
    LABEL_NAME: "what the label means, in words",
    LANDMARKS["name"]: "name of a landmark that is seen in two images",
    **{
        LANDMARKS[f"{side}_{axis}"]: f"{axis} of a landmark in the {words}, as it was given"
        for side, words in (("fluorescence", "image that is registered"), ("target", "target"))
        for axis in "xyz"
    },
    LANDMARK_ERROR: "distance of a registered landmark from its place in the target, A",
    LANDMARK_LEFT_OUT: "the same where the other landmarks alone are fitted, A",
    LANDMARK_USED: "whether a landmark counts: 1 yes, 0 found wrong",
    IN_FIELD: "whether it lies in the untilted field of view: 1 yes, 0 no",
    **dict(SPECIMEN.values()),
}

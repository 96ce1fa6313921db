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

MEANINGS: dict[str, str] = {
    DOSE: "dose of this image alone, e/A^2 (rlnMicrographPreExposure holds what came before it)",
    ACQUISITION: "order in which the image was taken, from 0",
    MAGNIFICATION: "how much larger than its pixel size says an image shows the specimen, about the specimen centre; 1 where absent",
    SHIFT_SIGMA: "one standard deviation of a component of rlnTomoX/YShiftAngst, A",
    DEFOCUS_SIGMA: "one standard deviation of the mean of rlnDefocusU and rlnDefocusV, A",
    EXCLUSION_REASON: "why the tilt was left out, in words",
    THICKNESS: "thickness of the specimen, A",
    IMAGE_SIZE_X: "width of the tilt images, pixels",
    IMAGE_SIZE_Y: "height of the tilt images, pixels",
    EXCLUDED_FILE: "table of the tilts left out; None where there is none",
    MOTION_FILE: "table of the shifts of single frames; None where they were not estimated",
    WARP_FILE: "local deformation of the images (numpy archive); None where there is none",
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
}

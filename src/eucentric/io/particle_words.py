"""What positions and angles mean in each format of particle lists, in words: for `eucentric convert` and the documentation."""

from eucentric.io.exchange.records import GeometryWords

_RELION_ANGLES = (
    "RELION's ZYZ (rot, tilt, psi): the matrix Rz(-psi) Ry(-tilt) Rz(-rot) takes the reference to the tomogram"
)
_TOM_ANGLES = "ZXZ (phi, psi, theta): Rz(psi) Rx(theta) Rz(phi) takes the reference to the tomogram"
_AS_TOMOGRAM = "as the tomogram they were picked in"

PARTICLE_WORDS: dict[str, GeometryWords] = {
    "relion5": GeometryWords(
        origin="the specimen's centre",
        unit="A (rlnCenteredCoordinateX/Y/ZAngst), less origins turned by the subtomogram's angles",
        hand="right-handed, as the tilt series",
        angles=f"{_RELION_ANGLES}; subtomogram's and particle's angles composed",
    ),
    "relion4": GeometryWords(
        origin="the specimen's corner; its centre is at size / 2",
        unit="pixels of the tilt images, counted from 0, less origins in A",
        hand="right-handed, as the tilt series",
        angles=f"{_RELION_ANGLES}; subtomogram's and particle's angles composed",
    ),
    "warp": GeometryWords(
        origin="the tomogram's corner; its centre is at size / 2",
        unit="voxels of the tomogram, counted from 0, less origins in voxels or A",
        hand=f"{_AS_TOMOGRAM}; Warp's tomograms of outside alignments are mirrored in z unless angles were negated",
        angles=_RELION_ANGLES,
    ),
    "pytom": GeometryWords(
        origin="the tomogram's first voxel", unit="voxels, counted from 0", hand=_AS_TOMOGRAM, angles=_RELION_ANGLES
    ),
    "pytom-xml": GeometryWords(
        origin="the tomogram's first voxel",
        unit="voxels, counted from 0, plus the shift",
        hand=_AS_TOMOGRAM,
        angles="ZXZ (Z1, Z2, X): Rz(Z2) Rx(X) Rz(Z1) takes the reference to the tomogram",
    ),
    "dynamo": GeometryWords(
        origin="the tomogram's first voxel",
        unit="voxels, counted from 1, plus dx, dy, dz",
        hand=_AS_TOMOGRAM,
        angles="ZXZ clockwise (tdrot, tilt, narot): Rz(-tdrot) Rx(-tilt) Rz(-narot) takes the reference to the tomogram",
    ),
    "stopgap": GeometryWords(
        origin="the tomogram's first voxel",
        unit="voxels, counted from 1, plus x_shift, y_shift, z_shift",
        hand=_AS_TOMOGRAM,
        angles=_TOM_ANGLES,
    ),
    "em": GeometryWords(
        origin="the tomogram's first voxel",
        unit="voxels, counted from 1 (rows 8 to 10), plus shifts (rows 11 to 13)",
        hand=_AS_TOMOGRAM,
        angles=_TOM_ANGLES,
    ),
    "imod": GeometryWords(
        origin="the tomogram's corner",
        unit="voxels; the middle of the first is (0.5, 0.5, 0) in a model",
        hand=_AS_TOMOGRAM,
        angles="ZXZ (Z1, Z3, X2) in PEET's table beside: Rz(Z3) Rx(X2) Rz(Z1) takes the reference to the tomogram",
    ),
    "copick": GeometryWords(
        origin="the middle of the tomogram's first voxel",
        unit="A, plus the transformation's translation",
        hand=_AS_TOMOGRAM,
        angles="a 4 x 4 matrix that takes the object to the tomogram",
    ),
    "relion31": GeometryWords(
        origin="the tomogram's first voxel",
        unit="voxels (rlnMicrographPixelSize of the optics table), counted from 0, less origins in A",
        hand=_AS_TOMOGRAM,
        angles=_RELION_ANGLES,
    ),
    "relion3": GeometryWords(
        origin="the tomogram's first voxel",
        unit="voxels (rlnDetectorPixelSize / rlnMagnification), counted from 0, less origins in voxels",
        hand=_AS_TOMOGRAM,
        angles=_RELION_ANGLES,
    ),
    "optimisation-set": GeometryWords(
        origin="the specimen's centre",
        unit="A in the particles that the set names (rlnCenteredCoordinateX/Y/ZAngst), or pixels of its tilt images",
        hand="right-handed, as the tilt series",
        angles=f"{_RELION_ANGLES}; subtomogram's and particle's angles composed",
    ),
    "warp-normalized": GeometryWords(
        origin="the tomogram's corner; its centre is at 0.5",
        unit="0 to 1 over the tomogram",
        hand=f"{_AS_TOMOGRAM}; Warp's tomograms of outside alignments are mirrored in z unless angles were negated",
        angles=_RELION_ANGLES,
    ),
    "warp-species": GeometryWords(
        origin="the volume's corner; its centre is at half its size",
        unit="A (wrpCoordinateX1 and so on), on the average over the exposure",
        hand="as Warp's tilt series",
        angles=_RELION_ANGLES,
    ),
    "peet": GeometryWords(
        origin="the tomogram's corner",
        unit="voxels; the middle of the first is (0.5, 0.5, 0) in a model, plus offsets of the motive list",
        hand=_AS_TOMOGRAM,
        angles="ZXZ (Z1, Z3, X2) in the motive list: Rz(Z3) Rx(X2) Rz(Z1) takes the reference to the tomogram",
    ),
    "portal": GeometryWords(
        origin="the middle of the tomogram's first voxel",
        unit="voxels",
        hand=_AS_TOMOGRAM,
        angles="a matrix that takes the reference to the tomogram",
    ),
    "eman2": GeometryWords(
        origin="the tomogram's centre",
        unit="voxels of the particles, less the translation turned back",
        hand=_AS_TOMOGRAM,
        angles="xform.align3d takes the particle to the reference: its inverse is written here",
    ),
    "xmipp": GeometryWords(
        origin="the tomogram's first voxel",
        unit="voxels, counted from 0, less shifts",
        hand=_AS_TOMOGRAM,
        angles="Xmipp's ZYZ, as RELION's: Rz(-psi) Ry(-tilt) Rz(-rot) takes the reference to the tomogram",
    ),
    "scipion": GeometryWords(
        origin="the tomogram's middle, at size / 2",
        unit="voxels of the set's sampling rate",
        hand=_AS_TOMOGRAM,
        angles="a 4 x 4 matrix that takes the tomogram to the reference",
    ),
    "emclarity": GeometryWords(
        origin="the first voxel of the region that was searched",
        unit="pixels that are not binned: the index, counted from 1, times the binning",
        hand=_AS_TOMOGRAM,
        angles="a matrix, Rz(e1) Rx(e2) Rz(e3), that takes the reference to the tomogram",
    ),
    "plain": GeometryWords(
        origin="as its first line or --origin says: corner (the middle of the first voxel) or centre",
        unit="as its first line or --unit says: voxels or A",
        hand=_AS_TOMOGRAM,
        angles="as its first line or --euler says: relion, zxz, dynamo or none",
    ),
}
"""By the names of `eucentric.io.particles.PARTICLE_FORMATS`."""

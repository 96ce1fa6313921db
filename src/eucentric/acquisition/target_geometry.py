r"""How fields and beams lie on a specimen that tilts.

Places are those of the stage plane in the frame of the tilt axis: x across the axis, y along it, A. A specimen of pre-tilt
:math:`p`, about an axis turned by :math:`r`, has heights :math:`z = -\tan p\,(x \cos r + y \sin r)`, and an image at the
stage angle :math:`\theta` shows a place at

.. math:: x' = x \cos\theta + z \sin\theta, \qquad y' = y .

For :math:`r = 0` this is :math:`x' = x \cos(\theta + p) / \cos p`: a round beam of diameter :math:`D` covers an ellipse that is
:math:`D / \cos(\theta + p)` long on the specimen, and :math:`D` along the axis.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eucentric.acquisition.plane_shapes import distance_to_polygon
from eucentric.acquisition.target_params import TargetParams
from eucentric.errors import InputError
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.typing import FloatArray

_STEEPEST_DEG = 80.0
_SAMPLES = 41  # of a field across, of what stays in view


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ViewingGeometry:
    """Every tilt of a scheme, in order of acquisition."""

    tilts_deg: FloatArray
    """(tilt,)."""
    doses: FloatArray
    """(tilt,), e/A^2."""
    to_image: FloatArray
    """(tilt, 2, 2): places in an image from places on the stage plane, both in the frame of the axis."""
    frame: FloatArray
    """(4, 2), A: corners of the camera's frame in any image."""
    flattest: int
    """Number of the tilt at which the specimen is seen most from above: there the frame shows what is to be reconstructed."""
    axis_of_stage: FloatArray
    """(2, 2): places in the frame of the axis from those of the stage."""

    @property
    def field(self) -> FloatArray:
        """(4, 2), A: the field of a target on the stage plane, about the target."""
        return np.asarray(self.frame @ np.linalg.inv(self.to_image[self.flattest]).T)

    @property
    def fields_in_images(self) -> FloatArray:
        """(tilt, 4, 2): the field as each image shows it."""
        return np.asarray(np.einsum("kab,vb->kva", self.to_image, self.field))

    @property
    def widest(self) -> NDArray[np.int64]:
        """Numbers of the tilts that decide whether beams reach fields: of nested footprints the longest alone."""
        if np.abs(self.to_image[:, 0, 1]).max() > 1e-9:
            return np.arange(len(self.tilts_deg), dtype=np.int64)
        return np.array([self.steepest], dtype=np.int64)

    @property
    def steepest(self) -> int:
        """Number of the tilt at which footprints are longest."""
        return int(np.argmin(np.abs(self.to_image[:, 0, 0])))

    def footprint(self, tilt: int, diameter: float, count: int = 48) -> FloatArray:
        """(count, 2), A: outline of a beam on the stage plane, about its centre."""
        turn = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
        circle = 0.5 * diameter * np.column_stack([np.cos(turn), np.sin(turn)])
        return np.asarray(circle @ np.linalg.inv(self.to_image[tilt]).T)

    def extent(self, radius: float) -> FloatArray:
        """(2,), A: half sides of the box about a field outside which no beam of a radius touches it, at any tilt."""
        outlines = np.array([self.footprint(int(tilt), 2 * radius, 720) for tilt in self.widest])
        # finely enough that the box is met to 1e-5 of itself
        return np.asarray(np.abs(outlines).max(axis=(0, 1)) * (1 + 1e-5) + np.abs(self.field).max(axis=0))

    def reaches(self, offsets: FloatArray, radius: float) -> FloatArray:
        """(...) A: how far beams of a radius stay clear of a field, at the worst tilt; negative where they reach it.

        Parameters
        ----------
        offsets : (..., 2), from the centre of the field to that of the beam, on the stage plane
        """
        clear = np.full(offsets.shape[:-1], np.inf)
        for tilt in self.widest:
            seen = offsets @ self.to_image[tilt].T
            clear = np.minimum(clear, distance_to_polygon(self.fields_in_images[tilt], seen) - radius)
        return clear


def viewing_geometry(scheme: TiltScheme, params: TargetParams) -> ViewingGeometry:
    """Fields and beams of a scheme.

    Raises
    ------
    InputError : an angle beyond the stage, or a specimen seen from its edge
    """
    tilts = scheme.angles_in_order()
    beyond = tilts[np.abs(tilts) > params.stage_limit_deg + 1e-6]
    if len(beyond):
        raise InputError(
            f"The scheme tilts to {beyond[np.argmax(np.abs(beyond))]:g} degrees; the stage goes to "
            f"{params.stage_limit_deg:g}. Lower the highest angle, or set the stage's limit if it goes farther."
        )
    pretilt, turn = np.deg2rad(params.pretilt_deg), np.deg2rad(params.pretilt_turn_deg)
    slope = -np.tan(pretilt) * np.array([np.cos(turn), np.sin(turn)])
    theta = np.deg2rad(tilts)
    to_image = np.zeros((len(tilts), 2, 2))
    to_image[:, 0, 0] = np.cos(theta) + slope[0] * np.sin(theta)
    to_image[:, 0, 1] = slope[1] * np.sin(theta)
    to_image[:, 1, 1] = 1.0
    # the beam against the normal of the specimen: that normal is (-slope, 1) / |...|
    facing = to_image[:, 0, 0] / np.sqrt(1.0 + slope @ slope)
    if facing.min() < np.cos(np.deg2rad(_STEEPEST_DEG)):
        worst = tilts[np.argmin(facing)]
        raise InputError(
            f"At a stage angle of {worst:g} degrees a specimen of pre-tilt {params.pretilt_deg:g} is seen from its edge "
            f"(more than {_STEEPEST_DEG:g} degrees). Shift the scheme: it starts at minus the pre-tilt."
        )
    return ViewingGeometry(
        tilts_deg=tilts,
        doses=scheme.doses_in_order(),
        to_image=to_image,
        frame=_frame(params),
        flattest=int(np.argmax(facing)),
        axis_of_stage=_axis_of_stage(params.stage_axis_angle_deg),
    )


def field_seen(view: ViewingGeometry, params: TargetParams) -> tuple[FloatArray, float, float]:
    """What part of the field each image shows, what part all of them show, and what part beams light in all of them.

    The field is taken through the whole thickness: the upper and lower face move apart in tilted images.

    Returns
    -------
    seen : (tilt,), 0 to 1
    kept, lit : 0 to 1
    """
    steps = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    u, v = np.meshgrid(steps, steps)
    origin, one, _, other = view.field
    inside = origin + u[..., None] * (one - origin) + v[..., None] * (other - origin)
    places = np.asarray(inside.reshape(-1, 2))
    half = 0.5 * params.thickness_angstrom
    pretilt, turn = np.deg2rad(params.pretilt_deg), np.deg2rad(params.pretilt_turn_deg)
    normal = np.array([np.sin(pretilt) * np.cos(turn), np.sin(pretilt) * np.sin(turn), np.cos(pretilt)])
    every_shown, every_lit = [], []
    frame_sides = np.array([view.frame[1] - view.frame[0], view.frame[3] - view.frame[0]])
    for tilt, matrix in zip(np.deg2rad(view.tilts_deg), view.to_image, strict=True):
        shown = np.ones((3, len(places)), dtype=bool)
        lit = np.ones_like(shown)
        for row, height in enumerate((-half, 0.0, half)):
            moved = np.array([np.cos(tilt) * normal[0] + np.sin(tilt) * normal[2], normal[1]]) * height
            image = places @ matrix.T + moved
            parts = (image - view.frame[0]) @ np.linalg.inv(frame_sides)
            shown[row] = ((parts >= -1e-9) & (parts <= 1 + 1e-9)).all(axis=1)
            lit[row] = (image**2).sum(axis=1) <= (0.5 * params.beam_diameter_angstrom) ** 2
        every_shown.append(shown)
        every_lit.append(lit)
    seen, lit_ever = np.array(every_shown), np.array(every_lit)
    return seen.mean(axis=(1, 2)), float(seen.all(axis=0).mean()), float(lit_ever.all(axis=0).mean())


def _frame(params: TargetParams) -> FloatArray:
    width, height = (0.5 * n * params.pixel_size_angstrom for n in params.camera_pixels)
    corners = np.array([[-width, -height], [width, -height], [width, height], [-width, height]])
    angle = np.deg2rad(params.image_axis_angle_deg)
    # Rz(-angle), as in the frame of stage tracks
    turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(corners @ turned.T)


def _axis_of_stage(angle_deg: float) -> FloatArray:
    """Rows are the directions across the axis and along it, in stage coordinates; both frames have the same hand."""
    angle = np.deg2rad(angle_deg)
    along = np.array([np.cos(angle), np.sin(angle)])
    return np.array([[along[1], -along[0]], along])

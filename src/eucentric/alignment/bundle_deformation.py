"""Deformation of the specimen with dose: low-degree displacement of specimen points, and as fields over the images."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.typing import FloatArray

_POWERS = ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3))
_TERMS = (0, 2, 5, 9)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deformation:
    r"""Specimen point p moves by :math:`d_t(p) = \sum_j c_{tj} b_j(u, v)`, in the specimen's frame [1]_.

    u = x / half field, v = y / half field; b are the monomials of degree 1 to `order` less their means over the points that are
    seen, so that shifts keep their meaning. Each of the three components of each c runs along the series as a sum of
    `courses`.

    References
    ----------
    .. [1] Fernandez et al., J. Struct. Biol. 202:200 (2018), doi:10.1016/j.jsb.2018.02.001 (polynomial sample motion)
    """

    order: int
    half_field_angstrom: float
    courses: FloatArray
    """(tilt, course), of zero mean: what does not change is the shape of the specimen, which points absorb."""
    means: FloatArray
    """(term,), of the monomials."""
    origin_angstrom: FloatArray
    """(3,), where x = y = 0 of the monomials lies among the points."""

    @property
    def terms(self) -> int:
        return _TERMS[self.order]

    @property
    def degrees(self) -> tuple[int, ...]:
        """(term,)."""
        return tuple(i + j for i, j in _POWERS[: self.terms])

    @property
    def local_unknowns(self) -> int:
        """Of one tilt: x, y and z of each term."""
        return 3 * self.terms

    def basis(self, points: FloatArray) -> FloatArray:
        """(point, term) at specimen points (point, 3) in A."""
        return monomials((points - self.origin_angstrom) / self.half_field_angstrom, self.order) - self.means

    def basis_slopes(self, points: FloatArray) -> FloatArray:
        """(point, term, 2): derivatives by x and y, 1/A."""
        u, v = ((points - self.origin_angstrom) / self.half_field_angstrom).T[:2]
        out = np.zeros((len(points), self.terms, 2))
        for k, (i, j) in enumerate(_POWERS[: self.terms]):
            out[:, k, 0] = i * u ** max(i - 1, 0) * v**j
            out[:, k, 1] = j * u**i * v ** max(j - 1, 0)
        return out / self.half_field_angstrom


def monomials(points: FloatArray, order: int) -> FloatArray:
    """(point, term): x, y, then of second and third degree, up to `order`."""
    columns = [points[:, 0] ** i * points[:, 1] ** j for i, j in _POWERS[: _TERMS[order]]]
    return np.stack(columns, axis=1) if columns else np.zeros((len(points), 0))


def exponential_course(doses: FloatArray, dose_constant: float) -> FloatArray:
    """(tilt, 1): 1 - exp(-dose / constant), mean removed; beam-induced motion is fast at first and saturates."""
    course = 1.0 - np.exp(-doses / dose_constant)
    return np.asarray(course - course.mean())[:, None]


def spline_courses(doses: FloatArray, nodes: int) -> FloatArray:
    """(tilt, nodes - 1): all natural cubic splines over accumulated dose but the constant one, orthogonal.

    Nodes lie denser at low dose, where beam-induced motion is fast. A course that bends less is expected to be larger: columns are
    scaled by how little they bend.
    """
    span = max(float(doses.max() - doses.min()), 1e-9)
    knots = doses.min() + span * np.linspace(0.0, 1.0, nodes) ** 1.5
    fine = np.linspace(doses.min(), doses.min() + span, 200)
    values = CubicSpline(knots, np.eye(nodes), bc_type="natural")
    basis = np.asarray(values(doses))
    basis = basis - basis.mean(0)
    bending = np.asarray(values(fine, 2)) * span**2
    rough = bending.T @ bending / len(fine)
    # generalised eigenvectors: unit variance over the tilts, ordered by bending
    _, sizes, right = np.linalg.svd(basis, full_matrices=False)
    keep = sizes > 1e-9 * sizes[0]
    to_unit = right[keep].T / sizes[keep] * np.sqrt(len(doses))
    bends, turn = np.linalg.eigh(to_unit.T @ rough @ to_unit)
    return np.asarray(basis @ to_unit @ turn / np.sqrt(1.0 + np.maximum(bends, 0.0) / 100.0))


def mean_moves(
    deformation: Deformation,
    coefficients: FloatArray,
    geometry: TiltGeometry,
    points: FloatArray,
    half_image_angstrom: FloatArray,
) -> FloatArray:
    """(tilt, 2), A: by how much a deformation moves, on average, the points that lie within each image.

    Parameters
    ----------
    deformation, coefficients : terms, and (tilt, 3, term) in A
    geometry, points : where they would be seen undeformed
    half_image_angstrom : (2,), x and y
    """
    matrices = geometry.image_matrices
    moves = np.einsum("tij,tjk,pk->tpi", matrices, coefficients, deformation.basis(points))
    inside = np.all(np.abs(geometry.project(points)[..., :2]) <= half_image_angstrom, axis=2)
    inside = inside | ~np.any(inside, axis=1, keepdims=True)
    return np.asarray((moves * inside[..., None]).sum(1) / inside.sum(1)[:, None])


def as_image_warp(
    deformation: Deformation,
    coefficients: FloatArray,
    geometry: TiltGeometry,
    points: FloatArray,
    means: FloatArray,
    *,
    image_shape: tuple[int, int],
    pixel_size: float,
    grid: tuple[int, int],
) -> ImageWarp:
    """Displacement fields over the images that a deformation of the specimen makes at the height of its points.

    A place in an image is taken back to the plane z = z0 + a x + b y through the points; beyond the points' own extent
    the displacement goes on as a straight line.

    Parameters
    ----------
    deformation, coefficients : terms, and (tilt, 3, term) in A
    geometry : of the tilts, whose shifts hold `means`
    points : (point, 3), A, that the deformation was fitted to
    means : (tilt, 2), A, taken from the fields
    image_shape, pixel_size, grid : (y, x), A, and (y, x) points of the fields
    """
    plane = _plane(points)
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    rows, columns = (
        (np.linspace(0.0, n - 1.0, g) - n // 2) * pixel_size for n, g in zip(image_shape, grid, strict=True)
    )
    x, y = np.meshgrid(columns, rows)
    places = np.stack([x.ravel(), y.ravel()], axis=1)
    fields = np.zeros((len(geometry), *grid, 2))
    for t, matrix in enumerate(geometry.image_matrices):
        # u = M (x, y, z0 + a x + b y) + s
        flat = matrix[:, :2] + np.outer(matrix[:, 2], plane[1:])
        xy = np.linalg.solve(flat, (places - geometry.shifts_angstrom[t] - matrix[:, 2] * plane[0]).T).T
        held = np.clip(xy, low, high)
        at = np.concatenate([held, np.zeros((len(held), 1))], axis=1)
        basis = deformation.basis(at) + np.einsum("nkd,nd->nk", deformation.basis_slopes(at), xy - held)
        fields[t] = (basis @ coefficients[t].T @ matrix.T - means[t]).reshape(*grid, 2)
    return ImageWarp.build(fields, image_shape, pixel_size)


def _plane(points: FloatArray) -> FloatArray:
    """(3,): z0, a, b of z = z0 + a x + b y, held level where the points do not say."""
    design = np.stack([np.ones(len(points)), points[:, 0], points[:, 1]], axis=1)
    span = max(float(np.ptp(points[:, :2], axis=0).max()), 1.0)
    ridge = np.diag([0.0, 1e-2 * span**2, 1e-2 * span**2]) * 1e-2
    return np.asarray(np.linalg.solve(design.T @ design + ridge + 1e-12 * np.eye(3), design.T @ points[:, 2]))

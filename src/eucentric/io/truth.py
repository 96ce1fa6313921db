"""Truth files of simulated tilt series (`<name>_truth.json`): what every stage should have found.

Arrays are in ascending nominal tilt. The dialect is that of independent test data, so that one reader serves both::

    {"spec": {"name", "n", "px", "kv", "cs", "amp", "thickness", "dose", "frames", "axis", "axis_nominal", "hand",
              "deform", "astig_angle", "bad_tilts", ...},
     "tilts", "true_tilt", "R", "shifts", "acq", "names", "du", "dv", "motion", "deform_coef",
     "positions", "rotations", "kinds", "beads", "vesicles"}

`magnification`, `phase_shift` and `doses` (each by tilt) may be absent: images are then true to scale, there is no phase plate, and
every image has the dose of `spec`, which is the mean where they differ.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.atomic import write_text_atomic
from eucentric.models import Optics
from eucentric.typing import FloatArray, PathLike

_DAMAGE_DOSE = 30.0
_DAMAGE_NORM = 1.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiltTruth:
    """The answers to one simulated tilt series."""

    name: str
    pixel_size_angstrom: float
    image_shape: tuple[int, int]
    """(y, x)."""
    optics: Optics
    nominal_tilts_deg: FloatArray
    """(tilt,), ascending."""
    true_tilts_deg: FloatArray
    """(tilt,), rlnTomoYTilt."""
    tilt_axis_deg: float
    """rlnTomoZRot, the median over tilts."""
    nominal_axis_deg: float
    matrices: FloatArray
    """(tilt, 3, 3): x_camera = magnification * matrix p + shift, p in A from the centre of the specimen."""
    shifts_angstrom: FloatArray
    """(tilt, 2), x and y."""
    acquisition: NDArray[np.int64]
    """(tilt,), order of acquisition from 0."""
    movie_names: tuple[str, ...]
    dose: float
    """e/A^2 in each image, the mean where they differ."""
    defocus_u_angstrom: FloatArray
    """(tilt,), underfocus positive."""
    defocus_v_angstrom: FloatArray
    astigmatism_angle_deg: float
    hand: float
    """Defocus of a point = defocus + hand * z_camera."""
    motion_angstrom: FloatArray
    """(tilt, frame, 2): where the content of each frame was displaced to."""
    thickness_angstrom: float
    deformation_angstrom: float = 0.0
    """1.5 times the deformation that an endless exposure would reach; see `deformation_scale`."""
    deformation_coefficients: FloatArray = field(default_factory=lambda: np.zeros((3, 6)))
    """(3, 6): weights of 1, u, v, u^2, v^2, u v for the x, y and z displacement; the first is not used."""
    bad_tilts: tuple[int, ...] = ()
    """Positions in the ascending list of tilts that show nothing."""
    positions: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    """(particle, 3), A from the centre of the specimen."""
    rotations: FloatArray = field(default_factory=lambda: np.zeros((0, 3, 3)))
    """(particle, 3, 3), from the reference to the specimen."""
    kinds: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(particle,), which structure each one is."""
    beads: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    """(bead, 3), A."""
    vesicle_centres: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    vesicle_radii_angstrom: FloatArray = field(default_factory=lambda: np.zeros(0))
    magnification: FloatArray = field(default_factory=lambda: np.zeros(0))
    """(tilt,); 1 for every tilt where not given."""
    phase_shift_deg: FloatArray = field(default_factory=lambda: np.zeros(0))
    """(tilt,), of a phase plate; 0 for every tilt where not given."""
    doses: FloatArray = field(default_factory=lambda: np.zeros(0))
    """(tilt,), e/A^2 in each image; `dose` in every one where not given."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the simulator was told."""

    def __post_init__(self) -> None:
        tilts = len(self.nominal_tilts_deg)
        for name, usual in (("magnification", 1.0), ("phase_shift_deg", 0.0), ("doses", self.dose)):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(tilts, usual))
        particles = len(self.positions)
        expected = {
            "true_tilts_deg": (tilts,),
            "matrices": (tilts, 3, 3),
            "shifts_angstrom": (tilts, 2),
            "acquisition": (tilts,),
            "defocus_u_angstrom": (tilts,),
            "defocus_v_angstrom": (tilts,),
            "motion_angstrom": (tilts, *self.motion_angstrom.shape[1:2], 2),
            "deformation_coefficients": (3, 6),
            "positions": (particles, 3),
            "rotations": (particles, 3, 3),
            "kinds": (particles,),
            "beads": (len(self.beads), 3),
            "vesicle_centres": (len(self.vesicle_radii_angstrom), 3),
            "magnification": (tilts,),
            "phase_shift_deg": (tilts,),
            "doses": (tilts,),
        }
        for name, shape in expected.items():
            if np.shape(getattr(self, name)) != shape:
                raise ShapeError(
                    f"`{name}` of the truth of {self.name} is {np.shape(getattr(self, name))}; expected {shape}."
                )
        if len(self.movie_names) != tilts or any(not 0 <= i < tilts for i in self.bad_tilts):
            raise ShapeError(f"The truth of {self.name} names {len(self.movie_names)} movies for {tilts} tilts.")
        if np.any(np.diff(self.nominal_tilts_deg) < 0):
            raise InputError(f"The truth of {self.name} is not in ascending order of tilt.")

    @property
    def geometry(self) -> TiltGeometry:
        """The true rigid geometry; its angles are those of the matrices."""
        m = self.matrices
        return TiltGeometry.build(
            np.rad2deg(np.arctan2(-m[:, 2, 0], np.hypot(m[:, 2, 1], m[:, 2, 2]))),
            z_rot_deg=np.rad2deg(np.arctan2(m[:, 1, 0], m[:, 0, 0])),
            x_tilt_deg=np.rad2deg(np.arctan2(m[:, 2, 1], m[:, 2, 2])),
            shifts_angstrom=self.shifts_angstrom,
            magnification=self.magnification,
        )

    @property
    def doses_before(self) -> FloatArray:
        """(tilt,), e/A^2 received before each image."""
        order = np.argsort(self.acquisition, kind="stable")
        before = np.empty(len(order))
        before[order] = np.cumsum(self.doses[order]) - self.doses[order]
        return before

    @property
    def deformation_scale(self) -> FloatArray:
        """(tilt,), A: the deformation grows as 1 - exp(-dose / 30), at half the dose of the image itself."""
        exposure = self.doses_before + 0.5 * self.doses
        return np.asarray(self.deformation_angstrom * (1.0 - np.exp(-exposure / _DAMAGE_DOSE)) / _DAMAGE_NORM)

    def deformation(self, points: FloatArray) -> FloatArray:
        """Displacement of specimen points at the time of each image.

        Parameters
        ----------
        points : (point, 3), A from the centre of the specimen

        Returns
        -------
        (tilt, point, 3), A
        """
        half = 0.5 * max(self.image_shape) * self.pixel_size_angstrom
        u, v = points[:, 0] / half, points[:, 1] / half
        basis = np.stack([u, v, u * u, v * v, u * v])
        bend = (self.deformation_coefficients[:, 1:] @ basis).T
        return np.asarray(self.deformation_scale[:, None, None] * bend[None])

    def camera_positions(self, points: FloatArray, *, deformed: bool = True) -> FloatArray:
        """Where specimen points lie over the camera, A from the image centre (z_camera third).

        Parameters
        ----------
        points : (point, 3), A from the centre of the specimen
        deformed : False leaves the deformation of the specimen out

        Returns
        -------
        (tilt, point, 3)
        """
        placed = points[None] + self.deformation(points) if deformed else points[None]
        camera = np.einsum("tij,tpj->tpi", self.matrices, np.broadcast_to(placed, (len(self.matrices), *points.shape)))
        camera[..., :2] *= self.magnification[:, None, None]
        camera[..., :2] += self.shifts_angstrom[:, None]
        return np.asarray(camera)


_SPEC_FIELDS = frozenset(
    (
        "name",
        "n",
        "shape",
        "px",
        "kv",
        "cs",
        "amp",
        "thickness",
        "dose",
        "axis",
        "axis_nominal",
        "hand",
        "deform",
        "astig_angle",
        "bad_tilts",
        "tilts",
        "frames",
    )
)
"""Entries of `spec` with a field of their own."""


def _points(values: Sequence[Any], width: int = 3) -> FloatArray:
    return np.asarray(values, dtype=np.float64).reshape(-1, width)


def _truth(data: Mapping[str, Any]) -> TiltTruth:
    spec = data["spec"]
    n = int(spec["n"])
    shape = spec.get("shape") or (n, n)
    vesicles = data.get("vesicles", [])

    def array(name: str) -> FloatArray:
        return np.asarray(data[name], dtype=np.float64)

    return TiltTruth(
        name=str(spec["name"]),
        pixel_size_angstrom=float(spec["px"]),
        image_shape=(int(shape[0]), int(shape[1])),
        optics=Optics(
            voltage_kv=float(spec["kv"]),
            spherical_aberration_mm=float(spec["cs"]),
            amplitude_contrast=float(spec["amp"]),
        ),
        nominal_tilts_deg=array("tilts"),
        true_tilts_deg=array("true_tilt"),
        tilt_axis_deg=float(spec["axis"]),
        nominal_axis_deg=float(spec["axis_nominal"]),
        matrices=array("R"),
        shifts_angstrom=array("shifts"),
        acquisition=np.asarray(data["acq"], dtype=np.int64),
        movie_names=tuple(str(name) for name in data["names"]),
        dose=float(spec["dose"]),
        defocus_u_angstrom=array("du"),
        defocus_v_angstrom=array("dv"),
        astigmatism_angle_deg=float(spec["astig_angle"]),
        hand=float(spec["hand"]),
        motion_angstrom=array("motion"),
        thickness_angstrom=float(spec["thickness"]),
        deformation_angstrom=float(spec.get("deform", 0.0)),
        deformation_coefficients=np.asarray(data.get("deform_coef", np.zeros((3, 6))), dtype=np.float64),
        bad_tilts=tuple(int(i) for i in spec.get("bad_tilts", ())),
        positions=_points(data.get("positions", [])),
        rotations=np.asarray(data.get("rotations", []), dtype=np.float64).reshape(-1, 3, 3),
        kinds=np.asarray(data.get("kinds", []), dtype=np.int64),
        beads=_points(data.get("beads", [])),
        vesicle_centres=_points([centre for centre, _ in vesicles]),
        vesicle_radii_angstrom=np.array([radius for _, radius in vesicles], dtype=np.float64),
        magnification=np.asarray(data.get("magnification", []), dtype=np.float64),
        phase_shift_deg=np.asarray(data.get("phase_shift", []), dtype=np.float64),
        doses=np.asarray(data.get("doses", []), dtype=np.float64),
        settings={key: value for key, value in spec.items() if key not in _SPEC_FIELDS},
    )


def read_truth(path: PathLike) -> TiltTruth:
    """Read a truth file.

    Raises
    ------
    InputError : no such file
    FormatError : not JSON, or an entry missing or of the wrong kind or shape
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    try:
        return _truth(json.loads(place.read_text(encoding="utf-8")))
    except KeyError as error:
        raise FormatError(
            f"The truth file `{place}` has no entry {error}. Expected one that a simulation wrote."
        ) from error
    except (ValueError, TypeError, IndexError, ShapeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise FormatError(f"`{place}` is not a truth file that can be read: {error}") from error


def write_truth(path: PathLike, truth: TiltTruth) -> None:
    """Write what `read_truth` reads, every digit kept.

    Raises
    ------
    InputError : values that are not numbers, or a place that may not be written to
    BackendError : the disk is full
    """
    spec = {
        **truth.settings,
        "name": truth.name,
        "n": max(truth.image_shape),
        "shape": list(truth.image_shape),
        "px": truth.pixel_size_angstrom,
        "kv": truth.optics.voltage_kv,
        "cs": truth.optics.spherical_aberration_mm,
        "amp": truth.optics.amplitude_contrast,
        "thickness": truth.thickness_angstrom,
        "tilts": truth.nominal_tilts_deg.tolist(),
        "dose": truth.dose,
        "frames": truth.motion_angstrom.shape[1],
        "axis": truth.tilt_axis_deg,
        "axis_nominal": truth.nominal_axis_deg,
        "hand": truth.hand,
        "deform": truth.deformation_angstrom,
        "astig_angle": truth.astigmatism_angle_deg,
        "bad_tilts": list(truth.bad_tilts),
    }
    vesicles = zip(truth.vesicle_centres.tolist(), truth.vesicle_radii_angstrom.tolist(), strict=True)
    data: dict[str, Any] = {
        "spec": spec,
        "tilts": truth.nominal_tilts_deg.tolist(),
        "true_tilt": truth.true_tilts_deg.tolist(),
        "shifts": truth.shifts_angstrom.tolist(),
        "R": truth.matrices.tolist(),
        "acq": truth.acquisition.tolist(),
        "du": truth.defocus_u_angstrom.tolist(),
        "dv": truth.defocus_v_angstrom.tolist(),
        "names": list(truth.movie_names),
        "motion": truth.motion_angstrom.tolist(),
        "deform_coef": truth.deformation_coefficients.tolist(),
        "positions": truth.positions.tolist(),
        "kinds": truth.kinds.tolist(),
        "rotations": truth.rotations.tolist(),
        "beads": truth.beads.tolist(),
        "vesicles": [[centre, radius] for centre, radius in vesicles],
    }
    for name, values, usual in (
        ("magnification", truth.magnification, 1.0),
        ("phase_shift", truth.phase_shift_deg, 0.0),
        ("doses", truth.doses, truth.dose),
    ):
        if np.any(values != usual):
            data[name] = values.tolist()
    try:
        text = json.dumps(data, allow_nan=False)
    except ValueError as error:
        raise InputError(f"The truth of {truth.name} holds values that are not numbers; it was not written.") from error
    write_text_atomic(path, text)

"""What is true of a simulated series, in tables and arrays: answers, particles, the true tilt-series set, its warps."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.geometry import ImageWarp, Rotation
from eucentric.io import labels
from eucentric.io.atomic import atomic_path
from eucentric.io.star import write_star
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.io.truth import TiltTruth
from eucentric.io.warps import write_image_warp
from eucentric.models import CtfFit, FrameShifts, Optics, Tilt, TiltPose, TiltSeries
from eucentric.models.specimen import Specimen as SpecimenRecord
from eucentric.simulation import SimulatedSeries
from eucentric.simulation.label_volume import LabelTable
from eucentric.simulation.specimen import Specimen
from eucentric.simulation.structures import ROLES
from eucentric.typing import FloatArray

TRUE_SET = "truth/tilt_series.star"
_WARP_GRID = 9  # points along each edge: a field that is nearly quadratic
_SURFACE_SPACING, _FILM_GRID = 20.0, 17  # A between points of membranes; points along each edge of the film


def series_truth(series: SimulatedSeries, name: str, movie_names: Sequence[str]) -> TiltTruth:
    """The answers to a simulated series."""
    params, acquisition, specimen = series.params, series.acquisition, series.specimen
    columns, rows = params.image_size_px
    axis = float(np.median(acquisition.geometry.z_rot_deg))
    doses = acquisition.doses(params)
    table = LabelTable.of(specimen)
    return TiltTruth(
        name=name,
        pixel_size_angstrom=params.pixel_size_angstrom,
        image_shape=(rows, columns),
        optics=Optics(
            voltage_kv=params.voltage_kv,
            spherical_aberration_mm=params.spherical_aberration_mm,
            amplitude_contrast=params.amplitude_contrast,
        ),
        nominal_tilts_deg=acquisition.nominal_tilts_deg,
        true_tilts_deg=acquisition.geometry.y_tilt_deg,
        tilt_axis_deg=axis,
        nominal_axis_deg=params.tilt_axis_deg + params.tilt_axis_error_deg,
        matrices=acquisition.geometry.matrices,
        shifts_angstrom=acquisition.geometry.shifts_angstrom,
        magnification=acquisition.geometry.magnification,
        acquisition=acquisition.order,
        movie_names=tuple(movie_names),
        dose=float(np.mean(doses)) if params.tilt_doses else params.dose_per_tilt,
        doses=doses,
        defocus_u_angstrom=acquisition.defocus_u_angstrom,
        defocus_v_angstrom=acquisition.defocus_v_angstrom,
        astigmatism_angle_deg=params.astigmatism_angle_deg,
        phase_shift_deg=acquisition.phase_shift_deg,
        hand=float(params.hand),
        motion_angstrom=acquisition.motion_angstrom,
        thickness_angstrom=specimen.film.thickness_angstrom,
        deformation_angstrom=params.deformation_angstrom,
        deformation_coefficients=acquisition.deformation,
        bad_tilts=tuple(sorted({*params.blocked_tilts, *params.dead_tilts})),
        positions=specimen.positions_angstrom,
        rotations=specimen.rotations,
        kinds=specimen.kinds,
        beads=specimen.beads,
        vesicle_centres=specimen.vesicles[:, :3],
        vesicle_radii_angstrom=specimen.vesicles[:, 3],
        settings={
            "x_tilt": params.x_tilt_deg,
            "offset": params.tilt_offset_deg,
            "scheme": params.scheme,
            "seed": params.seed,
            "bead_d": specimen.bead_diameter_angstrom,
            "species": [s.name for s in specimen.species],
            "species_kda": [s.mass_kda for s in specimen.species],
            "species_radius": [s.radius_angstrom for s in specimen.species],
            "membranes": [m.name for m in specimen.membranes],
            "filaments": [f.name for f in specimen.filaments],
            "lattices": [one.name for one in specimen.lattices],
            "label_names": dict(enumerate(table.classes)),
            "label_instances": {what: list(numbers) for what, numbers in table.instances.items()},
        },
    )


def write_true_particles(path: Path, truth: TiltTruth, specimen: Specimen) -> None:
    """RELION-5's table of particles: one row each, in the order of the truth; errors as `write_star`.

    Coordinates and angles are those of RELION: ``rlnAngleRot``, ``Tilt`` and ``Psi`` take the reference map, which is
    written beside, to the specimen.
    """
    particles, count = specimen.particles, len(truth.positions)
    half = 0.5 * truth.pixel_size_angstrom * np.array(truth.image_shape[::-1])
    in_field = (np.abs(truth.positions[:, :2]) <= half).all(1)
    rot, tilt, psi = Rotation(truth.rotations).as_relion()
    parents = {
        "membrane": [m.name for m in specimen.membranes],
        "filament": [f.name for f in specimen.filaments],
        "lattice": [one.name for one in specimen.lattices],
    }
    roles = [ROLES[role] for role in particles.roles]
    names = [
        f"{parents[role][parent]}_{parent + 1}".replace(" ", "_") if parent >= 0 else "none"
        for role, parent in zip(roles, particles.parents, strict=True)
    ]
    table: dict[str, list[Any]] = {
        "rlnTomoName": [truth.name] * count,
        "rlnTomoParticleId": list(range(1, count + 1)),
        "rlnTomoParticleName": [f"{truth.name}/{n + 1}" for n in range(count)],
        **{f"rlnCenteredCoordinate{a}Angst": truth.positions[:, i].tolist() for i, a in enumerate("XYZ")},
        "rlnAngleRot": rot.tolist(),
        "rlnAngleTilt": tilt.tolist(),
        "rlnAnglePsi": psi.tolist(),
        "rlnClassNumber": (truth.kinds + 1).tolist(),
        "rlnOpticsGroup": [1] * count,
    }
    if specimen.filaments:
        along = particles.roles == ROLES.index("filament")
        table["rlnHelicalTubeID"] = np.where(along, particles.parents + 1, 0).tolist()
    table |= {
        labels.SPECIES: [specimen.species[kind].name for kind in truth.kinds],
        labels.ROLE: roles,
        labels.PARENT: names,
        labels.IN_FIELD: in_field.astype(int).tolist(),
    }
    optics: dict[str, list[Any]] = {
        "rlnOpticsGroup": [1],
        "rlnOpticsGroupName": ["opticsGroup1"],
        "rlnVoltage": [float(truth.optics.voltage_kv)],
        "rlnSphericalAberration": [float(truth.optics.spherical_aberration_mm)],
        "rlnAmplitudeContrast": [float(truth.optics.amplitude_contrast)],
        "rlnTomoTiltSeriesPixelSize": [float(truth.pixel_size_angstrom)],
    }
    write_star(path, {"optics": optics, "particles": table})


def true_warp(truth: TiltTruth) -> ImageWarp:
    """How the images show the specimen's deformation, for what lies in the middle of the ice."""
    extent = [0.5 * (n - 1) * truth.pixel_size_angstrom for n in truth.image_shape]
    y, x = np.meshgrid(*(np.linspace(-e, e, _WARP_GRID) for e in extent), indexing="ij")
    seen = np.stack([x, y], axis=-1).reshape(-1, 2)
    geometry = truth.geometry
    fields = []
    for tilt, matrix in enumerate(geometry.image_matrices):
        flat = np.linalg.solve(matrix[:, :2], (seen - geometry.shifts_angstrom[tilt]).T).T
        moved = truth.deformation(np.column_stack([flat, np.zeros(len(flat))]))[tilt]
        fields.append((moved @ matrix.T).reshape(_WARP_GRID, _WARP_GRID, 2))
    return ImageWarp.build(np.stack(fields), truth.image_shape, truth.pixel_size_angstrom)


def true_series(truth: TiltTruth, folder: str = "frames") -> TiltSeries:
    """The series as a stage would describe it if it knew the truth; movies lie in `folder`."""
    geometry = truth.geometry
    tilts = []
    for i, name in enumerate(truth.movie_names):
        x, y = (float(value) for value in truth.shifts_angstrom[i])
        pose = TiltPose(
            y_tilt_deg=float(geometry.y_tilt_deg[i]),
            z_rot_deg=float(geometry.z_rot_deg[i]),
            x_tilt_deg=float(geometry.x_tilt_deg[i]),
            x_shift_angstrom=x,
            y_shift_angstrom=y,
            magnification=float(truth.magnification[i]),
        )
        ctf = CtfFit(
            defocus_u_angstrom=float(truth.defocus_u_angstrom[i]),
            defocus_v_angstrom=float(truth.defocus_v_angstrom[i]),
            astigmatism_angle_deg=truth.astigmatism_angle_deg,
            phase_shift_deg=float(truth.phase_shift_deg[i]),
        )
        frames = len(truth.motion_angstrom[i])
        motion = FrameShifts(shifts_angstrom=truth.motion_angstrom[i], sigma_angstrom=np.zeros(frames))
        order = int(truth.acquisition[i])
        tilts.append(
            Tilt(
                nominal_tilt_deg=float(truth.nominal_tilts_deg[i]),
                acquisition=order,
                dose=float(truth.doses[i]),
                pre_exposure=float(truth.doses_before[i]),
                movie=f"{folder}/{name}",
                frame_count=frames,
                nominal_axis_deg=truth.nominal_axis_deg,
                motion=motion,
                pose=pose,
                ctf=ctf,
            )
        )
    rows, columns = truth.image_shape
    depth = round(1.2 * truth.thickness_angstrom / truth.pixel_size_angstrom)
    series = TiltSeries(
        name=truth.name,
        pixel_size_angstrom=truth.pixel_size_angstrom,
        image_shape=truth.image_shape,
        tilts=tuple(tilts),
        optics=truth.optics,
        hand=truth.hand,
        volume_size_px=(columns, rows, depth),
        thickness_angstrom=truth.thickness_angstrom,
        specimen=SpecimenRecord(thickness_angstrom=truth.thickness_angstrom),
    )
    return series.without(dict.fromkeys(truth.bad_tilts, "it shows nothing, as was simulated"))


def write_true_set(folder: Path, truths: Sequence[TiltTruth]) -> Path:
    """Write ``truth/tilt_series.star`` and the warps that it names, relative to `folder`; errors as `write_star`."""
    series = []
    for truth in truths:
        one = true_series(truth)
        if truth.deformation_angstrom > 0:
            place = f"truth/warps/{truth.name}.npz"
            write_image_warp(folder / place, true_warp(truth), [int(a) for a in truth.acquisition])
            one = replace(one, warp=place)
        series.append(one)
    write_tilt_series_set(folder / TRUE_SET, series, folder)
    return folder / TRUE_SET


def write_true_arrays(path: Path, series: SimulatedSeries, truth: TiltTruth) -> None:
    """Write what would bloat JSON, as a numpy archive; errors as `atomic_path`.

    By tilt: `motion_angstrom` (tilt, frame, 2) of the images, `particle_deformation_angstrom` (tilt, particle, 3) of the
    specimen and, where objects move of themselves, `particle_motion_angstrom` (tilt, frame, particle, 2) in all. Then
    `particle_roles` (names in `role_names`) and `particle_parents`; points of the mid-surfaces of membranes
    `membrane_points` (n, 3) with `membrane_normals`, `membrane_areas` and `membrane_index`; filaments
    `filament_points` with `filament_index`; lattices `lattice_spheres` (n, 4: centre, radius); the film's faces
    `film_lower` and `film_upper` over `film_x` and `film_y`. All in A.
    """
    specimen, acquisition = series.specimen, series.acquisition
    arrays: dict[str, Any] = {
        "motion_angstrom": truth.motion_angstrom.astype(np.float32),
        "particle_deformation_angstrom": truth.deformation(truth.positions).astype(np.float32),
        "particle_roles": specimen.particles.roles,
        "particle_parents": specimen.particles.parents,
        "role_names": np.array(ROLES),
        "lattice_spheres": np.array(
            [(*one.centre_angstrom, one.radius_angstrom) for one in specimen.lattices], dtype=np.float64
        ).reshape(-1, 4),
    }
    if acquisition.local_motion is not None:
        seen = truth.camera_positions(truth.positions)[..., :2]
        moved = [acquisition.object_motion(t, places) for t, places in enumerate(seen)]
        arrays["particle_motion_angstrom"] = np.stack(moved).astype(np.float32)
    arrays |= _membrane_arrays(specimen) | _filament_arrays(specimen) | _film_arrays(specimen)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def _membrane_arrays(specimen: Specimen) -> dict[str, Any]:
    rng = np.random.default_rng(0)  # where the points lie on the surface is of no importance
    samples = [m.surface.even_points(_SURFACE_SPACING, rng) for m in specimen.membranes]
    return {
        "membrane_points": _joined([s[0] for s in samples]).astype(np.float32),
        "membrane_normals": _joined([s[1] for s in samples]).astype(np.float32),
        "membrane_areas": np.concatenate([np.zeros(0), *(s[2] for s in samples)]).astype(np.float32),
        "membrane_index": np.repeat(np.arange(len(samples)), [len(s[0]) for s in samples]),
        "membrane_thickness_angstrom": np.array([m.thickness_angstrom for m in specimen.membranes]),
    }


def _filament_arrays(specimen: Specimen) -> dict[str, Any]:
    lines = [f.backbone_angstrom for f in specimen.filaments]
    return {
        "filament_points": _joined(lines).astype(np.float32),
        "filament_index": np.repeat(np.arange(len(lines)), [len(line) for line in lines]),
        "filament_radii_angstrom": np.array([f.radius_angstrom for f in specimen.filaments]),
    }


def _film_arrays(specimen: Specimen) -> dict[str, Any]:
    x, y = (np.linspace(-half, half, _FILM_GRID) for half in specimen.half_extent_angstrom[:2])
    lower, upper = specimen.film.faces(*np.meshgrid(x, y))
    return {"film_x": x, "film_y": y, "film_lower": lower, "film_upper": upper}


def _joined(parts: Sequence[FloatArray]) -> FloatArray:
    return np.concatenate([np.zeros((0, 3)), *parts])

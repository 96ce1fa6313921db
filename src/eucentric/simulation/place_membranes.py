"""Membranes with their proteins, and lattices with their membranes, put into a film."""

import numpy as np
from scipy.spatial.transform import Rotation

from eucentric.errors import InputError, ProcessingError
from eucentric.simulation.lattices import gag_hexamer, lattice_poses, outward_frames
from eucentric.simulation.membranes import (
    cisterna_surface,
    sheet_surface,
    sphere_surface,
    tube_surface,
    vesicle_surface,
)
from eucentric.simulation.packing import MEMBRANE, OUTSIDE, SOLID, Shape
from eucentric.simulation.placing import Placing
from eucentric.simulation.scene import SceneLattice, SceneMembrane, SceneProtein
from eucentric.simulation.structures import (
    BILAYER_ANGSTROM,
    MEMBRANE_HALF_ANGSTROM,
    MEMBRANE_ROOM_ANGSTROM,
    Lattice,
    Membrane,
)
from eucentric.simulation.surfaces import Surface
from eucentric.typing import FloatArray

_SHAPES_TRIED = 25
_PLACES_TRIED = 3000
_LEAST_LEFT = 0.3  # of a membrane that the faces of a lamella cut
_PROTEIN_TRIES = 500  # places looked at in a row


def place_membranes(placing: Placing) -> None:
    """Put the membranes of the scene and what stands in them.

    Raises
    ------
    InputError : a membrane that no ice of this thickness holds
    ProcessingError : no room left
    """
    for entry in placing.scene.membranes:
        for number in range(entry.copies(placing.field_angstrom)):
            first = len(placing.membranes)
            placing.membranes += _placed(placing, entry, number)
            for protein in entry.proteins:
                for parent in range(first, len(placing.membranes)):
                    _embed(placing, protein, parent)


def place_lattices(placing: Placing) -> None:
    """Put the lattices of the scene and the membranes around them.

    Raises
    ------
    InputError : a lattice that no ice of this thickness holds, or too small for its spacing
    ProcessingError : no room left
    """
    for entry in placing.scene.lattices:
        kind = placing.kind(entry.species, None if entry.species else gag_hexamer())
        points = placing.species[kind].points_angstrom
        inner, outer = float(points[:, 2].min()), float(points[:, 2].max())
        if entry.membrane_angstrom is not None:
            outer = max(outer, entry.membrane_angstrom + MEMBRANE_HALF_ANGSTROM)
        count = entry.copies(placing.field_angstrom)
        for number in range(count):
            most = np.inf if placing.scene.film.cut else 0.5 * placing.thickest - outer - MEMBRANE_ROOM_ANGSTROM
            if most < entry.radius_angstrom[0]:
                raise InputError(
                    f"A lattice `{entry.name}` of radius {entry.radius_angstrom[0]:.0f} A and what lies around it does "
                    f"not fit into ice of {placing.thickest:.0f} A. Make the ice thicker or the lattice smaller."
                )
            radius = placing.draw(entry.radius_angstrom, most)
            body = Shape.shell([sphere_surface(radius + 0.5 * (inner + outer))], 0.5 * (outer - inner))
            centres, _ = placing.occupancy.place(
                body,
                1,
                within=placing.within,
                turned=False,
                tries=10 * _PLACES_TRIED,
                mark=0,
                blocked=placing.blocked,
            )
            if not len(centres):
                raise _no_room(entry.name, number, count)
            membrane = -1
            if entry.membrane_angstrom is not None:
                membrane = len(placing.membranes)
                envelope = sphere_surface(radius + entry.membrane_angstrom)
                placing.membranes.append(
                    _membrane(
                        placing, "envelope", envelope, BILAYER_ANGSTROM, centres[0], radius + entry.membrane_angstrom
                    )
                )
                shell = Shape.shell([envelope], MEMBRANE_HALF_ANGSTROM)
                placing.occupancy.mark(shell.points + centres[0], MEMBRANE)
                placing.occupancy.enclose(shell.points + centres[0])
            _cover(placing, entry, kind, centres[0], radius, membrane)


def _cover(placing: Placing, entry: SceneLattice, kind: int, centre: FloatArray, radius: float, membrane: int) -> None:
    """Put a species on the points of a lattice about a centre, and note the lattice."""
    positions, rotations = lattice_poses(radius, entry.spacing_angstrom, placing.rng, coverage=entry.coverage)
    positions = positions + centre
    inside = placing.in_film(positions)
    positions, rotations = positions[inside], rotations[inside]
    for position, rotation in zip(positions, rotations, strict=True):
        placing.occupancy.mark(placing.shape(kind).points @ rotation.T + position, SOLID)
    placing.add(kind, positions, rotations, "lattice", len(placing.lattices))
    placing.lattices.append(
        Lattice(
            name=entry.name,
            centre_angstrom=centre,
            radius_angstrom=radius,
            spacing_angstrom=entry.spacing_angstrom,
            membrane=membrane,
        )
    )


def _placed(placing: Placing, entry: SceneMembrane, number: int) -> list[Membrane]:
    """One membrane, or two nested ones, where there is room."""
    half = MEMBRANE_HALF_ANGSTROM * entry.thickness_angstrom / BILAYER_ANGSTROM
    for _ in range(_SHAPES_TRIED):
        surfaces, radius = _drawn(placing, entry, half)
        rotation = _orientation(placing, entry)
        surfaces = [surface.placed(rotation, np.zeros(3)) for surface in surfaces]
        shell = Shape.shell(surfaces, half)
        # a lamella may cut off the larger part of something
        beyond = 0.6 * float(np.abs(surfaces[0].vertices_angstrom[:, 2]).max()) if placing.scene.film.cut else 0.0
        centres, _ = placing.occupancy.place(
            shell,
            1,
            within=placing.within,
            turned=False,
            tries=_PLACES_TRIED,
            mark=0,
            blocked=placing.blocked,
            beyond=beyond,
        )
        if len(centres) and _left(placing, surfaces[0].placed(np.eye(3), centres[0])) >= _LEAST_LEFT:
            placing.occupancy.mark(shell.points + centres[0], MEMBRANE)
            if surfaces[0].closed:
                placing.occupancy.enclose(shell.points + centres[0])
            names = [entry.name or entry.shape]
            if len(surfaces) > 1:
                names = [f"{names[0]} outer", f"{names[0]} inner"]
            round_one = radius if entry.shape == "vesicle" and entry.roughness == 0 else None
            return [
                _membrane(placing, name, surface, entry.thickness_angstrom, centres[0], round_one)
                for name, surface in zip(names, surfaces, strict=True)
            ]
    raise _no_room(entry.name or entry.shape, number, entry.copies(placing.field_angstrom))


def _left(placing: Placing, surface: Surface) -> float:
    """Part of a surface that lies in the simulated film; a sheet is never smaller than that."""
    return (
        float((surface.areas() * placing.in_film(surface.middles)).sum() / surface.areas().sum())
        if surface.closed
        else 1.0
    )


def _membrane(
    placing: Placing, name: str, surface: Surface, thickness: float, centre: FloatArray, radius: float | None
) -> Membrane:
    """A membrane at its place, cut where the film ends."""
    moved = surface.placed(np.eye(3), centre)
    moved = moved.kept(placing.in_film(moved.middles))
    x, y, z = (float(value) for value in centre)
    whole = radius is not None and moved.closed
    return Membrane(
        name=name,
        surface=moved,
        thickness_angstrom=thickness,
        sphere=(x, y, z, radius) if whole and radius is not None else None,
    )


def _drawn(placing: Placing, entry: SceneMembrane, half: float) -> tuple[list[Surface], float]:
    """Mid-surfaces of one membrane about the origin, and its radius."""
    rng, cut = placing.rng, placing.scene.film.cut
    most = np.inf if cut else 0.5 * placing.thickest - half - MEMBRANE_ROOM_ANGSTROM
    if entry.shape == "sheet":
        reach = float(np.hypot(*placing.half[:2])) + 100.0
        return [sheet_surface(reach, reach, rng, rise=1000.0 * entry.roughness)], 0.0
    if entry.shape == "cisterna":
        radius, lumen = placing.draw(entry.radius_angstrom), placing.draw(entry.lumen_angstrom)
        if entry.rim * lumen > min(radius, 2.0 * most):
            raise InputError(
                f"A cisterna of radius {radius:.0f} A with a rim of {entry.rim * lumen:.0f} A was asked for, in ice of "
                f"{placing.thickest:.0f} A. Give a smaller lumen or rim."
            )
        bowl = entry.roughness * radius * float(rng.uniform(-1.0, 1.0))
        return [cisterna_surface(radius, lumen, rim=entry.rim * lumen, bowl=bowl)], radius
    if most <= 60.0:
        raise InputError(
            f"Ice of {placing.thickest:g} A holds no {entry.name or entry.shape}. Make it thicker, or ask for none."
        )
    if entry.radius_angstrom[0] > most:
        raise InputError(
            f"A {entry.name or entry.shape} of radius {entry.radius_angstrom[0]:.0f} A does not fit into ice of "
            f"{placing.thickest:.0f} A: there is room for {most:.0f} A. Make the ice thicker or radius_angstrom smaller."
        )
    radius = placing.draw(entry.radius_angstrom, most)
    if entry.shape == "tube":
        return [tube_surface(radius, max(placing.draw(entry.length_angstrom), 2.0 * radius + 1.0))], radius
    outer = vesicle_surface(radius, rng, roughness=entry.roughness)
    if entry.shape == "vesicle":
        return [outer], radius
    between = placing.draw(entry.lumen_angstrom)
    length = np.linalg.norm(outer.vertices_angstrom, axis=1, keepdims=True)
    if length.min() < between + 60.0:
        raise InputError(
            f"Two nested membranes of outer radius {radius:.0f} A leave no room for the inner one {between:.0f} A "
            "inside. Give a larger radius_angstrom or a smaller lumen_angstrom."
        )
    inner = Surface.from_triangles(outer.vertices_angstrom * (1.0 - between / length), outer.faces, closed=True)
    return [outer, inner], radius


def _orientation(placing: Placing, entry: SceneMembrane) -> FloatArray:
    """A rotation: any for vesicles; for others the z axis of a sac or sheet, or the xy plane for a tube, leans a little."""
    rng = placing.rng
    if entry.shape in ("vesicle", "double"):
        return np.asarray(Rotation.random(rng=rng).as_matrix())
    lean = np.rad2deg(np.arcsin(rng.uniform(-1, 1) * np.sin(np.deg2rad(entry.tilt_deg))))
    upright = Rotation.from_euler("y", 90.0 if entry.shape == "tube" else 0.0, degrees=True)
    turned = Rotation.from_euler("zyz", [rng.uniform(0, 360), lean, 0.0], degrees=True)
    return np.asarray((turned * upright * Rotation.from_euler("z", rng.uniform(0, 360), degrees=True)).as_matrix())


def _embed(placing: Placing, protein: SceneProtein, parent: int) -> None:
    """Put a species into a membrane, at random places that do not overlap."""
    membrane, rng = placing.membranes[parent], placing.rng
    kind = placing.kind(protein.species)
    shape = Shape.from_points(placing.species[kind].points_angstrom)
    half = membrane.half_angstrom + 14.0  # beyond it no voxel is this membrane's own
    beyond = np.abs(shape.reach[:, 2] + protein.height_angstrom) > half
    wanted = int(rng.poisson(membrane.surface.areas().sum() * protein.per_um2 / 1e8))
    if not wanted:
        return
    places, normals = membrane.surface.random_points(60 * wanted + 200, rng)
    sides = np.where(rng.uniform(size=len(places)) < protein.inward, -1.0, 1.0)
    frames = outward_frames(normals * sides[:, None], rng.uniform(0, 360, len(places)))
    origins = places + protein.height_angstrom * frames[:, :, 2]
    kept: list[int] = []
    last = -1
    for number in range(len(places)):
        if len(kept) >= wanted or number - last > _PROTEIN_TRIES:
            break
        points = shape.reach @ frames[number].T + origins[number]
        if not placing.occupancy.free(points, OUTSIDE).all():
            if placing.scene.film.cut:  # cut off with its part of the cell
                wanted -= 1
                last = number
            continue
        if not placing.occupancy.free(points, SOLID).all():
            continue
        if not placing.occupancy.free(points[beyond], MEMBRANE).all():
            continue
        placing.occupancy.mark(shape.points @ frames[number].T + origins[number], SOLID)
        kept.append(number)
        last = number
    if len(kept) < wanted:
        raise ProcessingError(
            f"No room for more than {len(kept)} of {wanted} `{protein.species}` was found in a membrane "
            f"`{membrane.name}`. Ask for fewer per_um2."
        )
    placing.add(kind, origins[kept], frames[kept], "membrane", parent)


def _no_room(name: str, done: int, wanted: int) -> ProcessingError:
    return ProcessingError(
        f"No room for more than {done} of {wanted} `{name}` was found. Ask for fewer or smaller ones, or make the ice "
        "thicker."
    )

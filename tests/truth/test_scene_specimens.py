"""Specimens of a scene: packing of real shapes, membranes, filaments, lattices, contamination, species from maps."""

import itertools
import time

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial import ConvexHull, cKDTree
from scipy.stats import kstest

from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.optics.atoms import ICE_VOLTS, atom_potentials
from eucentric.simulation import Film, Scene, SimulationParams, SurfaceDistance, procedural_macromolecule
from eucentric.simulation.bodies import specimen_bodies
from eucentric.simulation.build_specimen import build_specimen, builtin_species
from eucentric.simulation.filaments import ACTIN, MICROTUBULE, subunit_poses, worm_like_chain
from eucentric.simulation.lattices import lattice_poses, sphere_lattice
from eucentric.simulation.matter import bilayer_points, contaminant_points
from eucentric.simulation.membranes import cisterna_surface, sheet_surface, tube_surface, vesicle_surface
from eucentric.simulation.packing import OUTSIDE, Occupancy, Shape
from eucentric.simulation.species import CUBIC_ANGSTROM_PER_DALTON, species_from_volume
from eucentric.simulation.structures import Membrane

SMALL = SimulationParams(image_size_px=(200, 160), tilt_step_deg=30.0, tilt_min_deg=-30.0, tilt_max_deg=30.0)
SMALL = SMALL.replace(stage_jitter_angstrom=0.0)


def built(seed=1, params=SMALL, **tables):
    scene = Scene.model_validate(tables)
    species = [builtin_species(entry) for entry in scene.species]
    return build_specimen(scene, params, species, np.random.default_rng(seed))


def placed_points(specimen, number):
    points = specimen.species[specimen.kinds[number]].points_angstrom
    return points @ specimen.rotations[number].T + specimen.positions_angstrom[number]


def assert_apart(specimen, numbers, least):
    """No residue of a particle lies nearer than `least` A to one of another particle."""
    clouds = [placed_points(specimen, n) for n in numbers]
    owner = np.repeat(np.arange(len(clouds)), [len(c) for c in clouds])
    pairs = cKDTree(np.concatenate(clouds)).query_pairs(least, output_type="ndarray")
    assert (owner[pairs[:, 0]] == owner[pairs[:, 1]]).all()


CYTOSOL = {
    "species": [{"mass_kda": 900, "volume_fraction": 0.14}, {"mass_kda": 200, "volume_fraction": 0.08}],
    "film": {"thickness_angstrom": 700},
}


@pytest.fixture(scope="module")
def cytosol():
    return built(**CYTOSOL)


def test_crowded_shapes_interlock_without_overlap(cytosol):
    assert_apart(cytosol, range(len(cytosol.kinds)), 2.0)
    large = np.flatnonzero(cytosol.kinds == 0)
    positions = cytosol.positions_angstrom[large]
    nearest = cKDTree(positions).query(positions, 2)[0][:, 1]
    assert (nearest < 2.0 * cytosol.species[0].radius_angstrom).mean() > 0.5  # balls around them would overlap
    z = np.concatenate([placed_points(cytosol, n)[:, 2] for n in range(len(cytosol.kinds))])
    assert np.abs(z).max() < 350.0


def test_as_much_is_placed_as_was_asked_for(cytosol):
    x, y, _ = cytosol.half_extent_angstrom
    volume = 4 * x * y * 700.0
    masses = np.array([s.mass_kda for s in cytosol.species])
    fractions = np.bincount(cytosol.kinds) * masses * 1e3 * CUBIC_ANGSTROM_PER_DALTON / volume
    np.testing.assert_allclose(fractions, [0.14, 0.08], rtol=0.03)  # the film is whole voxels thick
    some = built(species=[{"mass_kda": 100, "per_um3": 5e4}, {"mass_kda": 60, "count": 40}])
    x, y, _ = some.half_extent_angstrom
    counts = np.bincount(some.kinds)
    assert counts[0] == pytest.approx(5e4 * 4 * x * y * 1100.0 * 1e-12, rel=0.03)
    assert counts[1] == round(40 * 4 * x * y / (1000.0 * 800.0))


def test_same_seed_same_specimen(cytosol):
    again, other = built(**CYTOSOL), built(seed=2, **CYTOSOL)
    np.testing.assert_array_equal(again.positions_angstrom, cytosol.positions_angstrom)
    np.testing.assert_array_equal(again.rotations, cytosol.rotations)
    assert not np.allclose(other.positions_angstrom[:5], cytosol.positions_angstrom[:5])


def test_particles_are_turned_evenly():
    occupancy = Occupancy(Film(thickness_angstrom=600.0), (500.0, 500.0, 300.0), np.random.default_rng(3))
    _, rotations = occupancy.place(Shape.ball(15.0), 600)
    np.testing.assert_allclose(rotations @ rotations.swapaxes(1, 2), np.broadcast_to(np.eye(3), (600, 3, 3)), atol=1e-9)
    for i, j in itertools.product(range(3), range(3)):  # each element of an even rotation is even on -1 to 1
        assert kstest(rotations[:, i, j], "uniform", args=(-1, 2)).pvalue > 1e-4
    angle = np.arccos(np.clip(0.5 * (np.trace(rotations, axis1=1, axis2=2) - 1), -1, 1))
    assert kstest(angle, lambda a: (a - np.sin(a)) / np.pi).pvalue > 1e-4


def test_film_of_any_shape_holds_all_of_them():
    film = {
        "thickness_angstrom": 500,
        "gradient": [0.15, -0.1],
        "bend_per_angstrom": [1e-4, 0.0],
        "vacuum_beyond_angstrom": 350,
    }
    specimen = built(film=film, species=[{"mass_kda": 300, "volume_fraction": 0.08}], beads={"count": 5})
    points = np.concatenate([placed_points(specimen, n) for n in range(len(specimen.kinds))])
    lower, upper = specimen.film.faces(points[:, 0], points[:, 1])
    assert (points[:, 2] > lower).all()
    assert (points[:, 2] < upper).all()
    lower, upper = specimen.film.faces(specimen.beads[:, 0], specimen.beads[:, 1])
    assert (np.minimum(specimen.beads[:, 2] - lower, upper - specimen.beads[:, 2]) > 45.0).all()


def test_what_does_not_fit_is_refused_by_name_and_number():
    full = {"species": [{"name": "ribosome", "mass_kda": 900, "volume_fraction": 0.55}]}
    with pytest.raises(
        ProcessingError, match=r"No room for more than \d+ of \d+ `ribosome` was found: \d\d% of the ice"
    ):
        built(film={"thickness_angstrom": 500}, **full)
    large = {"species": [{"name": "ribosome", "mass_kda": 4000, "count": 1}]}
    with pytest.raises(InputError, match="`ribosome` does not fit into ice of 100 A"):
        built(film={"thickness_angstrom": 100}, **large)
    with pytest.raises(InputError, match="bead of 900 A"):
        built(film={"thickness_angstrom": 500}, beads={"count": 1, "diameter_angstrom": 900})
    with pytest.raises(ProcessingError, match=r"No room for more than \d of 60 `vesicle`"):
        built(membranes=[{"shape": "vesicle", "count": 60}])
    with pytest.raises(InputError, match="holds no vesicle"):
        built(film={"thickness_angstrom": 150}, membranes=[{"shape": "vesicle"}])
    with pytest.raises(InputError, match="vesicle of radius 900 A does not fit into ice of 1100 A"):
        built(membranes=[{"shape": "vesicle", "radius_angstrom": [900, 1000]}])
    with pytest.raises(InputError, match="`microtubule` of 280 A does not fit"):
        built(film={"thickness_angstrom": 150}, filaments=[{"kind": "microtubule"}])
    with pytest.raises(InputError, match="`immature` of radius 500 A"):
        built(lattices=[{}])
    crowd = [{"shape": "vesicle", "proteins": [{"species": "pump", "per_um2": 90000}]}]
    with pytest.raises(ProcessingError, match=r"No room for more than \d+ of \d+ `pump`"):
        built(species=[{"name": "pump", "mass_kda": 300}], membranes=crowd)
    with pytest.raises(InputError, match="1 species were given for the 0"):
        build_specimen(Scene(), SMALL, [procedural_macromolecule(60)], np.random.default_rng(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"species": [{"count": 3}]},
        {"species": [{"mass_kda": 100, "count": 3, "per_um3": 5}]},
        {"filaments": [{"kind": "actin", "count": 3, "per_um2": 5}]},
        {"species": [{"mass_kda": 100}, {"mass_kda": 100}]},
        {"membranes": [{"shape": "vesicle", "proteins": [{"species": "nobody", "per_um2": 1}]}]},
        {"membranes": [{"shape": "vesicle", "radius_angstrom": [300, 200]}]},
        {"filaments": [{"kind": "actin", "species": "nobody"}]},
    ],
)
def test_scenes_that_contradict_themselves_are_refused(wrong):
    with pytest.raises(ValidationError):
        Scene.model_validate(wrong)


# membranes


def volume_of(surface):
    """By the divergence theorem: positive where the triangles face outwards."""
    corners = surface.vertices_angstrom[surface.faces]
    return float((corners[:, 0] * np.cross(corners[:, 1], corners[:, 2])).sum() / 6)


def test_shapes_have_their_areas_and_volumes():
    rng = np.random.default_rng(1)
    tube = tube_surface(150.0, 1200.0)
    assert volume_of(tube) == pytest.approx(np.pi * 150**2 * 900 + 4 / 3 * np.pi * 150**3, rel=0.01)
    assert tube.areas().sum() == pytest.approx(2 * np.pi * 150 * 900 + 4 * np.pi * 150**2, rel=0.01)
    assert tube.areas(18.5).sum() == pytest.approx(2 * np.pi * 168.5 * 900 + 4 * np.pi * 168.5**2, rel=0.01)
    sac = cisterna_surface(900.0, 200.0, rim=200.0)
    inner, half = 800.0, 100.0  # Steiner: what lies within 100 A of a disc of 800 A
    exact = 2 * half * np.pi * inner**2 + np.pi**2 * half**2 * inner + 4 / 3 * np.pi * half**3
    assert volume_of(sac) == pytest.approx(exact, rel=0.01)
    rough = vesicle_surface(400.0, rng, roughness=0.1)
    radius = np.linalg.norm(rough.vertices_angstrom, axis=1)
    assert 0.05 < radius.std() / 400.0 < 0.15
    assert volume_of(rough) > 0
    sheet = sheet_surface(4000.0, 4000.0, rng, rise=50.0, wavelength=600.0)
    assert sheet.vertices_angstrom[:, 2].std() == pytest.approx(50.0, rel=0.2)
    assert (sheet.normals[:, 2] > 0).all()
    with pytest.raises(InputError, match="tube"):
        tube_surface(300.0, 400.0)
    with pytest.raises(InputError, match="cisterna"):
        cisterna_surface(300.0, 200.0, rim=700.0)


@pytest.mark.parametrize("thickness", [37.0, 30.0])
def test_bilayer_has_two_layers_of_heads_about_lighter_tails(thickness):
    rng = np.random.default_rng(4)
    surface = cisterna_surface(400.0, 160.0, rim=240.0, bowl=80.0)
    membrane = Membrane(name="cisterna", surface=surface, thickness_angstrom=thickness)
    points, weights = bilayer_points(membrane, 5.0, rng)
    distance, owner = SurfaceDistance([surface])(points)
    assert (owner == 0).all()
    profile, edges = np.histogram(distance, np.arange(-37.5, 38.0, 3.0), weights=weights / surface.areas().sum())
    middle = 0.5 * (edges[1:] + edges[:-1])
    peaks = np.sort(middle[np.argsort(profile)[-2:]])
    np.testing.assert_allclose(peaks, [-0.5 * thickness, 0.5 * thickness], atol=1.6)
    assert profile[np.abs(middle) < 3.0].max() < 0
    # DOPC: free atoms of a lipid in place of ice
    lipid = atom_potentials(["C"] * 44 + ["H"] * 84 + ["N"] + ["O"] * 8 + ["P"], solvent_volts=0.0).sum()
    tails = atom_potentials(["C"] * 34 + ["H"] * 66, solvent_volts=0.0).sum()
    assert profile.sum() == pytest.approx(2 * (lipid - 1303.0 * ICE_VOLTS) / 72.5, rel=0.02)
    inside = weights[np.abs(distance) < 0.4 * thickness].sum() / surface.areas().sum()
    assert inside == pytest.approx(2 * (tails - (1303.0 - 319.0) * ICE_VOLTS) / 72.5, rel=0.05)
    assert profile[np.abs(middle) > 0.5 * thickness + 6.0].max() < 1.0


def test_distances_are_signed_and_know_edges():
    rng = np.random.default_rng(2)
    sphere, sheet = vesicle_surface(300.0, rng), sheet_surface(200.0, 200.0, rng)
    points = rng.normal(size=(500, 3)) * 250.0
    distance, _ = SurfaceDistance([sphere])(points)
    np.testing.assert_allclose(distance, np.linalg.norm(points, axis=1) - 300.0, atol=1.0)
    flat = SurfaceDistance([sheet])
    np.testing.assert_allclose(
        flat(np.array([[0, 0, 40.0], [30, 5, -25.0], [240, 0, 30.0]]))[0], [40, -25, 50], atol=0.5
    )
    far, owner = flat(np.array([[0, 0, 400.0]]), limit_angstrom=100.0)
    assert np.isinf(far).all()
    assert (owner == -1).all()
    both = SurfaceDistance([sphere, sheet])
    assert list(both(np.array([[0, 0, 30.0], [0, 0, 280.0]]))[1]) == [1, 0]


MEMBRANES = {
    "species": [{"name": "pump", "mass_kda": 200}, {"mass_kda": 60, "where": "inside", "volume_fraction": 0.05}],
    "film": {"thickness_angstrom": 1000},
    "beads": {"count": 3, "diameter_angstrom": 60},
    "membranes": [
        {
            "shape": "vesicle",
            "radius_angstrom": [240, 260],
            "roughness": 0.05,
            "proteins": [{"species": "pump", "per_um2": 3000, "inward": 0.3, "height_angstrom": 20}],
        },
        {"shape": "double", "radius_angstrom": [300, 320], "lumen_angstrom": [200, 200], "name": "organelle"},
    ],
}


@pytest.fixture(scope="module")
def membranes():
    return built(params=SMALL.replace(image_size_px=(280, 280)), **MEMBRANES)


def test_proteins_stand_in_their_membrane(membranes):
    vesicle = membranes.membranes[0]
    members = membranes.members("membrane", 0)
    assert len(members) == pytest.approx(vesicle.surface.areas().sum() * 3000e-8, abs=12)
    axes = membranes.rotations[members][:, :, 2]
    feet = membranes.positions_angstrom[members] - 20.0 * axes
    distance, _ = SurfaceDistance([vesicle.surface])(feet)
    assert np.abs(distance).max() < 1.0
    outwards = cKDTree(vesicle.surface.vertices_angstrom).query(feet)[1]
    along = np.einsum("nd,nd->n", axes, vesicle.surface.normals[outwards])
    assert (np.abs(along) > 0.99).all()
    assert 0.05 < (along < 0).mean() < 0.6
    assert_apart(membranes, members, 2.0)
    assert list(membranes.members("membrane")) == list(members)


def test_lipids_make_room_for_proteins(membranes):
    members = membranes.members("membrane", 0)
    solid = cKDTree(np.concatenate([placed_points(membranes, m) for m in members]))
    bodies = specimen_bodies(membranes, 8.0, np.random.default_rng(0))
    lipid = bodies[2]  # after the two species
    points = lipid.points_angstrom + lipid.centres_angstrom[0]
    near, _ = solid.query(points)
    assert len(points) > 5000
    assert np.percentile(near, 0.5) > 3.0


def test_nested_membranes_and_what_lies_inside(membranes):
    assert [m.name for m in membranes.membranes] == ["vesicle", "organelle outer", "organelle inner"]
    outer, inner = (m.surface for m in membranes.membranes[1:])
    distance, _ = SurfaceDistance([outer])(inner.vertices_angstrom)
    np.testing.assert_allclose(distance, -200.0, atol=2.0)
    free = membranes.members("free")
    signed = np.min(
        [SurfaceDistance([m.surface])(membranes.positions_angstrom[free])[0] for m in membranes.membranes], 0
    )
    assert len(free) > 20
    assert (signed < -20.0).all()  # asked to lie inside
    gold = np.min([SurfaceDistance([m.surface])(membranes.beads)[0] for m in membranes.membranes], axis=0)
    assert (gold > 30.0).all()  # never inside


def test_membranes_stay_apart_and_a_lamella_cuts_them():
    specimen = built(
        membranes=[
            {"shape": "sheet", "roughness": 0.03, "tilt_deg": 3},
            {"shape": "tube", "radius_angstrom": [90, 120], "length_angstrom": [500, 600], "tilt_deg": 20},
            {"shape": "vesicle", "radius_angstrom": [500, 600]},
        ],
        film={"thickness_angstrom": 700, "cut": True},
        contamination={"ice": 1, "ethane": 1, "radius_angstrom": [60, 90]},
    )
    sheet, tube, vesicle = (m.surface for m in specimen.membranes)
    for one, other in itertools.combinations((sheet, tube, vesicle), 2):
        assert np.abs(SurfaceDistance([one])(other.vertices_angstrom)[0]).min() > 50.0
    assert not vesicle.closed
    assert specimen.vesicles.shape == (0, 4)  # none is whole
    assert np.abs(vesicle.middles[:, 2]).max() <= 350.0
    assert np.abs(vesicle.middles[:, 2]).max() > 330.0
    for dirt in specimen.contamination:
        points, weights = contaminant_points(dirt, specimen.film, 8.0, np.random.default_rng(0))
        assert (np.abs(points[:, 2]) > 350.0).all()
        assert np.abs(points[:, 2]).min() < 360.0
        assert weights[0] == pytest.approx(dirt.volts * 512.0)


# filaments


def test_actin_has_its_helix():
    axis = np.arange(0.0, 1001.0, 10.0)[:, None] * np.array([0.6, 0.0, 0.8])
    positions, rotations = subunit_poses(axis, ACTIN)
    along = positions @ [0.6, 0.0, 0.8]
    np.testing.assert_allclose(np.diff(along), 27.3, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(positions - along[:, None] * [0.6, 0.0, 0.8], axis=1), 17.0)
    turn = rotations[:-1].swapaxes(1, 2) @ rotations[1:]
    angles = np.rad2deg(np.arctan2(turn[:, 1, 0], turn[:, 0, 0]))  # right-handed about the axis is positive
    np.testing.assert_allclose(angles, -166.7, atol=1e-6)
    np.testing.assert_allclose(rotations[:, :, 2], np.broadcast_to([0.6, 0.0, 0.8], (len(positions), 3)), atol=1e-9)
    outwards = positions - along[:, None] * [0.6, 0.0, 0.8]
    np.testing.assert_allclose(np.einsum("nd,nd->n", outwards, rotations[:, :, 0]), 17.0)


def test_microtubule_has_thirteen_protofilaments_and_a_seam():
    axis = np.arange(0.0, 1501.0, 10.0)[:, None] * np.array([0.0, 0.0, 1.0])
    positions, _ = subunit_poses(axis, MICROTUBULE, phase_deg=17.0)
    angle = np.round(np.rad2deg(np.arctan2(positions[:, 1], positions[:, 0])), 3) % 360
    strands = [np.sort(positions[angle == a][:, 2]) for a in np.unique(angle)]
    assert len(strands) == 13
    for heights in strands:
        np.testing.assert_allclose(np.diff(heights), 82.0)
    # lateral neighbours climb 9.46 A clockwise (a left-handed helix of three starts), a monomer of 41 A apart at the seam
    steps = np.array([(strands[i - 1][3] - strands[i][3] + 41.0) % 82.0 - 41.0 for i in range(13)])
    assert np.isclose(steps, 1.5 * 82.0 / 13).sum() == 12
    assert np.isclose(np.abs(steps - 1.5 * 82.0 / 13) % 82.0, 41.0).sum() == 1


def test_chains_bend_as_their_persistence_length_says():
    rng = np.random.default_rng(6)
    chains = [worm_like_chain(np.zeros(3), np.array([0, 0, 1.0]), 1000.0, 2000.0, rng) for _ in range(300)]
    tangents = np.array([np.diff(chain, axis=0) / 10.0 for chain in chains])
    np.testing.assert_allclose(np.linalg.norm(tangents, axis=2), 1.0)
    for apart in (20, 60):
        cosine = np.einsum("nid,nid->ni", tangents[:, :-apart], tangents[:, apart:])
        assert cosine.mean() == pytest.approx(np.exp(-apart * 10.0 / 2000.0), abs=0.015)


def test_filaments_lie_in_the_film_with_their_subunits():
    specimen = built(
        filaments=[
            {"kind": "actin", "count": 4, "length_angstrom": [600, 900]},
            {"kind": "microtubule", "length_angstrom": [700, 900]},
        ],
        species=[{"mass_kda": 200, "volume_fraction": 0.05}],
        film={"thickness_angstrom": 600},
    )
    assert [f.name for f in specimen.filaments] == ["actin"] * 4 + ["microtubule"]
    assert [s.name for s in specimen.species[1:]] == ["actin_like_42kDa", "tubulin_like_110kDa"]
    for number, filament in enumerate(specimen.filaments):
        members = specimen.members("filament", number)
        off = cKDTree(filament.backbone_angstrom).query(specimen.positions_angstrom[members])[0]
        assert off.max() < filament.radius_angstrom
        assert len(members) > 0.9 * len(filament.backbone_angstrom) * 10 / 27.3
        assert np.abs(np.concatenate([placed_points(specimen, m)[:, 2] for m in members])).max() < 300.0
        others = np.concatenate([f.backbone_angstrom for f in specimen.filaments if f is not filament])
        assert cKDTree(others).query(filament.backbone_angstrom)[0].min() > 90.0
    free = specimen.members("free")
    lines = cKDTree(np.concatenate([f.backbone_angstrom for f in specimen.filaments]))
    assert len(free) > 50
    assert lines.query(np.concatenate([placed_points(specimen, m) for m in free]))[0].min() > 45.0


# lattices


def test_lattice_is_hexagonal_with_the_defects_of_a_sphere():
    points = 450.0 * sphere_lattice(450.0, 78.0, np.random.default_rng(3))
    hull = ConvexHull(points)
    neighbours = np.bincount(hull.simplices.reshape(-1))
    assert (6 - neighbours).sum() == 12  # Euler
    assert (neighbours == 6).mean() > 0.8
    assert set(neighbours) <= {5, 6, 7}
    edges = np.concatenate([hull.simplices[:, [0, 1]], hull.simplices[:, [1, 2]], hull.simplices[:, [0, 2]]])
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    assert length.mean() == pytest.approx(78.0, rel=0.02)
    assert length.std() < 0.1 * 78.0
    with pytest.raises(InputError, match="no lattice"):
        sphere_lattice(60.0, 80.0, np.random.default_rng(3))


def test_hexamers_point_outwards_and_at_their_neighbours():
    positions, rotations = lattice_poses(450.0, 78.0, np.random.default_rng(5), coverage=0.6)
    assert len(positions) == pytest.approx(0.6 * 4 * np.pi * 450**2 / (np.sqrt(0.75) * 78**2), rel=0.01)
    np.testing.assert_allclose(rotations[:, :, 2], positions / 450.0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0)
    tree = cKDTree(positions)
    angles = []
    for number, near in enumerate(tree.query_ball_point(positions, 1.3 * 78.0)):
        if len(near) == 7:
            local = (positions[[n for n in near if n != number]] - positions[number]) @ rotations[number]
            angles.append(np.rad2deg(np.arctan2(local[:, 1], local[:, 0])))
    off = (np.concatenate(angles) + 30.0) % 60.0 - 30.0
    assert np.abs(off).mean() < 7.0  # 15 for any orientation
    holes = [len(n) for n in tree.query_ball_point(positions, 1.3 * 78.0)]
    assert (
        np.mean(np.array(holes) == 7) > 0.5
    )  # the gaps are connected: scattered ones would leave 5% with six neighbours


def test_lattice_has_its_membrane_around_it():
    specimen = built(
        params=SMALL.replace(image_size_px=(300, 300)),
        lattices=[{"radius_angstrom": [300, 320], "coverage": 0.7}],
        species=[{"mass_kda": 60, "count": 30}],
        film={"thickness_angstrom": 1000},
    )
    (lattice,), (envelope,) = specimen.lattices, specimen.membranes
    assert lattice.membrane == 0
    assert envelope.sphere == pytest.approx((*lattice.centre_angstrom, lattice.radius_angstrom + 95.0))
    members = specimen.members("lattice", 0)
    distance = np.linalg.norm(specimen.positions_angstrom[members] - lattice.centre_angstrom, axis=1)
    np.testing.assert_allclose(distance, lattice.radius_angstrom)
    points = np.concatenate([placed_points(specimen, m) for m in members])
    assert np.linalg.norm(points - lattice.centre_angstrom, axis=1).max() < lattice.radius_angstrom + 80.0


# species from maps


def test_a_map_becomes_a_species_of_its_mass():
    made = procedural_macromolecule(300.0)
    volume = made.volume((48, 48, 48), 5.0, b_factor=200.0).numpy()
    species = species_from_volume(7.0 * volume + 3.0, 5.0, name="map", mass_kda=300.0)
    assert species.weights.sum() == pytest.approx(made.weights.sum(), rel=0.1)
    np.testing.assert_allclose((species.points_angstrom * species.weights[:, None]).sum(0), 0.0, atol=1e-3)
    again = species.volume((48, 48, 48), 5.0, b_factor=200.0).numpy()
    centred = made.points_angstrom - (made.points_angstrom * made.weights[:, None]).sum(0) / made.weights.sum()
    assert np.corrcoef(again.ravel(), volume.ravel())[0, 1] > 0.8
    assert np.sqrt((species.points_angstrom**2).sum(1).mean()) == pytest.approx(
        np.sqrt((centred**2).sum(1).mean()), rel=0.1
    )
    dark = species_from_volume(-7.0 * volume, 5.0, name="map", mass_kda=300.0, dark=True)
    np.testing.assert_allclose(dark.points_angstrom, species.points_angstrom, atol=0.5)
    level = species_from_volume(volume, 5.0, name="map", threshold=0.5)
    assert level.mass_kda == pytest.approx((volume >= 0.5).sum() * 125.0 / 1210.0, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mass_kda": None}, "mass_kda or a threshold"),
        ({"threshold": 1e9}, "nothing above"),
        ({"mass_kda": 9e5}, "more than half"),
        ({"sign": -1.0}, "dark where the species is"),
        ({"value": np.nan}, "not numbers"),
    ],
)
def test_maps_that_hold_no_species_are_refused(change, words):
    volume = procedural_macromolecule(100.0).volume((32, 32, 32), 6.0, b_factor=300.0).numpy()
    volume = change.pop("sign", 1.0) * volume
    volume[0, 0, 0] = change.pop("value", 0.0)
    with pytest.raises(InputError, match=words):
        species_from_volume(volume, 6.0, name="map", **{"mass_kda": 100.0, **change})
    with pytest.raises(ShapeError):
        species_from_volume(volume[0], 6.0, name="map", mass_kda=100.0)


@pytest.mark.slow
def test_ten_thousand_objects_are_packed_in_seconds():
    rng = np.random.default_rng(0)
    start = time.process_time()
    occupancy = Occupancy(Film(thickness_angstrom=1800.0), (3000.0, 3000.0, 900.0), rng)
    total, count, volume = 0.0, 0, 6000.0 * 6000.0 * 1800.0
    for mass in (3000, 2000, 1200, 800, 500, 300, 200):
        shape = Shape.from_points(procedural_macromolecule(mass).points_angstrom)
        copies = round(0.24 / 7 * volume / (mass * 1e3 * CUBIC_ANGSTROM_PER_DALTON))
        placed, _ = occupancy.place(shape, copies)
        assert len(placed) == copies
        total += copies * mass * 1e3 * CUBIC_ANGSTROM_PER_DALTON
        count += copies
    assert count > 10_000
    assert total / volume == pytest.approx(0.24, rel=0.01)
    assert occupancy.volume(0, OUTSIDE) == pytest.approx(volume, rel=0.02)
    assert time.process_time() - start < 60.0

"""Scene files: what they may say, the scenes that come with the product, species from files, and wrong input."""

import numpy as np
import pytest

from eucentric.errors import FormatError, InputError
from eucentric.io.mrc import write_mrc
from eucentric.pipeline.scene_files import preset_names, read_preset, read_scene, scene_species
from eucentric.simulation import SimulatedSeries, build_specimen, procedural_macromolecule
from eucentric.simulation.structures import ROLES

PDB = """\
ATOM      1  N   ALA A   1      11.104   6.134  -6.504  1.00  0.00           N
ATOM      2  CA  ALA A   1      31.639   6.071  -5.147  1.00  0.00           C
ATOM      3  C   ALA A   1      13.559  36.864  -4.901  0.50  0.00           C
ATOM      4  O   ALA A   1      14.171   7.420  25.769  1.00  0.00           O
END
"""


def test_presets_are_the_promised_ones_and_whole():
    assert preset_names() == ("crowded", "filaments", "hiv-like", "lamella", "purified-beads", "vesicles")
    for name in preset_names():
        scene = read_preset(name)
        params = scene.params(seed=4)
        assert params.seed == 4
        assert params.thickness_angstrom == scene.film.thickness_angstrom
        assert (params.vesicles, params.particles_per_species) == (0, ())
        assert scene.description.endswith(".")
        assert [s.name for s in scene_species(scene)] == scene.species_names
    with pytest.raises(InputError, match="no preset `hiv`"):
        read_preset("hiv")
    with pytest.raises(InputError, match="Did you mean `vesicles`"):
        read_preset("vesicle")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["crowded", "filaments", "hiv-like", "lamella", "purified-beads", "vesicles"])
def test_presets_make_specimens_of_what_they_promise(name):
    scene = read_preset(name)
    specimen = build_specimen(scene, scene.params(), scene_species(scene), np.random.default_rng(3))
    counts = dict(zip(ROLES, np.bincount(specimen.particles.roles, minlength=4), strict=True))
    expected = {
        "crowded": {"free": 5000},
        "filaments": {"filament": 800},
        "hiv-like": {"lattice": 300},
        "lamella": {"free": 3000, "membrane": 30},
        "purified-beads": {"free": 64},
        "vesicles": {"free": 40, "membrane": 30},
    }[name]
    for role, least in expected.items():
        assert counts[role] >= least
    assert len(specimen.filaments) == {"filaments": 10, "lamella": 3}.get(name, 0)
    assert len(specimen.lattices) == (2 if name == "hiv-like" else 0)
    assert len(specimen.membranes) == {"hiv-like": 2, "lamella": 4, "vesicles": 7}.get(name, 0)


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_as_dense_in_every_field_of_view(name):
    scene = read_preset(name)
    things = (*scene.membranes, *scene.filaments, *scene.lattices)
    assert all(one.count is None for one in (*scene.species, *things))
    assert (scene.beads.count, scene.contamination.ice, scene.contamination.ethane) == (0, 0, 0)
    field = scene.params().field_of_view_angstrom
    for one in things:
        assert one.copies((3 * field[0], 3 * field[1])) == pytest.approx(9 * one.copies(field), rel=0.15)
        assert one.copies((0.75 * field[0], 2.0 * field[1])) >= 1
        assert one.copies((0.1 * field[0], field[1])) == 0


def test_a_scene_of_files_becomes_images(tmp_path):
    (tmp_path / "tiny.pdb").write_text(PDB)
    made = procedural_macromolecule(100.0).volume((40, 40, 40), 5.0, b_factor=200.0)
    write_mrc(tmp_path / "map.mrc", made.numpy(), 5.0)
    (tmp_path / "scene.toml").write_text(
        """
        [[species]]
        structure = "tiny.pdb"
        count = 2
        [[species]]
        map = "map.mrc"
        name = "complex"
        mass_kda = 100
        per_um3 = 40000
        [[species]]
        mass_kda = 60
        variant = 2
        [[membranes]]
        shape = "vesicle"
        radius_angstrom = [100, 110]
        proteins = [{ species = "macromolecule_60kDa_2", per_um2 = 2000 }]
        [film]
        thickness_angstrom = 400
        gradient = [0.1, 0]
        [microscope]
        image_size_px = [64, 64]
        pixel_size_angstrom = 8.0
        frames = 1
        tilt_step_deg = 60
        """
    )
    scene = read_scene(tmp_path / "scene.toml")
    species = scene_species(scene, tmp_path)
    assert [s.name for s in species] == ["tiny", "complex", "macromolecule_60kDa_2"]
    assert species[1].mass_kda == 100.0
    series = SimulatedSeries.build(scene.params(tilt_step_deg=30.0), species, scene=scene)
    assert len(series.acquisition.geometry) == 5
    assert series.film.gradient == (0.1, 0.0)
    assert len(series.specimen.members("membrane", 0)) > 0
    movie = series.movie(2)
    np.testing.assert_array_equal(
        movie, SimulatedSeries.build(scene.params(tilt_step_deg=30.0), species, scene=scene).movie(2)
    )
    assert movie.shape == (1, 64, 64)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[flim]\nthickness_angstrom = 500", "no table called `flim`. Did you mean `film`"),
        ("[film]\nthicknes_angstrom = 500", "no setting called `thicknes_angstrom`. Did you mean `thickness_angstrom`"),
        ("[film]\nthickness_angstrom = 20", "table .film. of `.*` ?; expected a number greater than 50"),
        ("[[species]]\nmas_kda = 900", "number 1 of `.*has no setting called `mas_kda`. Did you mean `mass_kda`"),
        ("[[species]]\ncount = 3", "a species needs a structure, a map or"),
        ("[species]\nmass_kda = 900", r"Write \[\[species\]\]"),
        ("[[membranes]]\nshape = 'cube'", "expected one of"),
        ("[[membranes]]\nshape = 'tube'\nproteins = [{ specie = 'x', per_um2 = 1 }]", "Did you mean `species`"),
        ("[[filaments]]\nkind = 'actin'\nspecies = 'x'", "no species called x"),
        ("[microscope]\nthickness_angstrom = 500", "is a setting of the specimen"),
        ("[microscope]\npixel_size = 5", "Did you mean `pixel_size_angstrom`"),
        ("beads = 4", "expected a table"),
    ],
)
def test_unknown_and_unfit_settings_are_named(tmp_path, text, words):
    path = tmp_path / "scene.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_scene(path)


def test_files_that_hold_no_species_are_named(tmp_path):
    (tmp_path / "empty.pdb").write_text("END\n")
    write_mrc(tmp_path / "flat.mrc", np.zeros((8, 8, 8), np.float32), 5.0)

    def species_of(text):
        (tmp_path / "scene.toml").write_text(f"[[species]]\n{text}")
        return scene_species(read_scene(tmp_path / "scene.toml"), tmp_path)

    with pytest.raises(FormatError, match=r"empty\.pdb` holds no atom"):
        species_of("structure = 'empty.pdb'")
    with pytest.raises(InputError, match=r"missing\.pdb` does not exist"):
        species_of("structure = 'missing.pdb'")
    with pytest.raises(InputError, match=r"flat\.mrc`: .*mass_kda or a threshold"):
        species_of("map = 'flat.mrc'")
    with pytest.raises(InputError, match=r"flat\.mrc`: .*nothing above"):
        species_of("map = 'flat.mrc'\nthreshold = 1.0")
    with pytest.raises(InputError, match="does not exist"):
        read_scene(tmp_path / "nothing.toml")
    (tmp_path / "bad.toml").write_text("[[species]\n")
    with pytest.raises(FormatError, match="Expected TOML"):
        read_scene(tmp_path / "bad.toml")

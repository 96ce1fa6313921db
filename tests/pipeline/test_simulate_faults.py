"""What goes wrong in a simulation: specimens that cannot be, full disks, interruption."""

import signal

import pytest
import tifffile
from disturbances import enlarge, interrupt_when, small_disk, started

from eucentric.io.mrc import read_mrc
from eucentric.io.truth import read_truth

TINY = [
    *("--image-size-px", "96", "80", "--frames", "2", "--tilt-step-deg", "20", "--thickness-angstrom", "600"),
    *("--vesicles", "0", "--macromolecules-kda", "300", "--particles-per-species", "1", "--beads", "0"),
]
PLACES = ("--tilt-step-deg", "60", "--image-size-px", "80", "64", "--frames", "1")
SCENE = """\
[[species]]
name = "one"
mass_kda = 300
count = 1
[film]
thickness_angstrom = 500
"""


@pytest.mark.parametrize(
    ("scene", "words"),
    [
        (SCENE + "thicknes_angstrom = 500\n", "Did you mean `thickness_angstrom`"),
        (SCENE.replace("mass_kda", "mas_kda"), "Did you mean `mass_kda`"),
        (SCENE + "[microscope]\npixel_size = 4\n", "Did you mean `pixel_size_angstrom`"),
        (SCENE + "[[membrane]]\nshape = 'tube'\n", "Did you mean `membranes`"),
        (SCENE.replace("300", "9000").replace("500", "150"), "does not fit into ice of 150 A"),
        (SCENE.replace("count = 1", "count = 500"), "No room for more than"),
        (SCENE.replace("mass_kda = 300", "structure = 'empty.pdb'"), "empty.pdb"),
        (SCENE.replace("mass_kda = 300", "structure = 'none.pdb'"), "none.pdb"),
        (SCENE + "[microscope]\nvesicles = 3\n", "setting of the specimen"),
        ("film = 3", "expected a table"),
        ("[film", "not a scene that can be read"),
    ],
)
def test_scenes_that_cannot_be_are_explained(program, tmp_path, scene, words):
    (tmp_path / "empty.pdb").write_text("REMARK nothing here\nEND\n")
    (tmp_path / "scene.toml").write_text(scene)
    code, out, err = program("simulate", tmp_path / "new", "--scene", tmp_path / "scene.toml", *PLACES)
    assert code == 2
    assert words in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "lamela"], "Did you mean `lamella`"),
        (["--preset", "crowded", "--scene", "a.toml"], "expected one of them"),
        (["--preset", "crowded", "--structure", "a.pdb"], "names the files of its species itself"),
        (["--preset", "crowded", "--vesicles", "2"], "`vesicles` belongs to the scene"),
        (["--preset", "crowded", "--thickness-angstrom", "90"], "does not fit into ice of"),
        (["--scene", "none.toml"], "none.toml"),
        (["--map"], "--map is without a file"),
        (["--map", "none.mrc"], "--map-mass-kda has 0 masses for `none.mrc`"),
        (["--map", "none.mrc", "--map-mass-kda", "300"], "none.mrc"),
        (["--map-mass-kda", "300"], "1 masses for no map"),
        (["--structure", "EMPTY"], "EMPTY"),
        (["--like", "nowhere"], "nowhere"),
        (["--like-series", "TS_01"], "--like"),
        (["--truth-voxel-size", "0"], "voxels of the truth are 0 A"),
        (["--truth", "everything"], "everything"),
    ],
)
def test_wrong_options_are_explained(program, tmp_path, arguments, words):
    empty = tmp_path / "empty.pdb"
    empty.write_text("END\n")
    given = [a.replace("EMPTY", str(empty)) for a in arguments]
    code, out, err = program("simulate", tmp_path / "new", *given, *PLACES)
    assert code == 2
    assert words.replace("EMPTY", str(empty)) in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "new").exists()


def test_settings_go_before_those_of_a_scene(program, tmp_path):
    (tmp_path / "scene.toml").write_text(SCENE + "[microscope]\nframes = 7\ndose_per_tilt = 2.5\nseed = 4\n")
    wanted = ("--thickness-angstrom", "444", "--truth", "all", "--truth-voxel-size", "25", "--truth-twice")
    code, _, err = program("simulate", tmp_path / "new", "--scene", tmp_path / "scene.toml", *PLACES, *wanted)
    assert code == 0, err
    for ending, voxel in (("", 25.0), ("_2x", 12.5)):
        assert read_mrc(tmp_path / "new" / f"volumes{ending}" / "TS_01_labels.mrc")[1].pixel_size_angstrom == voxel
        clean, header = read_mrc(tmp_path / "new" / f"clean{ending}" / "TS_01.mrc")
        assert clean.shape[1:] == ((64, 80) if voxel == 25.0 else (128, 160))
        assert header.pixel_size_angstrom == voxel / 5.0
    truth = read_truth(tmp_path / "new" / "TS_01_truth.json")
    assert (truth.dose, truth.thickness_angstrom, truth.settings["seed"]) == (2.5, 444.0, 4)
    assert truth.motion_angstrom.shape == (3, 1, 2)
    assert truth.settings["species"] == ["one"]
    assert set(truth.settings["label_names"].values()) == {"nothing", "one"}


def test_a_map_of_a_known_mass_is_a_species(program, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    assert program("simulate", first, *TINY, "--tilt-angles-deg", "0")[0] == 0
    (reference,) = first.glob("references/*.mrc")
    given = ("--map", reference, "--map-mass-kda", "300")
    code, _, err = program("simulate", again, *TINY, "--tilt-angles-deg", "0", *given)
    assert code == 0, err
    truth = read_truth(again / "TS_01_truth.json")
    assert truth.settings["species_kda"] == [300.0]
    code, _, err = program("simulate", tmp_path / "no", *TINY, "--map", reference, "--map-mass-kda", "-3")
    assert code == 2
    assert "expected a positive mass" in err


def whole_movies(folder):
    """Frames in every movie that is there; none is half-written and no trace of one is left."""
    assert not list(folder.rglob("*.partial*"))
    return [tifffile.imread(path).shape for path in folder.glob("frames/*.tif")]


def test_a_disk_that_fills_up_leaves_whole_movies_and_no_truth(program, tmp_path):
    disk, whole = tmp_path / "disk", tmp_path / "whole"
    assert program("simulate", whole, *TINY)[0] == 0
    pages = [-(-path.stat().st_size // 4096) for path in (whole / "gain.mrc", *whole.glob("references/*"))]
    movie = max(-(-path.stat().st_size // 4096) for path in whole.glob("frames/*"))
    with small_disk(disk, f"size={4 * (sum(pages) + 4 * movie + 4)}k"):
        code, out, err = program("simulate", disk / "data", *TINY)
        assert code == 2
        assert "The disk that holds" in err
        movies = whole_movies(disk / "data")
        assert 0 < len(movies) < 7
        assert set(movies) == {(2, 80, 96)}
        assert "movies in" in err
        assert "run again with --overwrite" in err
        assert not list((disk / "data").glob("*_truth.json"))
        enlarge(disk, "4m")
        code, out, err = program("simulate", disk / "data", *TINY, "--overwrite")
        assert code == 0, err
        assert "7 movies" in out
        assert len(whole_movies(disk / "data")) == 7
        # all is there but room for the volumes
        assert program("simulate", disk / "more", *TINY)[0] == 0
        code, _, err = program("simulate", disk / "more", *TINY, "--overwrite", "--truth", "volumes", "--truth-twice")
        assert code == 2
        assert "The 7 movies" in err
        for path in (disk / "more").glob("volumes*/*.mrc"):
            read_mrc(path)
        assert not list((disk / "more").rglob("*.partial*"))
        assert not (disk / "more" / "TS_01_truth.json").exists()


def test_an_interrupted_simulation_leaves_whole_movies(environment, tmp_path):
    folder = tmp_path / "data"
    given = ["--image-size-px", "256", "256", "--particles-per-species", "2", "3", "--vesicles", "0", "--beads", "0"]
    with started(["-m", "eucentric", "simulate", str(folder), *given], environment) as process:
        interrupt_when(lambda: len(list(folder.glob("frames/*.tif"))) >= 2, process, signal.SIGINT)
        assert process.wait(timeout=60) == 130
        told = process.stdout.read()
    assert "Stopped. The" in told
    assert "are whole, and 0 series" in told
    assert "Traceback" not in told
    movies = whole_movies(folder)
    assert 2 <= len(movies) < 41
    assert set(movies) == {(4, 256, 256)}
    assert not (folder / "TS_01_truth.json").exists()

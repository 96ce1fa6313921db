"""`eucentric curate`, and the commands that take what was curated."""

import json

import numpy as np
import pytest
from curated_project import PICKS, with_tomograms, write_picks

from eucentric.errors import InputError
from eucentric.io.particles import read_particles
from eucentric.pipeline.curation_lists import choose_list, is_unoriented, without_left_out
from eucentric.pipeline.curation_picks import AddPick, DeletePick
from eucentric.pipeline.curation_session import Curation
from eucentric.pipeline.curation_tilts import ExcludeSeries
from eucentric.pipeline.extract_series import list_of
from eucentric.pipeline.learned_files import tomograms_to_use
from eucentric.pipeline.plan import PLAN_FILE, read_exclusions
from eucentric.pipeline.train_picker_files import read_labels


@pytest.fixture
def root(tmp_path):
    place = with_tomograms(tmp_path / "project")
    (place / PLAN_FILE).write_text("plan_version = 1\n")  # that of the toys has tables of stages that are none of ours
    write_picks(place)
    return place


def curate(program, root, *options):
    code, out, errors = program("curate", root, *options)
    assert code == 0, errors
    return out


def test_edits_at_the_command_line(program, root):
    assert "Nothing was curated" in curate(program, root)
    out = curate(program, root, "--exclude", "TS_01", "--tilt", "-6", "--reason", "ice", "--user", "ana")
    assert "left out the tilt of TS_01 at -6 degrees: ice." in out
    assert f"Next: eucentric run {root}" in out
    curate(program, root, "--exclude", "TS_02")
    curate(program, root, "--rate", "TS_01", "4", "--reason", "thin")
    out = curate(program, root, "--picks", "seven", "--tomogram", "TS_01", "--add", "-1", "2.5", "-3")
    assert f"Wrote {root / 'pick' / 'seven' / 'particles_curated.star'}." in out
    curate(program, root, "--picks", "seven", "--tomogram", "TS_01", "--move", "TS_01/c4", "--to", "11", "2", "-3")
    curate(program, root, "--picks", "seven", "--tomogram", "TS_01", "--delete", "TS_01/2")
    assert "Undone: deleted TS_01/2 of seven" in curate(program, root, "--undo")
    assert "Done again: deleted TS_01/2 of seven" in curate(program, root, "--redo")
    curate(program, root, "--include", "TS_02")
    curate(program, root, "--undo")
    assert [(e.series, e.angle) for e in read_exclusions(root)] == [("TS_01", -6.0), ("TS_02", None)]
    shown = curate(program, root)
    assert "took back" not in shown
    assert "  ana  left out the tilt" in shown
    assert "took back the tilt series TS_02  (undone)" in curate(program, root, "--log")
    entries = json.loads(curate(program, root, "--json").splitlines()[-1])["entries"]
    assert [e["number"] for e in entries] == list(range(1, 11))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--undo"], "nothing to undo"),
        (["--undo", "--redo"], "Several things"),
        (["--exclude", "TS_01", "--rate", "TS_01", "3"], "Several things"),
        (["--tilt", "3"], "give --exclude SERIES"),
        (["--exclude", "TS_01", "--acquisition", "2"], "give --tilt DEGREES"),
        (["--include", "TS_01", "--reason", "thin"], "--reason belongs to"),
        (["--add", "0", "0", "0"], "--picks NAME --tomogram NAME"),
        (["--picks", "seven", "--tomogram", "TS_01"], "What is to be done"),
        (["--picks", "seven", "--tomogram", "TS_01", "--move", "TS_01/1"], "belong together"),
        (["--picks", "seven", "--tomogram", "TS_01", "--add", "nan", "0", "0"], "a finite number"),
        (["--rate", "TS_01", "9"], "at most 5"),
    ],
)
def test_wrong_input_is_explained(program, root, options, words):
    code, _, errors = program("curate", root, *options)
    assert code == 2
    assert words in errors


def test_a_damaged_line_is_told(program, root):
    curate(program, root, "--rate", "TS_01", "4")
    with (root / "curation" / "log.jsonl").open("a") as log:
        log.write('{"number": 2, "ti')
    assert "Passed over in curation/log.jsonl: line 2" in curate(program, root, "--log")


def test_commands_on_a_project_take_the_list_with_edits_and_name_it(root):
    assert list_of(root) == root / "pick" / "seven" / "particles.star"
    assert choose_list(root).lines == (f"Particles of `{root}/pick/seven/particles.star`.",)
    own = Curation(root, "ana")
    own.do(AddPick(tomogram="TS_01", picks="seven", position=(1.0, 2.0, 3.0)))
    own.do(DeletePick(tomogram="TS_01", picks="seven", pick="TS_01/1"))
    path = root / "pick" / "seven" / "particles_curated.star"
    assert list_of(root) == path
    chosen = choose_list(root)
    assert chosen.path == path
    assert "(1 added, 0 moved and 1 deleted by hand; particles.star stays as it was)" in chosen.lines[0]
    assert chosen.lines[1].startswith("1 of those added have no orientation yet")
    particles = read_particles(path)
    assert is_unoriented(particles).tolist() == [False, False, False, True]
    assert len(read_labels(choose_list(root).path, root)) == 4  # for training
    given = root / "pick" / "seven" / "particles.star"
    assert choose_list(given).path == given  # a list that is named is taken as it is


def test_the_list_with_edits_is_made_again_where_it_is_gone(root):
    Curation(root, "ana").do(DeletePick(tomogram="TS_01", picks="seven", pick="TS_01/1"))
    path = root / "pick" / "seven" / "particles_curated.star"
    path.unlink()
    assert list_of(root) == path
    assert len(read_particles(path)) == sum(map(len, PICKS.values())) - 1


def test_several_lists_must_be_told_apart(root):
    write_picks(root, "other")
    with pytest.raises(InputError, match=r"has 2 lists of picks \(other, seven\)"):
        list_of(root)


def test_particles_of_a_series_that_is_left_out_are_not_used(root):
    own = Curation(root, "ana")
    own.do(ExcludeSeries(series="TS_02", reason="broken"))
    assert choose_list(root).lines[1] == "1 particles of TS_02 are left out with their series: broken."
    particles = read_particles(list_of(root))
    table = root / "ctf" / "tilt_series.star"
    assert np.unique(without_left_out(particles, table).tomograms).tolist() == ["TS_01"]
    assert [one.name for one in tomograms_to_use(root, None)] == ["TS_01"]
    assert len(tomograms_to_use(root / "reconstruct" / "tilt_series.star", None)) == 2  # a table that is named
    own.do(ExcludeSeries(series="TS_01"))
    with pytest.raises(InputError, match="All tomograms of"):
        tomograms_to_use(root, None)
    with pytest.raises(InputError, match="All particles lie in tilt series that are left out"):
        without_left_out(particles, table)


def test_particles_are_selected_by_the_rating_of_their_tomogram(program, root, tmp_path):
    source, target = root / "pick" / "seven" / "particles.star", tmp_path / "good.star"
    code, _, errors = program("particles", "select", source, "--min-rating", "3", "--output", target)
    assert code == 2
    assert "Give --ratings TABLE" in errors
    curate(program, root, "--rate", "TS_01", "4")
    curate(program, root, "--rate", "TS_02", "2")
    code, _, errors = program("particles", "select", source, "--min-rating", "3", "--output", target)
    assert code == 0, errors
    assert np.unique(read_particles(target).tomograms).tolist() == ["TS_01"]

"""PyTom projection lists, whole and damaged."""

import numpy as np
import pytest

from eucentric.errors import FormatError, InputError
from eucentric.io import read_projection_list, write_em

ENTRY = '<Projection TiltAngle="{angle}" OffsetX="{x}" OffsetY="-1.5" Filename="{name}" {more}/>'


def write_list(folder, *entries, root="ProjectionList"):
    path = folder / "list.xml"
    path.write_text(f"<{root}>" + "".join(entries) + f"</{root}>")
    return path


def entry(angle=-3.0, x=0.25, name="./elsewhere/p_0.em", more=""):
    return ENTRY.format(angle=angle, x=x, name=name, more=more)


@pytest.fixture
def folder(tmp_path):
    write_em(tmp_path / "p_0.em", np.zeros((4, 6), dtype=np.float32))
    return tmp_path


def test_angles_offsets_and_files_are_read(folder):
    first, second = read_projection_list(write_list(folder, entry(), entry(angle=6, name="p_0.em")))
    assert first.tilt_deg == -3.0
    assert first.offset_px == (0.25, -1.5)
    assert first.path == second.path == folder / "p_0.em"  # the path of another machine: found by its name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<ProjectionList><Projection", "is not XML"),
        ("<ParticleList/>", "its root is <ParticleList>"),
        ("<ProjectionList/>", "not a PyTom projection list"),
    ],
)
def test_other_files_are_refused(folder, text, words):
    (folder / "list.xml").write_text(text)
    with pytest.raises(FormatError, match=words):
        read_projection_list(folder / "list.xml")


def test_missing_files_and_odd_values_are_named(folder):
    with pytest.raises(InputError, match="There is no projection list"):
        read_projection_list(folder / "none.xml")
    with pytest.raises(InputError, match=r"Projection 2 of .* neither there nor beside the list"):
        read_projection_list(write_list(folder, entry(), entry(name="p_1.em")))
    with pytest.raises(FormatError, match=r"Projection 1 .* TiltAngle='steep'"):
        read_projection_list(write_list(folder, entry(angle="steep")))
    with pytest.raises(FormatError, match="not yet aligned"):
        read_projection_list(write_list(folder, entry(more='AlignmentAngle="84.5"')))

"""Files that are known but not read are refused by name, with a way that works; all others are not."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from eucentric.io.amira import write_amira_volume
from eucentric.io.refused_formats import refusal


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.ORSObject", b"", ("Dragonfly", "TIFF or MRC", "STL or PLY")),
        ("a.ORSSession", b"", ("session of Dragonfly",)),
        ("a.pkl", b"", ("pickle", "any code", "Export")),
        ("a.dat", pickle.dumps({"a": 1}), ("pickle",)),
        ("a.dat", pickle.dumps([1, 2], protocol=2), ("pickle",)),
        ("a.mat", b"", ("MATLAB", "writematrix", "dwrite")),
        ("a.tab", b"MATLAB 5.0 MAT-file, Platform", ("MATLAB",)),
        ("a.i3t", b"", ("Protomo", 'geom(1).write("x.tlt")')),
        ("a.surf", b"# HyperSurface 0.1 BINARY\n", ("binary surface of Amira", "HxSurface ASCII")),
        ("a.am", b"# AmiraMesh BINARY-LITTLE-ENDIAN 2.1 <hxsurface>\n", ("binary surface of Amira",)),
        ("a.hx", b"# Amira Script\n", ("project of Amira", ".am, .surf")),
        ("a.star", b"data_\nloop_\n_particle.id\n_particle.view_x\n", ("Jsubtomo", "view vector", "ConvertStar")),
        ("jsubtomo_out.star", b"data_\n", ("Jsubtomo",)),
    ],
)
def test_each_is_refused_with_the_way_that_works(
    tmp_path: Path, name: str, content: bytes, words: tuple[str, ...]
) -> None:
    place = tmp_path / name
    place.write_bytes(content)
    said = refusal(place)
    assert said is not None
    assert name in said
    for word in words:
        assert word in said
    assert said.count(". ") <= 2  # three sentences at most


def test_what_is_read_is_not_refused(tmp_path: Path) -> None:
    write_amira_volume(tmp_path / "v.am", np.zeros((2, 2, 2), np.float32), 2.0)
    (tmp_path / "a.surf").write_text("# HyperSurface 0.1 ASCII\n")
    (tmp_path / "r.star").write_text("data_particles\nloop_\n_rlnCoordinateX #1\n1\n")
    (tmp_path / "b.mrc").write_bytes(bytes(1024))
    (tmp_path / "u.bin").write_bytes(b"\x80\x03abc")
    for name in ("v.am", "a.surf", "r.star", "b.mrc", "u.bin", "absent.tlt"):
        assert refusal(tmp_path / name) is None
    assert refusal(tmp_path) is None


def test_a_name_alone_is_enough(tmp_path: Path) -> None:
    assert refusal(tmp_path / "not_there.ORSObject") is not None
    assert refusal("x/y.PKL") is not None

"""Scripts of ChimeraX: where it would put tomogram, markers, lists and meshes."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from eucentric.errors import InputError
from eucentric.geometry import Rotation
from eucentric.io.chimerax import ChimeraxMap, ChimeraxMesh, write_chimerax_session_script
from eucentric.io.star import read_star
from eucentric.models import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame

FRAME = TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(120, 101, 50))


def particles():
    return ParticleSet.build(
        ["TS_01", "TS_02", "TS_01"],
        [[100.0, -200, 55], [8, 16, -24], [0, 0, 0]],
        rotations=Rotation.from_relion([20.0, 5, 77], [35.0, 90, 144], [-110.0, 0, 178]).matrices,
        kinds=["70S <ribosome>", "x", "proteasome"],
    )


def write(folder, **more):
    folder.mkdir(exist_ok=True)
    volume, mesh = folder / "TS_01.mrc", folder / "membrane.glb"
    return write_chimerax_session_script(
        folder / "TS_01.cxc",
        "TS_01",
        FRAME,
        **{"volume": volume, "particles": particles(), "meshes": [ChimeraxMesh(path=mesh)], **more},
    )


def test_markers_lie_where_the_voxels_of_the_volume_do(tmp_path):
    """With voxelSize and originIndex 0,0,0 ChimeraX has voxel i at i times the voxel size."""
    files = write(tmp_path)
    assert [f.name for f in files] == [
        "TS_01.cxc",
        "TS_01_70S-ribosome.cmm",
        "TS_01_proteasome.cmm",
        "TS_01_artiax.cxc",
        "TS_01_artiax.star",
    ]
    lines = files[0].read_text().splitlines()
    assert 'open "TS_01.mrc" id 1' in lines
    assert "volume #1 voxelSize 10 originIndex 0,0,0" in lines
    tree = ElementTree.parse(files[1]).getroot()
    assert (tree.tag, tree.get("name")) == ("marker_set", "70S <ribosome>")
    (marker,) = tree.findall("marker")
    index = np.array([60, 50, 25]) + np.array([100.0, -200, 55]) / 10.0
    assert [float(marker.get(a)) for a in "xyz"] == pytest.approx((index * 10).tolist())
    assert float(marker.get("radius")) == 50.0
    assert all(0 <= float(marker.get(c)) <= 1 for c in "rgb")


def test_meshes_about_the_specimen_centre_are_moved_there(tmp_path):
    stl = ChimeraxMesh(path=tmp_path / "a.stl", from_centre=False, color="red")
    files = write(tmp_path, meshes=[ChimeraxMesh(path=tmp_path / "m.glb"), stl])
    text = files[0].read_text()
    matrices = re.findall(r"view matrix models #(\d+),(\S+)", text)
    assert [number for number, _ in matrices] == ["4", "5"]
    first, second = (np.array([float(v) for v in m.split(",")]).reshape(3, 4) for _, m in matrices)
    np.testing.assert_allclose(first, np.c_[np.eye(3), [600, 500, 250]])
    np.testing.assert_allclose(second, np.c_[np.eye(3), [0, 0, 0]])
    assert "color #5 red" in text
    assert "color #4" not in text
    numbers = re.findall(r" id (\d+)", text)
    assert len(set(numbers)) == len(numbers) == 5


def test_the_list_is_one_that_artiax_reads(tmp_path):
    """RELIONParticleData: the first loop with rlnCoordinateZ, origins subtracted, in voxels times originScaleFactor."""
    files = write(tmp_path, particle_map=ChimeraxMap(path=tmp_path / "map.mrc", level=0.25))
    table = next(t for t in read_star(files[-1]).values() if "rlnCoordinateZ" in t)
    script = files[-2].read_text()
    scale = float(re.search(r"originScaleFactor (\S+)", script).group(1))
    place = [scale * (table[f"rlnCoordinate{a}"][0] - table[f"rlnOrigin{a}"][0]) for a in "XYZ"]
    markers = ElementTree.parse(files[1]).getroot().find("marker")
    assert place == pytest.approx([float(markers.get(a)) for a in "xyz"])
    assert len(table) == 2
    assert script.splitlines()[1] == "artiax start"
    for text in ("format relion", "artiax attach #50 toParticleList #1.2.1", "surfaceLevel 0.25", "pixelSize 10"):
        assert text in script


def test_only_what_is_there_is_opened(tmp_path):
    files = write(tmp_path, volume=None, particles=None)
    assert [f.name for f in files] == ["TS_01.cxc"]
    assert "volume" not in files[0].read_text()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"volume": None, "particles": None, "meshes": []}, "nothing of TS_01"),
        ({"radius_angstrom": float("nan")}, "radius"),
    ],
)
def test_what_cannot_be_shown_is_refused(tmp_path, more, words):
    with pytest.raises(InputError, match=words):
        write(tmp_path, **more)


def test_files_that_chimerax_does_not_open_are_refused(tmp_path):
    with pytest.raises(InputError, match="MRC"):
        write(tmp_path, volume=tmp_path / "TS_01.zarr")
    with pytest.raises(InputError, match="as a mesh"):
        write(tmp_path, meshes=[ChimeraxMesh(path=tmp_path / "a.txt")])
    with pytest.raises(InputError, match="quotation mark"):
        write(tmp_path, volume=tmp_path / 'a"b.mrc')
    with pytest.raises(InputError, match=r"\.cxc"):
        write_chimerax_session_script(tmp_path / "x.txt", "TS_01", FRAME, particles=particles())
    clash = particles().with_kinds(["a b", "x", "a_b"])
    with pytest.raises(InputError, match="Two kinds"):
        write(tmp_path, particles=clash)

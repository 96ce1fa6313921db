"""`eucentric validate`: each sickness is told with its severity, healthy files of every kind are not objected to."""

import gzip
import json

import numpy as np
import pytest
from mrcfile.dtypes import HEADER_DTYPE, get_ext_header_dtype

from eucentric.cli import main
from eucentric.io.mrc import write_mrc
from eucentric.io.validate import FILE_KINDS, kind_by_content, validate_all, validate_file
from eucentric.io.volumes import read_volume, write_volume

SHAPE = (8, 6, 5)


def scene(dtype=np.float32):
    return (np.arange(np.prod(SHAPE)).reshape(SHAPE) + 1).astype(dtype)


def raw_mrc(values, mode=2, order="<", extended=b"", **changes):
    header = np.zeros((), dtype=HEADER_DTYPE.newbyteorder(order))
    nz, ny, nx = values.shape
    numbers = {
        "nx": nx,
        "ny": ny,
        "nz": nz,
        "mode": mode,
        "mx": nx,
        "my": ny,
        "mz": nz,
        "mapc": 1,
        "mapr": 2,
        "maps": 3,
    }
    for name, value in (numbers | {"ispg": 1, "nsymbt": len(extended)}).items():
        header[name] = value
    header["cella"], header["cellb"] = (nx * 2.0, ny * 2.0, nz * 2.0), (90.0, 90.0, 90.0)
    header["map"], header["machst"] = b"MAP ", (0x44, 0x44, 0, 0) if order == "<" else (0x11, 0x11, 0, 0)
    header["dmin"], header["dmax"], header["dmean"] = values.min(), values.max(), values.mean()
    for name, value in changes.items():
        header[name] = value
    return header.tobytes() + extended + values.astype(values.dtype.newbyteorder(order)).tobytes()


def found(path):
    return [(f.severity, f.text) for f in validate_file(path)]


def only(path, severity, words):
    """The one finding, of this severity and with these words."""
    told = found(path)
    assert [s for s, _ in told] == [severity], told
    assert words in told[0][1], told
    assert str(path) in told[0][1]
    return told[0][1]


def test_a_healthy_mrc_file_has_no_finding(tmp_path):
    (tmp_path / "a.mrc").write_bytes(raw_mrc(scene()))
    (tmp_path / "b.mrc").write_bytes(raw_mrc(scene(), order=">"))
    assert found(tmp_path / "a.mrc") == found(tmp_path / "b.mrc") == []
    for dtype in ("float32", "float16", "int8", "int16"):
        write_mrc(tmp_path / "c.mrc", scene(), 4.0, dtype)
        assert found(tmp_path / "c.mrc") == []


def holed():
    values = scene()
    values[2, 1, 1] = np.inf
    return values


def half_empty():
    values = scene()
    values[4:] = 0
    return values


def fei(metres, kind="FEI1"):
    record = np.zeros((), get_ext_header_dtype(kind.encode(), "<"))
    record["Metadata size"] = record.dtype.itemsize
    record["Pixel size X"] = metres
    return record.tobytes() * SHAPE[0]


@pytest.mark.parametrize(
    ("raw", "severity", "words"),
    [
        (raw_mrc(scene(), map=b""), "warning", "no MAP word"),
        (raw_mrc(scene(), machst=(0x11, 0x11, 0, 0)), "warning", "machine stamp of big-endian"),
        (raw_mrc(scene(), nsymbt=800), "warning", "has none"),
        (raw_mrc(scene(), nsymbt=80), "warning", "has none"),
        (raw_mrc(scene(), extended=bytes(100), exttyp=b"CCP4"), "warning", "80 each"),
        (raw_mrc(scene(), extended=bytes(80), exttyp=b"WXYZ"), "note", "WXYZ"),
        (raw_mrc(scene(), extended=fei(4e-10), exttyp=b"FEI1"), "warning", "4 A in its extended header"),
        (raw_mrc(scene(), extended=fei(4e-10, "FEI2"), exttyp=b"FEI2"), "warning", "4 A in its extended header"),
        (raw_mrc(scene(), extended=bytes(768), exttyp=b"FEI1"), "warning", "damaged"),
        (raw_mrc(scene(), cella=(5.0, 6.0, 8.0)), "note", "exactly 1 A"),
        (raw_mrc(scene(), cella=(10.0, 12.0, 32.0)), "warning", "2 x 2 x 4 A"),
        (raw_mrc(scene(), cella=(1e-3, 1.2e-3, 1.6e-3)), "warning", "Check the unit"),
        (raw_mrc(scene(), cellb=(90, 90, 120)), "warning", "120 degrees"),
        (raw_mrc(scene(), ispg=401, mz=4, cella=(10.0, 12.0, 8.0)), "warning", "2 volumes of 4 sections"),
        (raw_mrc(scene(), ispg=19), "note", "space group 19"),
        (raw_mrc(scene(), origin=(50, 0, 0), nxstart=-4), "warning", "by its first indices"),
        (raw_mrc(scene(), origin=(np.nan, 0, 0)), "warning", "an origin"),
        (raw_mrc(scene(), dmin=0, dmax=5), "warning", "run from 1 to 240"),
        (raw_mrc(scene(), dmean=2.0), "note", "mean is 2"),
        (raw_mrc(holed(), dmin=0, dmax=-1), "error", "1 values that are not numbers"),
        (raw_mrc(half_empty()), "warning", "last 4 of 8 sections"),
        (raw_mrc(scene() * 0 + 7), "warning", "7 in every voxel"),
        (raw_mrc(scene()) + b"xyz", "warning", "3 bytes after its last voxel"),
        (raw_mrc(scene())[:-100], "error", "ends after section 7 of 8"),
        (raw_mrc(scene(), mode=4), "error", "complex"),
        (raw_mrc(scene(), nx=-5), "error", "-5"),
        (raw_mrc(scene(), mapc=3, mapr=2, maps=1), "warning", "in the order (3, 2, 1)"),
        (raw_mrc(scene(), nlabl=99), "warning", "99 labels"),
    ],
)  # fmt: skip
def test_every_sickness_of_mrc_is_told_once(tmp_path, raw, severity, words):
    (tmp_path / "a.mrc").write_bytes(raw)
    only(tmp_path / "a.mrc", severity, words)
    (tmp_path / "a.mrc.gz").write_bytes(gzip.compress(raw))
    only(tmp_path / "a.mrc.gz", severity, words)


def test_the_sign_of_bytes_is_doubted_where_nothing_tells_it(tmp_path):
    smooth = np.linspace(60, 200, SHAPE[2] * 8).astype(np.uint8)
    values = np.broadcast_to(smooth, (2, 6, len(smooth))).copy()
    (tmp_path / "a.mrc").write_bytes(raw_mrc(values, mode=0, dmin=60, dmax=200))
    only(tmp_path / "a.mrc", "note", "without one is assumed")
    (tmp_path / "b.mrc").write_bytes(raw_mrc(values, mode=0, dmin=0, dmax=-1))
    only(tmp_path / "b.mrc", "warning", "as if they had none")
    # with IMOD's stamp there is nothing to doubt
    raw = bytearray(raw_mrc(values, mode=0))
    raw[152:160] = np.array([1146047817, 0], "<i4").tobytes()
    (tmp_path / "c.mrc").write_bytes(raw)
    assert found(tmp_path / "c.mrc") == []
    noise = np.random.default_rng(0).integers(-100, 100, SHAPE).astype(np.int8)
    (tmp_path / "d.mrc").write_bytes(raw_mrc(noise, mode=0))
    assert found(tmp_path / "d.mrc") == []


def test_the_name_of_a_stack_and_of_a_volume(tmp_path):
    (tmp_path / "a.rec").write_bytes(raw_mrc(scene(), ispg=0))
    only(tmp_path / "a.rec", "note", "marked as a stack")
    (tmp_path / "a.st").write_bytes(raw_mrc(scene()))
    only(tmp_path / "a.st", "note", "marked as a volume")


def test_angles_beside_a_stack_are_counted(tmp_path):
    (tmp_path / "a.st").write_bytes(raw_mrc(scene(), ispg=0))
    (tmp_path / "a.rawtlt").write_text("".join(f"{i}\n" for i in range(8)))
    assert found(tmp_path / "a.st") == []
    (tmp_path / "a.rawtlt").write_text("1\n2\n")
    only(tmp_path / "a.st", "warning", "2 angles")
    (tmp_path / "a.rawtlt").write_text("x\n")
    assert [s for s, _ in found(tmp_path / "a.st")] == ["warning"]


def em(order, machine, code=5, extra=b""):
    head = bytearray(512)
    head[0], head[3] = machine, code
    head[4:16] = np.array(SHAPE[::-1], f"{order}i4").tobytes()
    return bytes(head) + scene(f"{order}f4").tobytes() + extra


def test_sick_em_files(tmp_path):
    path = tmp_path / "a.em"
    for order, machine in (("<", 6), (">", 5)):
        path.write_bytes(em(order, machine))
        assert found(path) == []
        np.testing.assert_array_equal(read_volume(path)[0], scene())
    for order, machine in (("<", 5), (">", 6)):  # the machine is wrong, the sizes tell
        path.write_bytes(em(order, machine))
        only(path, "warning", "other order of bytes")
        np.testing.assert_array_equal(read_volume(path)[0], scene())
    path.write_bytes(em("<", 6, code=8))
    only(path, "error", "complex")
    path.write_bytes(em("<", 6, extra=b"abc"))
    only(path, "warning", "3 bytes after")
    path.write_bytes(em("<", 6)[:-4])
    only(path, "error", "ends after section 7 of 8")


def mdoc(count=8, pixel=2.0):
    sections = "".join(
        f"[ZValue = {i}]\nTiltAngle = {3 * i}\nPixelSpacing = {pixel}\nExposureDose = 3\nSubFramePath = f_{i}.tif\n"
        for i in range(count)
    )
    return f"PixelSpacing = {pixel}\nVoltage = 300\n\n{sections}"


def test_an_mdoc_beside_a_stack_is_compared(tmp_path):
    (tmp_path / "a.st").write_bytes(raw_mrc(scene(), ispg=0))
    for name in ("a.st.mdoc", "a.mdoc"):
        (tmp_path / name).write_text(mdoc())
        assert found(tmp_path / "a.st") == found(tmp_path / name) == []
        (tmp_path / name).write_text(mdoc(pixel=1.0))
        only(tmp_path / "a.st", "warning", "beside it 1 A")
        (tmp_path / name).write_text(mdoc(count=7))
        only(tmp_path / "a.st", "warning", "tells of 7")
        (tmp_path / name).write_text("nothing = ")
        told = found(tmp_path / "a.st")
        assert [s for s, _ in told] == ["warning"]
        assert "cannot be read" in told[0][1]
        (tmp_path / name).unlink()
    (tmp_path / "a.mdoc").write_text(mdoc())
    (tmp_path / "a.st").write_bytes(raw_mrc(scene(), ispg=0, cella=(0, 0, 0)))
    assert any("gives 2 A" in text for _, text in found(tmp_path / "a.st"))


PARTICLES = """data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnTomoTiltSeriesPixelSize #6
1 one 300 2.7 0.07 1.5

data_particles

loop_
_rlnTomoName #1
_rlnCenteredCoordinateXAngst #2
_rlnCenteredCoordinateYAngst #3
_rlnCenteredCoordinateZAngst #4
_rlnOpticsGroup #5
TS_1 10.5 20.5 30.5 1
TS_1 11.5 20.5 30.5 1
"""


@pytest.mark.parametrize(
    ("change", "severity", "words"),
    [
        (("TS_1 11.5 20.5", "TS_1 10.5 20.5"), "warning", "1 particles stand at one place twice"),
        (("30.5 1\n\n", "30.5 1\n"), None, ""),
        (("TS_1 11.5 20.5 30.5 1", "TS_1 11.5 20.5 30.5 4"), "warning", "groups 4"),
        (("TS_1 11.5", "TS_1 nan"), "error", "row 2"),
        (("TS_1 11.5", "TS_1 abc"), "error", "abc"),
        (("TS_1 11.5", "TS_1 inf"), "error", "inf"),
        (("_rlnVoltage", "_rlnOther"), "warning", "lack rlnVoltage"),
        (("_rlnTomoTiltSeriesPixelSize", "_rlnOther"), "warning", "no pixel size"),
        (("_rlnCenteredCoordinateYAngst", "_rlnOther"), "error", "lack rlnCenteredCoordinateYAngst"),
        (("_rlnTomoName", "_rlnOther"), "error", "which tomogram"),
        (("_rlnOpticsGroup #5", "_rlnOther #5"), "warning", "does not say to which"),
        ((PARTICLES[: PARTICLES.index("data_particles")], ""), "warning", "no table of them"),
        (("TS_1 11.5 20.5 30.5 1", "TS_1 11.5 20.5 30.5"), "error", "cannot be read"),
        (("300 2.7", "high 2.7"), "error", "rlnVoltage"),
    ],
)
def test_sick_tables_of_particles(tmp_path, change, severity, words):
    path = tmp_path / "a.star"
    path.write_text(PARTICLES)
    assert found(path) == []
    text = PARTICLES.replace(*change)
    path.write_text(text)
    if severity is None:
        assert found(path) == []
    elif words == "cannot be read":
        assert [s for s, _ in found(path)] == ["error"]
    else:
        only(path, severity, words)


TILTS = """data_TS_1

loop_
_rlnMicrographMovieName #1
_rlnTomoNominalStageTiltAngle #2
_rlnTomoXTilt #3
_rlnTomoYTilt #4
_rlnTomoZRot #5
a_1.tif -3 0 -3.1 84
a_2.tif 0 0 0.1 84
"""


def test_sick_tables_of_tilts(tmp_path):
    path = tmp_path / "t.star"
    for name in ("a_1.tif", "a_2.tif"):
        (tmp_path / name).write_text("")
    path.write_text(TILTS)
    assert found(path) == []
    path.write_text(TILTS.replace("_rlnTomoXTilt", "_rlnTomoProjX"))
    assert {"error", "note"} == {s for s, _ in found(path)}  # both kinds, and matrices that are not whole
    path.write_text(TILTS.replace("_rlnTomoZRot", "_rlnOther"))
    only(path, "warning", "tilt axis is not known")
    path.write_text(TILTS.replace("a_2.tif", "a_1.tif"))
    only(path, "warning", "images under rlnMicrographMovieName occur twice")
    path.write_text(TILTS.replace("-3.1", "nan"))
    only(path, "warning", "rlnTomoYTilt")
    path.write_text(TILTS.replace("-3.1", "nan").replace("0.1", "nan"))
    assert found(path) == []  # not aligned yet
    path.write_text(TILTS.replace("a_2.tif", "gone/a_2.tif"))
    only(path, "note", "1 of 2 files that it names are not here")
    text = "data_global\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesStarFile #2\n_rlnVoltage #3\n_rlnSphericalAberration #4\n"
    path.write_text(f"{text}_rlnTomoTiltSeriesPixelSize #5\nTS_1 t/TS_1.star 300 2.7 1.5\nTS_1 t.star 300 2.7 1.5\n")
    assert [s for s, _ in found(path)] == ["warning", "warning"]
    path.write_text("data_\nloop_\n_wrpMovieName #1\n_wrpAngleTilt #2\na_1.tif 3\n")
    only(path, "error", "wrpDose")


@pytest.mark.parametrize(
    ("name", "text", "severity", "words"),
    [
        ("a.tlt", "-3\n0\n3\n", None, ""),
        ("a.tlt", "-3\n0\n99\n", "warning", "99 degrees"),
        ("a.tlt", "-3\n0\n0\n", "note", "1 angles twice"),
        ("a.tlt", "0\n3\n-3\n", "note", "order"),
        ("a.tlt", "x\n", "error", "expected numbers"),
        ("a.xf", "1 0 0 1 3 4\n1 0 0 1 2 2\n", None, ""),
        ("a.xf", "1 0 0 1 0 0\n1 0 0 1 2 2\n", "note", "1 of 2 images as they are"),
        ("a.xf", "-1 0 0 1 3 4\n", "error", "mirrors"),
        ("a.xf", "2 0 0 2 3 4\n", "warning", "20%"),
        ("a.aln", "# AreTomo\n", "error", "RawSize"),
        ("a.xml", "<Other/>", "note", "<Other>"),
        ("a.xml", "<TiltSeries", "error", "not XML"),
        ("a.xml", "<TiltSeries><Angles>1\n2</Angles></TiltSeries>", "note", "no defocus"),
        ("a.defocus", "1 1 0 0 3000 2\n", None, ""),
        ("a.defocus", "1 1 0 0 -3000 2\n", "warning", "no underfocus"),
        ("a.com", "$newstack\n", "note", "runs no `tilt`"),
        ("a.tbl", "1 2 3\n", "error", "columns"),
        ("a.mod", "IMODV1.1", "error", "not a binary IMOD model"),
        ("a.json", "{", "error", "not JSON"),
        ("a.json", "[" * 100000, "error", "not JSON"),
        ("a.json", '{"a": 1}', None, ""),
        ("a.csv", "x,y\n1,2\n3,4\n", None, ""),
        ("a.csv", "x,y\n1,2\n3\n", "warning", "row 3"),
        ("a.csv", "x,x\n1,2\n", "warning", "column x twice"),
        ("a.csv", "x,y\n", "warning", "1 line"),
        ("a.pdb", "nothing", "error", "no atom"),
        ("a.ply", "ply\n", "error", "mesh"),
        ("a.em", "short", "error", "header of 512"),
        ("a.mdoc", mdoc().replace("Voltage = 300", ""), "warning", "no voltage"),
        ("a.mdoc", mdoc().replace("f_3.tif", "f_2.tif"), "warning", "2 times"),
        ("a.mdoc", mdoc().replace("ExposureDose = 3\n", ""), "note", "no dose"),
        ("a.dm3", "x", "error", "DigitalMicrograph"),
        ("a.hdf", "x", "error", "HDF"),
        ("a.am", "x", "error", "Amira"),
        ("a.zarr", "x", "error", "is a file"),
        ("a.tif", "x", "error", "TIFF"),
    ],
)
def test_small_files_of_every_kind(tmp_path, name, text, severity, words):
    (tmp_path / name).write_text(text)
    if severity is None:
        assert found(tmp_path / name) == []
    else:
        only(tmp_path / name, severity, words)


def test_the_content_decides_where_the_name_cannot_be_right(tmp_path):
    (tmp_path / "a.tif").write_bytes(raw_mrc(scene()))
    told = found(tmp_path / "a.tif")
    assert [s for s, _ in told] == ["warning"]
    assert "called as TIFF, but holds MRC" in told[0][1]
    (tmp_path / "b.tif").write_bytes(raw_mrc(scene())[:-50])
    assert [s for s, _ in found(tmp_path / "b.tif")] == ["warning", "error"]
    (tmp_path / "c.mrc").write_text(PARTICLES)
    assert "holds STAR" in found(tmp_path / "c.mrc")[0][1]
    # no ending, or an unknown one
    write_volume(tmp_path / "v.em", scene(), 4.0)
    for content, kind in (
        (raw_mrc(scene()), "MRC"),
        ((tmp_path / "v.em").read_bytes(), "EM"),
        (PARTICLES.encode(), "STAR"),
        (mdoc().encode(), "mdoc"),
        (b"1 0 0 1 3 4\n1 0 0 1 2 2\n", "IMOD transforms"),
        (b"-3\n0\n3\n", "numbers"),
        (b"<?xml version='1.0'?><TiltSeries><Angles>1</Angles></TiltSeries>", "XML"),
        ('<?xml version="1.0" encoding="utf-16"?><a/>'.encode("utf-16"), "XML"),
        (b'{"a": 1}', "JSON"),
        (b"# AreTomo Alignment / Priims bprmMn\n", "AreTomo alignment"),
    ):
        path = tmp_path / "unknown.xyz"
        path.write_bytes(content)
        got = kind_by_content(path)
        assert got is not None
        assert got.name == kind
        assert not any("cannot be checked" in text for _, text in found(path))
    (tmp_path / "odd.xyz").write_text("some words of a letter")
    only(tmp_path / "odd.xyz", "error", "cannot be checked")
    assert found(tmp_path / "none.mrc")[0][0] == "error"


def test_what_this_project_writes_is_not_objected_to(tmp_path):
    for name in ("a.mrc", "a.em", "a.zarr", "a.hdf", "a.am", "a.tif"):
        write_volume(tmp_path / name, scene(), 4.0)
        assert found(tmp_path / name) == [], name


def test_a_folder_is_checked_with_all_in_it(tmp_path):
    folder = tmp_path / "data" / "deep"
    folder.mkdir(parents=True)
    write_volume(folder / "a.zarr", scene(), 4.0)
    write_mrc(folder / "a.mrc", scene(), 4.0)
    (folder / "bad.mrc").write_bytes(raw_mrc(scene())[:-1])
    (folder / "README").write_text("words of a person")
    (tmp_path / "data" / ".hidden").mkdir()
    (tmp_path / "data" / ".hidden" / "b.mrc").write_bytes(b"")
    every = validate_all([tmp_path / "data"])
    assert {p.rpartition("/")[2] for p in every} == {"a.zarr", "a.mrc", "bad.mrc", "data"}
    assert [f.severity for f in every[str(folder / "bad.mrc")]] == ["error"]
    assert "1 files of kinds" in every[str(tmp_path / "data")][0].text
    (tmp_path / "empty").mkdir()
    assert [f.severity for f in validate_all([tmp_path / "empty"])[str(tmp_path / "empty")]] == ["warning"]


def test_the_command_ends_with_1_only_for_what_is_unusable(tmp_path, capsys):
    (tmp_path / "odd.mrc").write_bytes(raw_mrc(scene(), map=b"", dmean=2.0))
    assert main.run(["validate", str(tmp_path / "odd.mrc")]) == 0
    out = capsys.readouterr().out
    assert out.index("warning:") < out.index("note:")
    (tmp_path / "bad.mrc").write_bytes(raw_mrc(scene())[:-1])
    assert main.run(["validate", str(tmp_path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["exit_code"] == 1
    assert set(told["files"]) == {str(tmp_path / "odd.mrc"), str(tmp_path / "bad.mrc")}


def test_real_files_of_other_programs_are_usable(shared_data):
    every = validate_all([shared_data / "formats"])
    assert len(every) > 60
    unusable = {p: [f.text for f in found if f.severity == "error"] for p, found in every.items()}
    assert {p: texts for p, texts in unusable.items() if texts} == {}


def test_every_kind_has_its_own_endings():
    endings = [ending for kind in FILE_KINDS for ending in kind.endings]
    assert len(endings) == len(set(endings))

"""Files that other programs wrote are read to the numbers they hold."""

import json
from pathlib import Path

import mdocfile
import mrcfile
import numpy as np
import pytest
import starfile
import tifffile
from numpy.testing import assert_allclose, assert_array_equal

from eucentric.errors import FormatError
from eucentric.io import (
    read_angle_table,
    read_angles,
    read_atoms,
    read_dm,
    read_em,
    read_gain,
    read_mdoc,
    read_movie,
    read_mrc,
    read_tilt_series,
    read_tilt_series_set,
    read_transforms,
    read_truth,
    write_angles,
    write_transforms,
    write_truth,
)

MRC_FILES = [
    "formats/mrc/EMD-3197.map",
    "practice/gain.mrc",
    "real/raw_tilts_vlp/tilt_stack.mrc",
    "real/ctf_particles/sample.mrcs",
    "real/microtubules/beta-tubulin.mrc",
]


@pytest.mark.parametrize("name", MRC_FILES)
def test_mrc_agrees_with_an_independent_reader(shared_data, name):
    got, header = read_mrc(shared_data / name)
    with mrcfile.open(shared_data / name, permissive=True) as other:
        assert_array_equal(got, other.data.reshape(got.shape))
        size = float(other.voxel_size.x)
    if size > 0:
        assert header.voxel_size_angstrom[0] == pytest.approx(size, rel=1e-6)
    else:
        assert header.voxel_size_angstrom is None


def test_old_bytes_fit_the_statistics_of_their_header(shared_data):
    got, header = read_mrc(shared_data / "formats/mrc/mrc3D.mrc")
    # Its header says 141 to 163: so its bytes are unsigned. It has no MAP word.
    assert (int(got.min()), int(got.max())) == (141, 163)
    assert [f for f in header.findings if "MAP" in f.text]
    assert header.voxel_size_angstrom[0] == pytest.approx(23.2, rel=1e-4)


def test_practice_movies_have_y_up(shared_data):
    folder = shared_data / "practice"
    name = "TS_01_003_6.0.tif"
    frames, header = read_movie(folder / "frames" / name)
    assert_array_equal(frames, tifffile.imread(folder / "frames" / name)[:, ::-1])
    assert (header.frame_count, header.shape) == (4, (768, 768))
    # The noise-free image of the tilt, rows y up, decides: right way up it correlates, turned over it does not.
    truth = read_truth(folder / "TS_01_truth.json")
    with np.load(folder / "TS_01_clean.npz") as clean:
        image = clean[clean.files[0]][truth.movie_names.index(name)].astype(np.float64)
    mean = frames.mean(axis=0) * read_gain(folder / "gain.mrc")
    binned = np.clip(mean, None, np.percentile(mean, 99.9)).reshape(384, 2, 384, 2).mean(axis=(1, 3))

    def peak(other):
        spectrum = np.fft.rfft2(binned - binned.mean()) * np.conj(np.fft.rfft2(other - other.mean()))
        return np.fft.irfft2(spectrum).max() / (binned.std() * other.std() * binned.size)

    assert peak(image) > 3 * peak(image[::-1])


def test_the_gain_flattens_the_movies(shared_data):
    folder = shared_data / "practice"
    total = sum(read_movie(p)[0].sum(axis=0, dtype=np.float64) for p in sorted((folder / "frames").glob("*.tif"))[::6])
    gain = read_gain(folder / "gain.mrc").astype(np.float64)
    inner = (slice(100, -100), slice(100, -100))

    def correlation(g):
        return np.corrcoef((1 / g)[inner].ravel(), np.minimum(total, np.percentile(total, 99))[inner].ravel())[0, 1]

    right = correlation(gain)
    assert right > 0.2
    assert all(correlation(g) < 0.25 * right for g in (gain[::-1], gain[:, ::-1], gain.T))


def test_dm3_calibrations(shared_data):
    stack, header = read_dm(shared_data / "real/needle_haadf/HAADF.dm3")
    assert stack.shape == (91, 64, 64)
    assert header.pixel_size_angstrom == pytest.approx(180.0, rel=1e-3)
    assert_allclose(header.section_values, np.arange(-90, 91, 2))
    assert header.section_unit == "deg"
    assert header.scanning
    assert header.voltage_kv == 300.0
    assert read_dm(shared_data / "formats/dm3/BF_001.dm3")[0].shape == (1, 128, 128)


def test_a_truncated_dm3_is_refused(shared_data, tmp_path):
    raw = (shared_data / "real/needle_haadf/HAADF.dm3").read_bytes()
    (tmp_path / "a.dm3").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(FormatError):
        read_dm(tmp_path / "a.dm3")


def test_em_volumes(shared_data):
    volume, _ = read_em(shared_data / "real/projections_41/p1.em")
    assert volume.shape == (100, 100, 100)
    assert np.isfinite(volume).all()
    assert read_em(shared_data / "real/projections_41/projection_0.em")[0].shape == (1, 100, 100)


@pytest.mark.parametrize("name", ["017.mdoc", "018.mdoc", "tilt_series.mdoc"])
def test_mdocs_agree_with_the_library(shared_data, name):
    path = shared_data / "formats/mdoc" / name
    table = mdocfile.read(path)
    mdoc = read_mdoc(path)
    assert len(mdoc.sections) == len(table)
    for section, (_, row) in zip(mdoc.sections, table.iterrows(), strict=True):
        assert section.tilt_angle_deg == row.TiltAngle
        assert section.exposure_dose == row.ExposureDose
        assert section.rotation_angle_deg == row.RotationAngle
        assert section.target_defocus_um == row.TargetDefocus
        assert section.image_shift_um == tuple(row.ImageShift)
        assert section.frame_count == row.NumSubFrames
        assert section.movie_name == row.SubFramePath.name
    # The relation between the two angles that import relies on.
    assert mdoc.sections[0].rotation_angle_deg == pytest.approx(mdoc.tilt_axis_angle_deg + 90.0, abs=0.01)
    assert len({s.date_time for s in mdoc.sections}) == len(table)


def test_every_dialect_of_mdoc_is_read(shared_data):
    folder = shared_data / "formats/mdoc"
    mdocs = {p.name: read_mdoc(p) for p in sorted(folder.iterdir())}
    for name, mdoc in mdocs.items():
        text = (folder / name).read_text(encoding="latin-1")
        heads = [line for line in text.splitlines() if line.startswith("[") and not line.startswith("[T ")]
        assert len(mdoc.sections) == len(heads)
        assert sum("DateTime" in s.extra for s in mdoc.sections) == 0
    assert mdocs["frame_set_single.mdoc"].sections[0].movie_name == "s_mmm_00993_33.0_Oct08_07.39.05.tif"
    assert mdocs["TS_019_0046_56.0.mrc.mdoc"].sections[0].kind == "FrameSet"
    assert mdocs["montage_section.mdoc"].tilt_axis_angle_deg == -86.7
    assert mdocs["nav.nav"].sections[0].label == "17-1-A"


def test_relion_5_tables(shared_data):
    root = shared_data / "formats/relion/relion5_project"
    got = read_tilt_series(root / "Tomograms/job009/tomograms.star", "tomo200528_107", root)
    table = starfile.read(root / "Tomograms/job009/tilt_series/tomo200528_107.star")
    assert_allclose([t.pose.z_rot_deg for t in got.tilts], table.rlnTomoZRot)
    assert_allclose([t.pose.x_shift_angstrom for t in got.tilts], table.rlnTomoXShiftAngst)
    assert_allclose([t.ctf.defocus_u_angstrom for t in got.tilts], table.rlnDefocusU)
    assert_allclose([t.nominal_defocus_angstrom for t in got.tilts], 30000.0)
    assert_allclose(got.pre_exposures, table.rlnMicrographPreExposure)
    assert_allclose(got.doses, 2.2)
    assert [t.frame_count for t in got.tilts] == [8] * len(table)
    # The scheme goes outwards from 0 degrees, so the dose before an image grows with its angle.
    assert min(got.tilts, key=lambda t: t.acquisition).nominal_tilt_deg == pytest.approx(0.00846)
    assert got.optics.voltage_kv == 200.0
    assert got.volume_size_px == (4000, 4000, 2000)
    assert got.tomogram.voxel_size_angstrom == pytest.approx(14.0)
    with pytest.raises(FormatError, match="was found neither"):
        read_tilt_series_set(root / "Tomograms/job009/tomograms.star", root)


def test_tables_with_matrices_beside_angles(shared_data, tmp_path):
    root = shared_data / "formats/relion/relion4_project"
    series = read_tilt_series_set(root / "tilt_series_metadata" / "tilt_series.star", root)
    assert [s.name for s in series] == [f"220728_TS_{n}" for n in ("01", "03", "43", "45", "54")]
    offsets = [[t.pose.y_tilt_deg - t.nominal_tilt_deg for t in s.tilts] for s in series]
    assert max(np.std(o) for o in offsets) < 1.0
    text = (root / "tilt_series_metadata/tilt_series/220728_TS_01.star").read_text().replace("rlnTomoYTilt", "rlnOther")
    (tmp_path / "one.star").write_text(text)
    table = "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesStarFile #2\n220728_TS_01 one.star\n"
    (tmp_path / "set.star").write_text(table)
    with pytest.raises(FormatError, match="matrices alone"):
        read_tilt_series_set(tmp_path / "set.star", tmp_path)


def test_imod_tables_come_back_as_written(shared_data, tmp_path):
    folder = shared_data / "formats/imod"
    assert read_angles(folder / "TS_001.tlt").tolist()[:3] == [-57.12, -54.11, -51.11]
    assert read_angles(folder / "TS_001.xtilt").shape == (40,)
    assert read_angle_table(folder / "test_angles_multi_column.rawtlt")[:, 1].tolist() == list(range(35))
    write_angles(tmp_path / "a.tlt", read_angles(folder / "TS_001.tlt"))
    assert (tmp_path / "a.tlt").read_text() == (folder / "TS_001.tlt").read_text()
    for name in ("TS_001.xf", "test.xf", "convert_pair/imod_1/tilt_1.xf"):
        matrices, shifts = read_transforms(folder / name)
        assert_allclose(np.linalg.det(matrices), 1.0, atol=0.05)
        write_transforms(tmp_path / "a.xf", matrices, shifts)
        assert (tmp_path / "a.xf").read_text() == (folder / name).read_text()


@pytest.mark.parametrize("name", ["TS_01", "TS_02", "TS_03"])
def test_truth_files_come_back(shared_data, tmp_path, name):
    path = shared_data / f"practice/{name}_truth.json"
    truth = read_truth(path)
    assert len(truth.movie_names) == len(truth.matrices)
    assert truth.bad_tilts == ((0, 40) if name == "TS_02" else ())
    write_truth(tmp_path / "t.json", truth)
    old, new = json.loads(Path(path).read_text()), json.loads((tmp_path / "t.json").read_text())
    assert new["spec"].pop("shape") == [768, 768]
    assert new == old


def test_atomic_models(shared_data):
    # Counted in the file's own lines.
    path = shared_data / "structures/4v4r_30S.pdb"
    lines = [line for line in path.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    atoms = read_atoms(path)
    assert len(atoms.positions) == len(lines)
    assert_allclose(atoms.positions[0], [float(lines[0][i : i + 8]) for i in (30, 38, 46)])

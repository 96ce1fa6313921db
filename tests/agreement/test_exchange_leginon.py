"""Runs of Appion with Protomo: the last iteration, images in Leginon's order, those taken out, and the defocus it wrote for IMOD."""

from pathlib import Path

import numpy as np
import pytest
from damaged_copies import damaged_copies
from exchange_phantom import SIZES_XY, phantom_series, seen
from test_exchange_protomo import by_protomo

from eucentric.errors import EucentricError, InputError
from eucentric.io.exchange.leginon import FORMAT
from eucentric.io.exchange.records import Given


def text(images: list[tuple[int, str, float]], rotation: float) -> str:
    """As apProTomo2Prep writes a geometry: one line an image."""
    lines = ["", "TILT SERIES series0001", "", "   AXIS", "", "     TILT AZIMUTH    -4.2", ""]
    for number, name, tilt in images:
        lines.append(
            f"   IMAGE {number:<5d}     FILE {name}       ORIGIN [ {512.0:8.3f} {500.0 + number:8.3f} ]    TILT ANGLE    {tilt:8.3f}"
            f"    ROTATION     {rotation:8.3f}"
        )
    return "\n".join([*lines, "", "   REFERENCE IMAGE 2", "", "", " END", ""])


IMAGES = [
    (1, "en_001tilt_003", -3.0),
    (2, "en_001tilt_001", 0.0),
    (3, "en_001tilt_002", 3.0),
    (4, "en_001tilt_004", 6.0),
]


def appion_run(folder: Path) -> None:
    (folder / "original_series0001.tlt").write_text(text(IMAGES, 0.0))
    (folder / "series0001.tlt").write_text(text(IMAGES, 0.0))
    (folder / "series0001000.tlt").write_text(text(IMAGES[:3], 0.5))
    (folder / "series0001012.tlt").write_text(text(IMAGES[:3], 1.5))
    (folder / "coarse_series0001.tlt").write_text(text(IMAGES, 9.0))
    (folder / "ctf_correction").mkdir()
    (folder / "ctf_correction" / "series0001_defocus.txt").write_text(
        "1\t1\t-3.00\t-3.00\t3100\t2\n2\t2\t0.00\t0.00\t3200\n3\t3\t3.00\t3.00\t3300\n4\t4\t6.00\t6.00\t3400\n"
    )


def test_a_run_of_appion_is_read(tmp_path: Path) -> None:
    appion_run(tmp_path)
    assert FORMAT.recognises(tmp_path)
    (back,) = FORMAT.read(tmp_path, Given(pixel_size_angstrom=2.0, image_shape=(1000, 1024), dose_per_tilt=2.5))
    series = back.series
    assert series.name == "series0001"
    assert [t.nominal_tilt_deg for t in series.tilts] == [-3.0, 0.0, 3.0]
    assert [t.acquisition for t in series.tilts] == [2, 0, 1]
    assert [t.pre_exposure for t in series.tilts] == [5.0, 0.0, 2.5]
    assert [t.ctf.defocus_u_angstrom for t in series.tilts] == [31000, 32000, 33000]
    assert [(e.tilt.nominal_tilt_deg, e.tilt.acquisition, e.reason) for e in series.excluded] == [
        (6.0, 3, "taken out in Appion")
    ]
    pose = series.tilts[0].pose
    # azimuth -4.2 and rotation 1.5: the axis of the image lies at -2.7 degrees from x, 92.7 behind y
    assert pose.z_rot_deg == pytest.approx(-4.2 + 1.5 - 90.0)
    assert (pose.x_shift_angstrom, pose.y_shift_angstrom) == pytest.approx((0.0, 2.0))
    assert any("last iteration" in note and "series0001012.tlt" in note for note in back.notes)


def test_one_geometry_of_a_run_can_be_given(tmp_path: Path) -> None:
    appion_run(tmp_path)
    (back,) = FORMAT.read(tmp_path / "series0001000.tlt", Given(pixel_size_angstrom=2.0, image_shape=(1000, 1024)))
    assert back.series.tilts[0].pose.z_rot_deg == pytest.approx(-4.2 + 0.5 - 90.0)
    assert any("Give it with --dose." in note for note in back.notes)
    assert any("Leginon's database" in note for note in back.notes)


@pytest.mark.parametrize("size_xy", SIZES_XY)
def test_what_is_written_lies_where_protomo_puts_it_and_comes_back(tmp_path: Path, size_xy: tuple[int, int]) -> None:
    geometry = phantom_series(name="series0001", size_xy=size_xy)
    written = FORMAT.write(tmp_path, [geometry])
    np.testing.assert_allclose(by_protomo(written.files[0].read_text(), 2.5), seen(geometry), atol=0.01)
    assert FORMAT.recognises(tmp_path)
    (back,) = FORMAT.read(tmp_path, Given(image_shape=(size_xy[1], size_xy[0])))
    np.testing.assert_allclose(seen(back), seen(geometry), atol=0.01)
    for old, new in zip(geometry.series.tilts, back.series.tilts, strict=True):
        assert new.ctf.defocus_angstrom == pytest.approx(old.ctf.defocus_angstrom, abs=1)
    told = " ".join(written.losses)
    assert "astigmatism (up to 900 A) is lost" in told
    assert "contrast transfer" not in told


def test_damaged_runs_are_told_in_words(tmp_path: Path) -> None:
    appion_run(tmp_path)
    given = Given(pixel_size_angstrom=2.0, image_shape=(1000, 1024))
    for name in ("series0001012.tlt", "ctf_correction/series0001_defocus.txt"):
        place = tmp_path / name
        whole = place.read_bytes()
        refused = 0
        for copy in damaged_copies(whole, count=15):
            place.write_bytes(copy)
            try:
                FORMAT.read(tmp_path, given)
            except EucentricError:
                refused += 1
        assert refused > 5
        place.write_bytes(whole)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no geometry of an Appion run"):
        FORMAT.read(tmp_path / "none", given)

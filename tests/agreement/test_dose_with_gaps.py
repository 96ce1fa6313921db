"""The dose before an image counts images that are no longer there: in every format that keeps doses, or its writer tells the loss."""

from dataclasses import replace

import numpy as np
import pytest
from exchange_phantom import phantom_series
from geometry_tables import ALIGNED, carried

from eucentric.io.exchange.aretomo import FORMAT as ARETOMO
from eucentric.io.exchange.formats import GEOMETRY_FORMATS
from eucentric.io.exchange.from_views import exposures_of_sums, numbers_in_time, pre_exposures
from eucentric.io.exchange.imod import FORMAT as IMOD
from eucentric.io.exchange.nextpyp import FORMAT as NEXTPYP
from eucentric.io.exchange.records import Given, SeriesGeometry
from eucentric.io.exchange.relion4 import FORMAT as RELION4
from eucentric.io.exchange.relion5 import FORMAT as RELION5
from eucentric.io.exchange.stopgap import FORMAT as STOPGAP
from eucentric.io.exchange.warp import FORMAT as WARP
from eucentric.models import CtfFit, ExcludedTilt, Tilt, TiltPose

KEEPS_DOSE = {
    "relion5", "relion4", "warp", "imod", "aretomo", "stopgap", "emclarity", "data-portal", "scipion", "xmipp",
}  # fmt: skip
TELLS_NO_DOSE = {"eman2", "dynamo", "novactf", "nextpyp", "protomo", "leginon"}
GONE = (10, 20)  # numbers in time


def gapped(*, excluded: bool, dense: bool = False, dose: float = 3.0) -> SeriesGeometry:
    """Thirty-one images of equal dose without two that were taken in between; those excluded or quite absent.

    dense: the numbers in time have no gaps, as tables have them that know the dose before an image alone.
    """
    ours = phantom_series()
    angles = np.arange(-45.0, 46.0, 3.0)
    order = np.argsort(np.argsort(np.abs(angles - 0.1), kind="stable"), kind="stable")
    tilts = [
        Tilt(
            nominal_tilt_deg=float(a),
            acquisition=int(o),
            dose=dose,
            pre_exposure=dose * int(o),
            movie=f"frames/TS_1_{o:03d}_{a:.1f}.tif",
            image=f"{i + 1}@stacks/TS_1.mrc",
            pose=TiltPose(y_tilt_deg=float(a), z_rot_deg=84.0),
            ctf=CtfFit(defocus_u_angstrom=3e4, defocus_v_angstrom=2.9e4),
        )
        for i, (a, o) in enumerate(zip(angles, order, strict=True))
    ]
    left = [t for t in tilts if t.acquisition not in GONE]
    gone = [t for t in tilts if t.acquisition in GONE]
    if dense:
        rank = np.argsort(np.argsort([t.acquisition for t in left]))
        left = [replace(t, acquisition=int(r)) for t, r in zip(left, rank, strict=True)]
    if not excluded:
        left = [replace(t, image=f"{i + 1}@stacks/TS_1.mrc") for i, t in enumerate(left)]
    reasons = tuple(ExcludedTilt(tilt=t, reason="dark") for t in gone) if excluded else ()
    return replace(ours, series=ours.series.replace(tilts=tuple(left), excluded=reasons))


def before(geometry: SeriesGeometry) -> list[float]:
    tilts = sorted(geometry.series.tilts, key=lambda t: t.nominal_tilt_deg)
    return [round(t.pre_exposure, 3) for t in tilts]


SORTS = {
    "excluded": {"excluded": True},
    "absent": {"excluded": False},
    "absent, numbers dense": {"excluded": False, "dense": True},
    "6 e/A2": {"excluded": False, "dose": 6.0},
}


def test_every_format_is_in_one_of_the_lists():
    assert set(ALIGNED) == KEEPS_DOSE | TELLS_NO_DOSE


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("form", sorted(KEEPS_DOSE))
def test_doses_before_images_come_back(form, sort, tmp_path):
    ours = gapped(**SORTS[sort])
    back, _ = carried(ours, form, tmp_path)
    assert before(back) == pytest.approx(before(ours), abs=0.01)
    assert [t.dose for t in back.series.tilts] == pytest.approx([t.dose for t in ours.series.tilts], abs=0.01)


@pytest.mark.parametrize("form", sorted(TELLS_NO_DOSE))
def test_a_lost_dose_is_told_when_writing_and_when_reading(form, tmp_path):
    back, written = carried(gapped(excluded=True), form, tmp_path)
    assert any("dose" in loss and "e/A2" in loss for loss in written.losses), written.losses
    assert not any(t.dose or t.pre_exposure for t in back.series.tilts)
    assert any("tells no dose, so exposure weighting is off. Give it with --dose." in note for note in back.notes)


@pytest.mark.parametrize("form", sorted(GEOMETRY_FORMATS))
def test_the_note_on_a_missing_dose_goes_where_it_is_given(form, tmp_path):
    ours = phantom_series()
    tilts = [replace(t, dose=0.0, pre_exposure=0.0) for t in ours.series.tilts]
    series = ours.series.with_tilts(tilts)
    one = GEOMETRY_FORMATS[form]
    one.write(tmp_path, [replace(ours, series=series)])
    given = Given(pixel_size_angstrom=series.pixel_size_angstrom, image_shape=series.image_shape)
    (without,) = one.read(tmp_path, given)
    no_dose = [note for note in without.notes if "exposure weighting is off" in note]
    assert len(no_dose) == 1
    (told,) = one.read(tmp_path, replace(given, dose_per_tilt=2.0))
    assert {t.dose for t in told.series.tilts} == {2.0}
    assert sorted(t.pre_exposure for t in told.series.tilts) == pytest.approx([2.0 * i for i in range(11)])
    assert not any("exposure weighting is off" in note for note in told.notes)


def test_a_given_dose_counts_images_that_are_missing(tmp_path):
    ours = gapped(excluded=False)
    wanted = [2.0 / 3.0 * d for d in before(ours)]
    for form in (IMOD, ARETOMO, NEXTPYP, RELION5, RELION4, WARP, STOPGAP):
        form.write(tmp_path / form.name, [ours])
        given = Given(pixel_size_angstrom=2.5, image_shape=(80, 96), dose_per_tilt=2.0)
        (back,) = form.read(tmp_path / form.name, given)
        assert before(back) == pytest.approx(wanted, abs=0.01), form.name


def test_aretomo_counts_the_same_dose_from_its_own_table(tmp_path):
    """CTiltSeries::GetAccDose: number in time times dose, which counts the image itself."""
    ours = gapped(excluded=False, dense=True)
    ARETOMO.write(tmp_path, [ours])
    table = np.loadtxt(tmp_path / "TS_1_TLT.txt")
    assert (table[:, 1] * table[:, 2] - 3.0).tolist() == pytest.approx(before(ours))
    assert not set(table[:, 1].astype(int)) & {n + 1 for n in GONE}


def test_what_aretomo_cannot_count_is_told_in_dose(tmp_path):
    ours = gapped(excluded=False)
    tilts = [replace(t, pre_exposure=1.37 * t.pre_exposure + 0.4) for t in ours.series.tilts]
    written = ARETOMO.write(tmp_path, [replace(ours, series=ours.series.with_tilts(tilts))])
    assert any("number in time" in loss and "e/A2" in loss for loss in written.losses)


def test_imod_dose_files_of_final_doses_are_read_with_their_gaps(tmp_path):
    """mtffilter's type 3: dose before and after each image."""
    ours = gapped(excluded=False)
    IMOD.write(tmp_path, [ours])
    doses = tmp_path / "TS_1_dose.txt"
    table = np.loadtxt(doses)
    doses.write_text("".join(f"{a} {a + b}\n" for a, b in table))
    com = tmp_path / "mtffilter.com"
    com.write_text(com.read_text().replace("TypeOfDoseFile\t2", "TypeOfDoseFile\t3"))
    (back,) = IMOD.read(tmp_path, Given(pixel_size_angstrom=2.5, image_shape=(80, 96)))
    assert before(back) == pytest.approx(before(ours), abs=0.01)


def test_numbers_and_sums():
    assert numbers_in_time([1, 2, 5], first=1) == [0, 1, 4]
    assert numbers_in_time([0, 2, 5], first=1) == [0, 2, 5]
    assert numbers_in_time([3.5, 1.25, 7.0]) == [1, 0, 2]
    assert numbers_in_time([1, 2, 10**7], first=1) == [0, 1, 2]
    assert numbers_in_time([2, 2, 1], first=1) == [1, 2, 0]
    assert numbers_in_time([]) == []
    assert pre_exposures([3, 0, 1], np.array([2.0, 2.0, 2.0])).tolist() == [6.0, 0.0, 2.0]
    doses, sums = exposures_of_sums(np.array([12.0, 3.0, 6.0]))
    assert doses.tolist() == [3.0, 3.0, 3.0]
    assert sums.tolist() == [9.0, 0.0, 3.0]

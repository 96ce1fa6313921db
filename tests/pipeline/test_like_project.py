"""Simulations like a project: what is known of it is taken over, and what is not is said."""

import dataclasses

import numpy as np
import pytest

from eucentric.errors import InputError
from eucentric.io.movies import write_tiff_movie
from eucentric.io.mrc import write_mrc
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.io.truth import read_truth
from eucentric.models import CtfFit, FrameShifts, Optics, Specimen, Tilt, TiltPose, TiltSeries
from eucentric.pipeline.like_project import like_project
from eucentric.pipeline.simulated_specimen import SpecimenWanted, made_specimen
from eucentric.pipeline.twin_recording import recording_of_project
from eucentric.simulation import SimulatedSeries, SimulationParams

ORDER = (4.0, 7.0, 1.0, 10.0, -2.0, 7.0)  # the last angle was taken twice, once in vain


def imported(root):
    tilts = [
        Tilt(
            nominal_tilt_deg=angle,
            acquisition=number,
            dose=2.5,
            pre_exposure=2.5 * number,
            movie=f"frames/{number}.tif",
            frame_count=6,
            nominal_axis_deg=-5.5,
            nominal_defocus_angstrom=42_000.0,
        )
        for number, angle in enumerate(ORDER)
    ]
    series = TiltSeries.sorted(
        tilts,
        name="cell_3",
        pixel_size_angstrom=3.4,
        original_pixel_size_angstrom=1.7,
        image_shape=(60, 80),
        optics=Optics(voltage_kv=200.0, spherical_aberration_mm=2.0, amplitude_contrast=0.1),
        hand=1.0,
    )
    second = list(series.nominal_tilts_deg).index(7.0) + 1
    series = series.without({second: "taken twice"})
    write_tiff_movie(root / "frames" / "0.tif", np.zeros((6, 120, 160), dtype=np.uint16))
    write_tilt_series_set(root / "import" / "tilt_series.star", [series, series.replace(name="cell_4")], root)
    return series


@pytest.fixture
def root(tmp_path):
    (tmp_path / "frames").mkdir()
    return tmp_path


def test_an_imported_project_tells_its_scheme(root):
    imported(root)
    found = like_project(root)
    assert (found.series, found.stage) == ("cell_3", "import")
    assert found.changes == {
        "image_size_px": (160, 120),
        "pixel_size_angstrom": 1.7,
        "data_type": "uint16",
        "tilt_angles_deg": (4.0, 7.0, 1.0, 10.0, -2.0),
        "tilt_min_deg": -2.0,
        "tilt_max_deg": 10.0,
        "frames": 6,
        "dose_per_tilt": 2.5,
        "voltage_kv": 200.0,
        "spherical_aberration_mm": 2.0,
        "amplitude_contrast": 0.1,
        "defocus_angstrom": 42_000.0,
        "tilt_axis_deg": -5.5,
    }
    taken, missing = found.told
    assert "without 1 taken twice" in taken
    assert "the target" in taken
    for words in ("hand", "thickness", "pre-tilt", "motion within an exposure", "astigmatism"):
        assert words in missing
        assert words not in taken
    with pytest.raises(InputError, match="cell_4"):
        like_project(root, "cell_5")


def test_each_image_keeps_its_own_dose(root):
    """A boosted first image, and one that was taken twice: the doses stay with their angles."""
    series = imported(root)
    assert "tilt_doses" not in like_project(root).changes

    def boosted(tilt):
        return dataclasses.replace(tilt, dose=15.0 if tilt.acquisition == 0 else 2.5 + 0.1 * tilt.acquisition)

    series = series.replace(
        tilts=tuple(map(boosted, series.tilts)),
        excluded=tuple(dataclasses.replace(e, tilt=boosted(e.tilt)) for e in series.excluded),
    )
    write_tilt_series_set(root / "import" / "tilt_series.star", [series], root)
    found = like_project(root)
    angles, doses = found.changes["tilt_angles_deg"], found.changes["tilt_doses"]
    every = [*series.tilts, *(e.tilt for e in series.excluded)]
    first = {a: min((t for t in every if t.nominal_tilt_deg == a), key=lambda t: t.acquisition) for a in angles}
    assert doses == pytest.approx([first[a].dose for a in angles])
    assert doses[0] == 15.0
    assert "2.6 to 15 e/A2 a tilt, each its own" in found.told[0]
    wanted = SpecimenWanted(like=root)
    assert made_specimen(wanted, None).params.tilt_doses == doses
    for given in ({"dose_per_tilt": 4.0}, {"tilt_step_deg": 5.0}):  # the user's own dose, or other angles
        assert made_specimen(wanted, SimulationParams(**given)).params.tilt_doses == ()
    series = series.replace(
        tilts=tuple(dataclasses.replace(t, dose=0.0 if t.acquisition == 4 else 2.5) for t in series.tilts)
    )
    write_tilt_series_set(root / "import" / "tilt_series.star", [series], root)
    found = like_project(root)
    assert (found.changes["dose_per_tilt"], "tilt_doses" in found.changes) == (2.5, False)
    assert "the median, for not every image's is known" in found.told[0]


def test_a_processed_project_tells_what_was_measured(root):
    series = imported(root)
    tilts = [
        dataclasses.replace(
            tilt,
            pose=TiltPose(
                y_tilt_deg=tilt.nominal_tilt_deg + 6.0,
                z_rot_deg=-4.0,
                x_tilt_deg=1.0,
                x_shift_angstrom=30.0 * (-1) ** n,
                y_shift_angstrom=10.0,
            ),
            ctf=CtfFit(
                defocus_u_angstrom=30_000.0 + 100.0 * n + 150.0,
                defocus_v_angstrom=30_000.0 + 100.0 * n - 150.0,
                astigmatism_angle_deg=170.0,
                phase_shift_deg=80.0,
            ),
            motion=FrameShifts(
                shifts_angstrom=np.column_stack([np.arange(6.0), np.zeros(6)]), sigma_angstrom=np.zeros(6)
            ),
        )
        for n, tilt in enumerate(series.tilts)
    ]
    done = series.with_tilts(tilts).replace(
        specimen=Specimen(thickness_angstrom=1300.0, y_tilt_deg=0.5, x_tilt_deg=-3.0)
    )
    write_tilt_series_set(root / "ctf" / "tilt_series.star", [done], root)
    found = like_project(root)
    assert found.stage == "ctf"
    changes = found.changes
    assert changes["tilt_offset_deg"] == pytest.approx(6.5)
    assert changes["x_tilt_deg"] == pytest.approx(-2.0)
    assert changes["tilt_axis_deg"] == pytest.approx(-4.0)
    assert changes["tilt_axis_error_deg"] == pytest.approx(-1.5)
    assert changes["thickness_angstrom"] == 1300.0
    assert changes["hand"] == 1
    assert changes["defocus_angstrom"] == pytest.approx(30_200.0)
    assert changes["defocus_jitter_angstrom"] == pytest.approx(148.0, abs=1.0)
    assert changes["astigmatism_angstrom"] == pytest.approx(300.0)
    assert changes["astigmatism_angle_deg"] % 180.0 == pytest.approx(170.0)
    assert changes["phase_shift_deg"] == pytest.approx(80.0)
    shifts = np.array([[30.0 * (-1) ** n, 10.0] for n in range(5)])
    assert changes["stage_jitter_angstrom"] == pytest.approx(np.sqrt(((shifts - shifts.mean(0)) ** 2).mean()))
    # frames at 1/12 ... 11/12 of a course 1 - exp(-3 t)
    assert changes["drift_angstrom"] == pytest.approx(5.0 / (np.exp(-0.25) - np.exp(-2.75)))
    assert "how the specimen deforms" in found.told[1]
    assert like_project(root, "cell_4").stage == "import"


def test_a_simulation_like_a_project_is_recorded_as_it_was(program, root):
    imported(root)
    code, out, err = program(
        "simulate", root / "twin", "--like", root, "--like-series", "cell_4", "--defocus-angstrom", "20000",
        "--macromolecules-kda", "100", "--particles-per-species", "1", "--vesicles", "0", "--beads", "0",
    )  # fmt: skip
    assert code == 0, err
    assert "Like cell_4 of" in out
    assert "Not known there" in out
    truth = read_truth(root / "twin" / "TS_01_truth.json")
    assert truth.nominal_tilts_deg.tolist() == [-2.0, 1.0, 4.0, 7.0, 10.0]
    assert truth.acquisition.tolist() == [4, 2, 0, 1, 3]
    assert truth.image_shape == (120, 160)
    assert (truth.pixel_size_angstrom, truth.dose, truth.optics.voltage_kv) == (1.7, 2.5, 200.0)
    assert truth.motion_angstrom.shape == (5, 6, 2)
    assert np.median(truth.defocus_u_angstrom) == pytest.approx(20_000.0, abs=2000.0)
    code, _, err = program(
        "simulate", root / "other", "--like", root, "--preset", "purified-beads", "--tilt-step-deg", "5",
        "--image-size-px", "256", "256", "--pixel-size-angstrom", "10",
    )  # fmt: skip
    assert code == 0, err
    truth = read_truth(root / "other" / "TS_01_truth.json")
    assert truth.nominal_tilts_deg.tolist() == [-2.0, 3.0, 8.0]
    assert len(truth.beads)


def test_spectra_are_compared_at_the_dose_of_each_image(root):
    """A boosted first image counts with its own electrons: half of them are not taken for a camera that counts double."""
    params = SimulationParams(
        image_size_px=(128, 128), pixel_size_angstrom=4.0, frames=1, particles_per_species=(6,), macromolecules_kda=(900.0,), beads=0,
        vesicles=0, tilt_angles_deg=(0.0, 15.0, -30.0), tilt_doses=(30.0, 3.0, 4.0), hot_pixels=0, dead_pixels=0, gain_variation=0.0,
    )  # fmt: skip
    simulated = SimulatedSeries.build(params)
    course = simulated.acquisition
    tilts = []
    for number, angle in enumerate(course.nominal_tilts_deg):
        image = simulated.movie(number).sum(axis=0).astype(np.float32)
        write_mrc(root / "motion" / f"{number}.mrc", image, 4.0, is_volume=False)
        tilts.append(
            Tilt(
                nominal_tilt_deg=float(angle), acquisition=int(course.order[number]), dose=float(course.doses(params)[number]),
                pre_exposure=float(course.doses_before(params)[number]), image=f"motion/{number}.mrc",
                ctf=CtfFit(
                    defocus_u_angstrom=float(course.defocus_u_angstrom[number]),
                    defocus_v_angstrom=float(course.defocus_v_angstrom[number]),
                    astigmatism_angle_deg=params.astigmatism_angle_deg,
                ),
            )
        )  # fmt: skip
    series = TiltSeries.sorted(tilts, name="cell_3", pixel_size_angstrom=4.0, image_shape=(128, 128))
    write_tilt_series_set(root / "motion" / "tilt_series.star", [series], root)
    found = recording_of_project(root, "cell_3", params, simulated.specimen.species, None)
    paths = params.thickness_angstrom / (params.inelastic_path_angstrom * np.cos(np.deg2rad([0.0, 15.0, 30.0])))
    np.testing.assert_allclose(found.spectra.electrons, np.array([30.0, 3.0, 4.0]) * np.exp(-paths), rtol=1e-6)
    assert found.fit.detected == pytest.approx(1.0, abs=0.25)

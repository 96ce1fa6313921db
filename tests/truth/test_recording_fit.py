"""What spectra tell of counting, ice and blur: known answers in formulas, in pure noise, and in recorded movies."""

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ShapeError
from eucentric.simulation import SimulatedSeries, SimulationParams
from eucentric.simulation.recording_fit import (
    ContrastSpectra,
    contrast_spectrum,
    fit_recording,
    shell_frequencies,
    simulated_spectra,
)


def invented(*, detected=1.0, ice=1.0, matter=1.0, extra=0.0, noise=0.0):
    k = shell_frequencies(3.0)
    paths = np.array([0.3, 0.45])
    electrons = 3.0 * np.exp(-paths)
    rings = np.sin(np.pi * 0.0197 * 30_000.0 * k**2 + 0.07) ** 2
    grain = np.outer(paths, 0.12 * rings * np.exp(-40.0 * k**2))
    bodies = np.outer([1.0, 1.0], 1.4 * rings * np.exp(-700.0 * k**2) + 0.02 * rings)
    envelope = np.exp(-0.5 * extra * k**2)
    measured = 1.0 / (detected * electrons[:, None]) + (ice**2 * grain + matter**2 * bodies) * envelope
    measured = measured * np.exp(noise * np.random.default_rng(0).normal(size=measured.shape))
    return ContrastSpectra(frequency=k, measured=measured, ice=grain, matter=bodies, electrons=electrons)


def test_a_twin_that_is_right_is_left_as_it_is():
    fit = fit_recording(invented())
    assert fit.misfit < 1e-6
    np.testing.assert_allclose([fit.detected, fit.ice, fit.matter, fit.coarse_ratio], 1.0, atol=1e-6)
    assert fit.extra_b_factor == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "value", "tolerance"),
    [("detected", 0.8, 0.02), ("ice", 1.5, 0.1), ("extra", 300.0, 60.0), ("matter", 1.4, 0.1)],
)
def test_each_unknown_is_told_from_the_others(name, value, tolerance):
    # the priors pull towards "as simulated": the tolerances are what they may take of each
    fit = fit_recording(invented(**{name: value}, noise=0.03))
    found = {"detected": fit.detected, "ice": fit.ice, "matter": fit.matter, "extra": fit.extra_b_factor}
    asked = {"detected": 1.0, "ice": 1.0, "matter": 1.0, "extra": 0.0} | {name: value}
    limits = {"detected": 0.02, "ice": 0.1, "matter": 0.1, "extra": 60.0}
    assert found[name] == pytest.approx(value, abs=tolerance)
    for other, limit in limits.items():
        assert found[other] == pytest.approx(asked[other], abs=limit), other
    assert fit.misfit < 0.05


@pytest.mark.parametrize(("shape", "pixel", "mean"), [((256, 240), 2.0, 12.0), ((191, 224), 5.0, 30.0)])
def test_counted_electrons_have_a_flat_spectrum_of_one_over_their_density(shape, pixel, mean):
    generator = torch.Generator().manual_seed(3)
    image = torch.poisson(torch.full(shape, mean), generator=generator)
    power = contrast_spectrum(image, pixel)
    density = mean / pixel**2
    # a ring at shell j holds about pi j shells^2 / 96^2 samples; the mean of all from the tenth on is good to a percent
    assert power[10:90].mean() * density == pytest.approx(1.0, abs=0.02)
    assert power[60:90].mean() * density == pytest.approx(1.0, abs=0.03)


def test_a_recorded_series_is_like_its_own_simulation():
    params = SimulationParams(
        image_size_px=(256, 240),
        pixel_size_angstrom=4.0,
        particles_per_species=(4, 6),
        beads=0,
        vesicles=0,
        thickness_angstrom=900.0,
        dqe_at_zero=0.8,
        drift_angstrom=0.0,
        doming_angstrom=0.0,
        deformation_angstrom=0.0,
        hot_pixels=0,
        dead_pixels=0,
        gain_variation=0.0,
        tilt_step_deg=30.0,
    )
    recorded = SimulatedSeries.build(params)
    tilts = (1, 2, 3)
    images = [torch.from_numpy(recorded.movie(t).astype(np.float32)).sum(0) for t in tilts]
    assumed = SimulatedSeries.build(params.replace(dqe_at_zero=1.0, ice_noise=0.7))
    ice, matter = zip(*(simulated_spectra(assumed, t) for t in tilts), strict=True)
    paths = 900.0 / (3000.0 * np.cos(np.deg2rad(recorded.acquisition.nominal_tilts_deg[list(tilts)])))
    fit = fit_recording(
        ContrastSpectra(
            frequency=shell_frequencies(4.0),
            measured=np.array([contrast_spectrum(image, 4.0) for image in images]),
            ice=np.array(ice),
            matter=np.array(matter),
            electrons=3.0 * np.exp(-paths),
        )
    )
    assert fit.detected == pytest.approx(0.8, abs=0.04)
    assert fit.ice == pytest.approx(1.0 / 0.7, abs=0.25)
    assert fit.coarse_ratio == pytest.approx(1.0, abs=0.2)
    assert fit.misfit < 0.12


def test_what_cannot_be_compared_is_said():
    good = invented()
    with pytest.raises(InputError, match="finer pixels"):
        fit_recording(
            ContrastSpectra(
                frequency=shell_frequencies(40.0),
                measured=good.measured,
                ice=good.ice,
                matter=good.matter,
                electrons=good.electrons,
            )
        )
    with pytest.raises(ShapeError, match="`ice`"):
        ContrastSpectra(
            frequency=good.frequency,
            measured=good.measured,
            ice=good.ice[:1],
            matter=good.matter,
            electrons=good.electrons,
        )
    with pytest.raises(InputError, match="above zero"):
        contrast_spectrum(torch.zeros(32, 32), 4.0)

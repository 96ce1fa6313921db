"""The methods against known answers, with the measures of `benchmarks/reconstruction_accuracy.py`."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def accuracy():
    path = Path(__file__).parents[2] / "benchmarks" / "reconstruction_accuracy.py"
    spec = importlib.util.spec_from_file_location("reconstruction_accuracy", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def layers(accuracy):
    return accuracy.layered_specimen()


def at_5_angstrom(accuracy, specimen, name, **keywords):
    curves = accuracy.score_depth(specimen, {name: accuracy.DEPTH_METHODS[name]}, **keywords)[name]
    return {where: accuracy.near_resolution(curve, 2.0, 5.0) for where, curve in curves.items()}


def test_the_inverse_shows_more_of_a_noisy_series_than_weighted_back_projection(accuracy, shared_data):
    series = accuracy.practice_series()
    names = (accuracy.PLAIN, accuracy.FLIPPED, accuracy.INVERSE)
    curves = accuracy.score(series, {name: accuracy.METHODS[name] for name in names})
    plain, flipped, inverse = (curves[name] for name in names)
    assert inverse.mean() > 1.03 * flipped.mean()
    assert inverse.mean() > 1.07 * plain.mean()
    assert accuracy.least_shell_ratio(inverse, flipped) > 0.98


def test_detail_far_from_the_middle_of_a_thick_specimen_needs_the_depth(accuracy, layers):
    """90 nm of height turn the phase by 2.2 radians at 5 A: what is not followed is inverted."""
    strips = at_5_angstrom(accuracy, layers, "WBP, flip, strips")
    depth = at_5_angstrom(accuracy, layers, "WBP, flip, strips and depth")
    wrong = at_5_angstrom(accuracy, layers, "WBP, flip, strips and depth", hand=1.0)
    assert depth["inner"] == pytest.approx(strips["inner"], abs=0.01)
    assert depth["outer"] == pytest.approx(depth["inner"], abs=0.1)
    assert strips["outer"] < 0.0
    assert wrong["outer"] < 0.5 * depth["outer"]


def test_the_inverse_follows_the_depth(accuracy, layers):
    whole = at_5_angstrom(accuracy, layers, "inverse, one CTF an image")
    followed = at_5_angstrom(accuracy, layers, "inverse, by height")
    assert followed["outer"] == pytest.approx(followed["inner"], abs=0.1)
    assert followed["outer"] > 0.3
    assert whole["outer"] < 0.0


def test_depth_changes_nothing_in_coarse_voxels_and_thin_specimens(accuracy, layers):
    coarse = replace(layers.series, voxel_size=10.0, truth=torch.empty((200, 32, 128), device="meta"))
    thin = accuracy.layered_specimen((0.0,), thickness_angstrom=200.0, volume_shape=(100, 128, 320))
    curves = accuracy.score_depth(replace(layers, series=coarse), accuracy.DEPTH_METHODS)
    for name, reference in (
        ("WBP, flip, strips and depth", "WBP, flip, strips"),
        ("inverse, by height", "inverse, one CTF an image"),
    ):
        for where in ("inner", "outer"):
            np.testing.assert_allclose(curves[name][where][1:6], curves[reference][where][1:6], atol=0.02)
    strips, depth = (
        at_5_angstrom(accuracy, thin, name)["inner"] for name in ("WBP, flip, strips", "WBP, flip, strips and depth")
    )
    assert depth == pytest.approx(strips, abs=0.01)


def test_a_needle_with_a_missing_wedge_gains_from_iterations(accuracy, shared_data):
    curves = accuracy.score_needle()
    area = {name: curve.mean() for name, curve in curves.items()}
    assert area["SIRT, positive, 100"] > 1.01 * area["WBP"]
    assert area["SART, positive, 20"] > 1.03 * area["WBP"]
    assert area["TV, positive"] > 1.02 * area["WBP"]


def test_a_particle_agrees_with_another_program(accuracy, shared_data):
    assert accuracy.score_particle()["back-projection, no filter"] > 0.88

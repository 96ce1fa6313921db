"""Iterative reconstructions against known densities, plain dense algebra and another program's total variation."""

import math

import numpy as np
import pytest
import torch
from skimage.restoration import denoise_tv_chambolle

from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.geometry import TiltGeometry
from eucentric.reconstruction import (
    ReconstructParams,
    Stopping,
    TiltModel,
    cgls,
    reconstruct_volume,
    sirt,
    total_variation,
)
from eucentric.reconstruction.iterate import conjugate_gradients, largest_eigenvalue
from eucentric.simulation import asymmetric_phantom

TILTS = np.arange(-60.0, 61.0, 5.0)
VOXEL = 8.0
SHAPE = (32, 32, 34)
PHANTOM = asymmetric_phantom(90.0)


def _model(tilts=TILTS, shape=SHAPE, voxel=VOXEL, image_shape=None):
    geometry = TiltGeometry.build(tilts)
    return TiltModel(geometry=geometry, volume_shape=shape, image_shape=image_shape or shape[1:], voxel_size=voxel)


def _phantom_images(model):
    return PHANTOM.project(model.geometry, model.image_shape, VOXEL)


def _noisy(images, part, seed=0):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return images + part * images.std() * noise


def _error(volume, truth):
    return float((volume - truth).norm() / truth.norm())


def _watch(truth, trace):
    return lambda step: trace.append((step.iteration, step.residual, _error(step.volume, truth)))


@pytest.mark.parametrize("subsets", [1, 4, 25])
def test_errors_of_sirt_fall_all_the_way(subsets):
    model, truth, trace = _model(), PHANTOM.volume(SHAPE, VOXEL), []
    on_step = _watch(truth, trace)
    volume = sirt(model, _phantom_images(model), Stopping(iterations=12), subsets=subsets, on_step=on_step)
    iterations, residuals, errors = zip(*trace, strict=True)
    assert iterations == tuple(range(1, 13))
    assert np.all(np.diff(errors) < 0)
    assert np.all(np.diff(residuals) < 0)
    if subsets == 1:
        assert residuals[0] == pytest.approx(1.0)
    assert errors[-1] < {1: 0.68, 4: 0.6, 25: 0.57}[subsets]  # the missing wedge holds the rest
    assert _error(volume, truth) == errors[-1]
    for wrong in (PHANTOM.mirrored().volume(SHAPE, VOXEL), truth.flip(2).roll(1, 2)):
        assert _error(volume, wrong) > errors[-1] + 0.2


def test_errors_of_conjugate_gradients_and_total_variation_fall():
    model, truth = _model(), PHANTOM.volume(SHAPE, VOXEL)
    images = _phantom_images(model)
    for solve, limit in (
        (lambda o: cgls(model, images, Stopping(iterations=12), on_step=o), 0.56),
        (lambda o: total_variation(model, images, Stopping(iterations=60), strength=0.01, on_step=o), 0.35),
    ):
        trace = []
        solve(_watch(truth, trace))
        errors = np.array([t[2] for t in trace])
        assert np.all(np.diff(errors) < 1e-3)
        assert errors[-1] < limit


@pytest.mark.parametrize("voxel", [1.0, 20.0])
def test_results_do_not_depend_on_the_unit_of_length(voxel):
    model, other = _model(TILTS[::3], (10, 8, 12), 5.0), _model(TILTS[::3], (10, 8, 12), voxel)
    images = torch.rand((len(model), 8, 12), generator=torch.Generator().manual_seed(2))
    for solve in (
        lambda m: sirt(m, images, Stopping(iterations=5), subsets=3),
        lambda m: cgls(m, images, Stopping(iterations=5), regularisation=0.01),
        lambda m: total_variation(m, images, Stopping(iterations=30), strength=0.02),
    ):
        one, two = 5.0 * solve(model), voxel * solve(other)
        torch.testing.assert_close(one, two, rtol=0, atol=2e-4 * float(one.abs().max()))


# plain dense algebra


def _dense(seed=3):
    """A tiny model as a matrix of (pixel, voxel), with images and weights."""
    model = _model(np.array([-50.0, -20.0, 10.0, 35.0, 60.0]), (3, 4, 6), 2.0)
    count = math.prod(model.volume_shape)
    matrix = np.stack([model.forward(row.reshape(model.volume_shape)).numpy().ravel() for row in torch.eye(count)], 1)
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.normal(size=(5, 4, 6))).float()
    weights = torch.from_numpy(rng.uniform(0.2, 1.0, size=(5, 4, 6))).float()
    return model, matrix.astype(np.float64), images, weights


def _plain_sirt(matrix, b, w, tilts, subsets, relaxation, iterations, order, least):
    """As written in the textbooks, with the two lower bounds that the documentation names."""
    per_tilt = len(b) // tilts
    sums = matrix.sum(1).reshape(tilts, per_tilt)
    rows = np.maximum(sums, 0.5 * sums.max(1, keepdims=True)).ravel()
    columns = matrix.T @ w
    columns = np.maximum(columns, max(0.05 * columns.max(), least))
    x = np.zeros(matrix.shape[1])
    for _ in range(iterations):
        for start in order:
            pick = np.isin(np.arange(len(b)) // per_tilt, np.arange(start, tilts, subsets))
            part = matrix[pick]
            x = x + subsets * relaxation * (part.T @ (w[pick] * (b[pick] - part @ x) / rows[pick])) / columns
    return x


@pytest.mark.parametrize(("subsets", "order"), [(1, [0]), (3, [0, 2, 1])])
def test_sirt_is_the_plain_one(subsets, order):
    model, matrix, images, weights = _dense()
    found = sirt(model, images, Stopping(iterations=7), weights=weights, subsets=subsets, relaxation=0.8)
    b, w = images.double().numpy().ravel(), weights.double().numpy().ravel()
    expected = _plain_sirt(matrix, b, w, 5, subsets, 0.8, 7, order, subsets * model.voxel_size)
    np.testing.assert_allclose(found.numpy().ravel(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("regularisation", [0.02, 0.2])
def test_conjugate_gradients_solve_the_equations_of_tikhonov(regularisation):
    model, matrix, images, weights = _dense()
    found = cgls(model, images, Stopping(iterations=200), weights=weights, regularisation=regularisation)
    b, w = images.double().numpy().ravel(), weights.double().numpy().ravel()
    normal = matrix.T @ (w[:, None] * matrix)
    largest = largest_eigenvalue(model, weights, rounds=8)
    assert largest == pytest.approx(np.linalg.eigvalsh(normal)[-1], rel=0.05)
    expected = np.linalg.solve(normal + regularisation * largest * np.eye(len(normal)), matrix.T @ (w * b))
    np.testing.assert_allclose(found.numpy().ravel(), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_conjugate_gradients_without_regularisation_fit_like_least_squares():
    model, matrix, images, _ = _dense()
    found = cgls(model, images, Stopping(iterations=300)).double().numpy().ravel()
    b = images.double().numpy().ravel()
    best = np.linalg.lstsq(matrix, b, rcond=None)[0]
    assert np.linalg.norm(matrix @ found - b) < 1.001 * np.linalg.norm(matrix @ best - b)
    # from zero they stay where the images tell something: the shortest of all solutions, as far as it is well determined
    _, values, modes = np.linalg.svd(matrix, full_matrices=False)
    strong = modes[values > 0.1 * values[0]]
    np.testing.assert_allclose(strong @ found, strong @ best, rtol=0, atol=1e-3 * np.abs(best).max())


def test_a_preconditioner_changes_the_way_and_not_the_end():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(24, 24)))[0]
    scale = np.geomspace(1.0, 1e4, 24)
    matrix = torch.from_numpy(np.diag(scale) + 0.1 * turn @ turn.T).double()
    right = torch.from_numpy(rng.normal(size=(2, 3, 4))).double()
    expected = torch.linalg.solve(matrix, right.reshape(-1)).reshape(2, 3, 4)

    def solve(iterations, **options):
        return conjugate_gradients(
            lambda v: (matrix @ v.reshape(-1)).reshape(v.shape), right, Stopping(iterations=iterations), **options
        )

    diagonal = torch.from_numpy(scale).reshape(2, 3, 4)
    assert _error(solve(6, precondition=lambda v: v / diagonal), expected) < 1e-6
    assert _error(solve(6), expected) > 0.1
    assert _error(solve(200), expected) < 1e-5
    with pytest.raises(ProcessingError, match="not positive"):
        conjugate_gradients(lambda v: -v, right, Stopping(iterations=3))


def test_total_variation_is_that_of_another_program():
    # one plane seen from above is its own image, so that the problem is denoising
    model = _model(np.array([0.0]), (1, 30, 33), 2.0)
    rng = np.random.default_rng(5)
    clean = np.zeros((30, 33))
    clean[8:20, 5:25] = 1.0
    clean[12:16, 20:30] = -0.7
    noisy = torch.from_numpy(clean + 0.2 * rng.normal(size=clean.shape)).float()[None]
    strength = 0.1
    # tau |grad x| and (voxel x - b)^2 / 2, with tau = strength * voxel * max |b|: in b's units tau / voxel
    weight = strength * float(noisy.abs().max())
    expected = denoise_tv_chambolle(noisy[0].double().numpy(), weight=weight, eps=1e-9, max_num_iter=2000)
    found = 2.0 * total_variation(model, noisy, Stopping(iterations=1500), strength=strength)[0].numpy()
    assert np.abs(found - expected).mean() < 0.003
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.03)
    assert np.abs(found - clean).mean() < 0.4 * np.abs(noisy[0].numpy() - clean).mean()


# what they are for


def _flat_object(shape=(40, 8, 48)):
    """An ellipse with a hole and a block: three densities with sharp edges."""
    z, _, x = np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij")
    density = 1.0 * ((z / 12) ** 2 + (x / 16) ** 2 < 1)
    density -= 0.6 * (((z - 3) / 4) ** 2 + ((x + 5) / 4) ** 2 < 1)
    density += 0.8 * ((np.abs(z + 4) < 3) & (np.abs(x - 6) < 4))
    return torch.from_numpy(density).float()


def test_total_variation_beats_back_projection_on_flat_densities():
    truth = _flat_object()
    model = _model(np.arange(-60.0, 61.0, 4.0), tuple(truth.shape), 10.0)
    images = _noisy(model.forward(truth), 0.1)
    flat = total_variation(model, images, Stopping(iterations=60, least_change=0.002), strength=0.01)
    weighted = reconstruct_volume(
        images,
        model.geometry,
        pixel_size=10.0,
        volume_shape=tuple(truth.shape),
        voxel_size=10.0,
        params=ReconstructParams(dose_weighting=False),
    )
    assert _error(flat, truth) < 0.3
    assert _error(flat, truth) < 0.5 * _error(weighted, truth)
    few = sirt(model, images, Stopping(iterations=20))
    assert _error(flat, truth) < 0.7 * _error(few, truth)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_constraints_and_support_are_obeyed(sign):
    model, truth = _model(), sign * PHANTOM.volume(SHAPE, VOXEL)
    images = sign * _phantom_images(model)
    constraint = "positive" if sign > 0 else "negative"
    support = torch.zeros(SHAPE)
    support[2:-2, 3:-3, 4:-4] = 1.0
    for solve in (
        lambda **o: sirt(model, images, Stopping(iterations=8), **o),
        lambda **o: sirt(model, images, Stopping(iterations=3), subsets=5, **o),
        lambda **o: total_variation(model, images, Stopping(iterations=20), strength=0.003, **o),
    ):
        free = solve()
        assert float((sign * free).min()) < 0.0
        held = solve(constraint=constraint, support=support)
        assert float((sign * held).min()) >= 0.0
        assert bool((held[support == 0] == 0).all())
        assert _error(held, truth) < 0.97 * _error(free, truth)


def test_what_has_no_weight_does_not_count():
    model = _model()
    images = _phantom_images(model)
    weights = torch.ones_like(images)
    weights[3] = 0.0
    weights[:, 5:9, 10:20] = 0.0
    spoilt = torch.where(weights > 0, images, 1e3)
    clean = torch.where(weights > 0, images, 0.0)
    for solve in (
        lambda i: sirt(model, i, Stopping(iterations=3), weights=weights, subsets=2),
        lambda i: cgls(model, i, Stopping(iterations=3), weights=weights),
        lambda i: total_variation(model, i, Stopping(iterations=5), weights=weights, strength=0.01),
    ):
        torch.testing.assert_close(solve(spoilt), solve(clean))


# stopping and refusing


def test_iterations_end_where_little_changes():
    model = _model()
    images = _noisy(_phantom_images(model), 1.0)

    def count(solve, **rule):
        trace = []
        solve(Stopping(**rule), lambda step: trace.append(step.residual))
        return len(trace), trace

    def by_sirt(stopping, on_step):
        return sirt(model, images, stopping, on_step=on_step)

    number, residuals = count(by_sirt, iterations=60, least_change=0.02)
    falls = -np.diff(residuals) / residuals[:-1]
    assert 3 < number < 30
    assert np.all(falls[:-1] >= 0.02)
    assert falls[-1] < 0.02
    assert count(by_sirt, iterations=number + 5)[0] == number + 5
    assert count(lambda s, o: cgls(model, images, s, regularisation=0.1, on_step=o), iterations=9)[0] == 9

    def by_variation(stopping, on_step):
        return total_variation(model, images, stopping, strength=0.02, on_step=on_step)

    # its residual is flat long before the volume is at rest
    assert 20 < count(by_variation, iterations=200, least_change=0.01)[0] < 200
    with pytest.raises(InputError, match="0 iterations"):
        Stopping(iterations=0)


@pytest.mark.slow
def test_total_variation_has_come_to_rest_where_it_stops():
    model = _model(TILTS[::2], (16, 4, 20))
    images = _noisy(model.forward(_flat_object((16, 4, 20))), 0.2)
    found = total_variation(model, images, Stopping(iterations=1000, least_change=0.001), strength=0.02)
    end = total_variation(model, images, Stopping(iterations=1500), strength=0.02)
    assert _error(found, end) < 0.05


@pytest.mark.parametrize("relaxation", [0.0, -1.0, 2.0, 40.0, math.nan])
def test_a_relaxation_that_runs_away_is_refused(relaxation):
    model = _model()
    with pytest.raises(InputError, match="more than 0 and less than 2"):
        sirt(model, _phantom_images(model), Stopping(iterations=3), relaxation=relaxation)


def test_the_largest_relaxation_and_the_most_subsets_do_not_run_away():
    # the ends of a wide, thick volume are seen by few tilts, and in some subsets by one
    model = _model(np.arange(-66.0, 67.0, 6.0), (30, 8, 40))
    images = model.forward(torch.rand(model.volume_shape, generator=torch.Generator().manual_seed(0)))
    for subsets in (1, 7, len(model)):
        trace = []
        sirt(
            model,
            images,
            Stopping(iterations=40),
            subsets=subsets,
            relaxation=1.95,
            on_step=lambda step, t=trace: t.append(step.residual),
        )
        assert trace[-1] < 0.2
        assert trace[-1] <= 1.05 * min(trace)


def test_running_away_is_told():
    model = _model()

    class Twice:
        """Images with twice what the transpose says: every correction is too large, as with wrong weights."""

        volume_shape, image_shape, voxel_size = SHAPE, SHAPE[1:], VOXEL

        def __len__(self):
            return len(model)

        def forward(self, volume):
            return model.forward(volume) * (1.0 if bool((volume == 1).all()) else 4.0)

        def adjoint(self, images):
            return model.adjoint(images)

    with pytest.raises(ProcessingError, match="ran away: after") as told:
        sirt(Twice(), _phantom_images(model), Stopping(iterations=40))
    assert "relaxation" in str(told.value)


def test_images_without_content_are_refused():
    model = _model(TILTS[::6], (4, 5, 6))
    nothing = torch.zeros((len(model), 5, 6))
    for solve in (
        lambda i, w: sirt(model, i, Stopping(iterations=2), weights=w),
        lambda i, w: cgls(model, i, Stopping(iterations=2), weights=w),
        lambda i, w: total_variation(model, i, Stopping(iterations=2), weights=w, strength=0.1),
    ):
        with pytest.raises(ProcessingError, match="all zero"):
            solve(nothing, None)
        with pytest.raises(ProcessingError, match="all zero"):
            solve(nothing + 1.0, nothing)
        with pytest.raises(ShapeError, match="Weights of shape"):
            solve(nothing + 1.0, nothing[1:])
        with pytest.raises(ShapeError, match="Images of shape"):
            solve(torch.ones((2, 5, 6)), None)


def test_numbers_out_of_range_are_refused():
    model = _model(TILTS[::6], (4, 5, 6))
    images = torch.ones((len(model), 5, 6))
    for subsets in (0, 6):
        with pytest.raises(InputError, match=f"{subsets} subsets of 5 tilts"):
            sirt(model, images, Stopping(iterations=1), subsets=subsets)
    with pytest.raises(InputError, match="strength"):
        total_variation(model, images, Stopping(iterations=1), strength=0.0)
    with pytest.raises(InputError, match="regularisation"):
        cgls(model, images, Stopping(iterations=1), regularisation=-0.1)

"""Prediction of simulated stages, one tilt ahead: errors, tracking exposures, honesty of the errors expected.

    python benchmarks/stage_prediction.py
    python benchmarks/stage_prediction.py --series 8

Every series has a stage, height, offset and pre-tilt of its own (`eucentric.simulation.stage`). The first three tilts train and
are not counted. "untracked" are the tilts at which no tracking exposure was asked for; "smooth" is the error without what the stage
misses at random, which nobody predicts. The prior knows nothing of the simulated stages. Correlation errs by 3 nm and the defocus of
an image by 50 nm at 0 degrees, more by 1/cos at other tilts.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from eucentric.acquisition import PositionPredictor, PredictionParams, learn_goniometer, replay
from eucentric.acquisition.goniometer import GoniometerModel
from eucentric.models.stage_track import StageTrack
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.simulation.stage import Stage, StageParams, StageSeries, draw_stage, measured_track, run_series

TRAINING = 3
SCHEMES = {
    "dose-symmetric 3 deg": TiltScheme(),
    "groups of 2": TiltScheme(group_size=2),
    "bidirectional": TiltScheme(order="bidirectional"),
    "continuous": TiltScheme(order="continuous"),
}
STAGES = {
    "smooth stage": StageParams(),
    "rough stage": StageParams(highest_order=7, run_out_decay=1.5),
    "noise 7 nm": StageParams(noise_angstrom=100.0 / np.sqrt(2.0)),
}
POSITION, HEIGHT = 30.0, 500.0


def one_series(
    stage: Stage, scheme: TiltScheme, rng: np.random.Generator, height: float | None = HEIGHT
) -> tuple[StageSeries, StageTrack]:
    """True places, and what is measured of them."""
    series = run_series(stage, scheme.angles_in_order(), rng)
    measured = measured_track(series.tracks[0], rng, position_sigma_angstrom=POSITION, height_sigma_angstrom=height)
    return series, measured


def truth(series: StageSeries) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) with and without noise."""
    track = series.tracks[0]
    return np.column_stack([track.position_angstrom, track.height_angstrom]), series.smooth[0]


Predict = Callable[[StageTrack], tuple[np.ndarray, np.ndarray, list[bool]]]


def by_filter(goniometer: GoniometerModel | None = None) -> Predict:
    def predict(track: StageTrack) -> tuple[np.ndarray, np.ndarray, list[bool]]:
        done = replay(track, None, goniometer)
        return done.predicted_angstrom, done.sigma_angstrom, list(done.tracking)

    return predict


def same_as_last(track: StageTrack) -> tuple[np.ndarray, np.ndarray, list[bool]]:
    """Each side of a series goes on where its neighbour was."""
    out = np.full((len(track), 3), np.nan)
    measured = np.column_stack([track.position_angstrom, track.height_angstrom])
    for i in range(1, len(track)):
        out[i] = measured[np.argmin(np.abs(track.tilts_deg[:i] - track.tilts_deg[i]))]
    return out, np.full_like(out, np.nan), [False] * len(track)


def geometry_only(track: StageTrack) -> tuple[np.ndarray, np.ndarray, list[bool]]:
    """Eisenstein's: from the neighbour on, by a height refitted to the last four shifts of this side; nothing along the axis."""
    out = np.full((len(track), 3), np.nan)
    measured = np.column_stack([track.position_angstrom, track.height_angstrom])
    angles = np.deg2rad(track.tilts_deg)
    offset, steps = 0.0, {1: [], -1: []}
    heights = {1: 0.0, -1: 0.0}
    for i in range(1, len(track)):
        near = int(np.argmin(np.abs(angles[:i] - angles[i])))
        side = 1 if angles[i] >= angles[0] else -1
        sine, cosine = np.sin(angles[i]) - np.sin(angles[near]), np.cos(angles[i]) - np.cos(angles[near])
        h = heights[side] if steps[side] else heights[-side]
        out[i] = measured[near] + (offset * cosine + h * sine, 0.0, h * cosine - offset * sine)
        steps[side] = [*steps[side], (sine, measured[i, 0] - measured[near, 0] - offset * cosine)][-4:]
        a, b = np.array(steps[side]).T
        heights[side] = float(a @ b / (a @ a))
    return out, np.full_like(out, np.nan), [False] * len(track)


def scored(runs: list[tuple[StageSeries, StageTrack]], predict: Predict) -> dict[str, np.ndarray | float]:
    """Errors, nm, of all series together."""
    errors, smooths, ratios, untracked, tracked, count = [], [], [], [], 0, 0
    for series, measured in runs:
        predicted, sigma, tracking = predict(measured)
        noisy, smooth = truth(series)
        errors.append((noisy - predicted)[TRAINING:] / 10.0)
        smooths.append((smooth - predicted)[TRAINING:] / 10.0)
        ratios.append(errors[-1] / sigma[TRAINING:] * 10.0)
        untracked.append(errors[-1][~np.array(tracking[TRAINING:])])
        tracked += sum(tracking[TRAINING:])
        count += len(measured) - TRAINING
    return {
        "error": rms(np.concatenate(errors)),
        "smooth": rms(np.concatenate(smooths)),
        "ratio": rms(np.concatenate(ratios)),
        "untracked": rms(np.concatenate(untracked)),
        "tracked": tracked / count,
    }


def rms(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(values**2, axis=0))


def show(label: str, row: dict[str, np.ndarray | float]) -> None:
    e, s, r, u = row["error"], row["smooth"], row["ratio"], row["untracked"]
    print(
        f"{label:44s} x {e[0]:6.1f}  y {e[1]:6.1f}  component {rms(e[:2]):6.1f}  vector {np.hypot(e[0], e[1]):6.1f}  "
        f"smooth {rms(s[:2]):6.1f}  untracked {rms(u[:2]):6.1f}  focus {e[2]:6.1f}  error/sigma {rms(r[:2]):4.2f} {r[2]:4.2f}  "
        f"tracking {100 * row['tracked']:4.1f}%",
        flush=True,
    )


def focus_spot(
    stage: Stage, scheme: TiltScheme, rng: np.random.Generator, goniometer: GoniometerModel | None
) -> tuple[np.ndarray, float]:
    """No defocus of images: heights come only from exposures on a spot 3 um along the axis, taken where they are asked for."""
    series = run_series(stage, scheme.angles_in_order(), rng, places_angstrom=((0.0, 0.0), (0.0, 30000.0)))
    target = measured_track(series.tracks[0], rng, position_sigma_angstrom=POSITION, height_sigma_angstrom=None)
    spot = measured_track(series.tracks[1], rng, position_sigma_angstrom=POSITION, height_sigma_angstrom=300.0)
    predictor = PositionPredictor(PredictionParams(), goniometer)
    predictor.add_target("T")
    predictor.add_target("F", (0.0, 30000.0), on_axis=True)
    true, errors, tracked = truth(series)[0], [], 0
    zero = spot.height_angstrom[0]  # heights are counted from the spot at the first angle, as it was measured
    for i, tilt in enumerate(target.tilts_deg):
        if i:
            said = predictor.predict(tilt, "T")
            found = np.array([*said.position_angstrom, said.height_angstrom])
            errors.append(found - true[i] + (0.0, 0.0, zero))
        if i < TRAINING or said.track_now:
            tracked += i >= TRAINING
            predictor.update(
                tilt, spot.position_angstrom[i], target="F", sigma_angstrom=spot.position_sigma_angstrom[i],
                height_angstrom=spot.height_angstrom[i] - zero, height_sigma_angstrom=spot.height_sigma_angstrom[i],
            )  # fmt: skip
        predictor.update(
            tilt, target.position_angstrom[i], target="T", sigma_angstrom=target.position_sigma_angstrom[i]
        )
    return np.array(errors)[TRAINING - 1 :] / 10.0, tracked / (len(target) - TRAINING)


def whole_rest(track: StageTrack, series: StageSeries, goniometer: GoniometerModel | None) -> np.ndarray:
    """(n, 3), nm: all later tilts predicted from the first three alone."""
    predictor = PositionPredictor(None, goniometer)
    for i in range(TRAINING):
        predictor.update(
            track.tilts_deg[i], track.position_angstrom[i], sigma_angstrom=track.position_sigma_angstrom[i],
            height_angstrom=track.height_angstrom[i], height_sigma_angstrom=track.height_sigma_angstrom[i],
        )  # fmt: skip
    said = [predictor.predict(t) for t in track.tilts_deg[TRAINING:]]
    places = np.array([[*s.position_angstrom, s.height_angstrom] for s in said])
    return (truth(series)[0][TRAINING:] - places) / 10.0


def eleventh(count: int, stages: StageParams, seed: int) -> None:
    """With and without what ten series taught."""
    plain, taught, plain_rest, taught_rest = [], [], [], []
    spot_plain, spot_taught = [], []
    for number in range(count):
        rng = np.random.default_rng(seed + number)
        stage = draw_stage(rng, stages)
        scheme = list(SCHEMES.values())[number % len(SCHEMES)]
        model = learn_goniometer([one_series(stage, scheme, rng)[1] for _ in range(10)])
        run = one_series(stage, scheme, rng)
        plain.append((run, None))
        taught.append((run, model))
        plain_rest.append(whole_rest(run[1], run[0], None))
        taught_rest.append(whole_rest(run[1], run[0], model))
        spot_plain.append(focus_spot(stage, scheme, np.random.default_rng(seed + number), None))
        spot_taught.append(focus_spot(stage, scheme, np.random.default_rng(seed + number), model))
    for label, pairs in (("eleventh series, nothing learned", plain), ("eleventh series, ten learned", taught)):
        rows = [scored([run], by_filter(model)) for run, model in pairs]
        mean = {key: rms(np.array([row[key] for row in rows])) for key in rows[0]}
        show(label, mean | {"tracked": float(np.mean([row["tracked"] for row in rows]))})
    for label, rests in (("nothing learned", plain_rest), ("ten learned", taught_rest)):
        e = rms(np.concatenate(rests))
        print(f"  all from the first three tilts, {label:16s} component {rms(e[:2]):7.1f}  focus {e[2]:7.1f}")
    for label, spots in (("nothing learned", spot_plain), ("ten learned", spot_taught)):
        e = rms(np.concatenate([s[0] for s in spots]))
        print(
            f"  focus from a spot alone, {label:16s} component {rms(e[:2]):7.1f}  focus {e[2]:7.1f}  "
            f"exposures {100 * np.mean([s[1] for s in spots]):.1f}%"
        )


def least_error(params: StageParams, scheme: TiltScheme, draws: int = 3000) -> float:
    """nm: rms of y one tilt ahead, noise included, of the best linear predictor, which knows the covariance of all stages exactly."""
    angles = scheme.angles_in_order()
    paths = []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        paths.append(run_series(draw_stage(rng, params), angles, rng).smooth[0, :, 1])
    covariance = np.cov(np.array(paths).T) + 1e8  # the zero of positions is not known
    scatter = params.noise_angstrom**2 + (POSITION / np.cos(np.deg2rad(angles))) ** 2
    left = [
        covariance[i, i]
        - covariance[i, :i] @ np.linalg.solve(covariance[:i, :i] + np.diag(scatter[:i]), covariance[:i, i])
        for i in range(TRAINING, len(angles))
    ]
    return float(np.sqrt(np.mean(left) + params.noise_angstrom**2)) / 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=50)
    parser.add_argument("--seed", type=int, default=20_000)
    parser.add_argument("--floor", action="store_true", help="only the least error that a linear predictor can make")
    given = parser.parse_args()
    if given.floor:
        for kind, params in STAGES.items():
            for label, scheme in SCHEMES.items():
                print(f"{kind}, {label}: y {least_error(params, scheme):.1f} nm", flush=True)
        return
    begun = time.perf_counter()
    for kind, params in STAGES.items():
        print(f"{kind}: rms in nm, {given.series} series a row")
        for label, scheme in SCHEMES.items():
            rngs = [np.random.default_rng(given.seed + i) for i in range(given.series)]
            runs = [one_series(draw_stage(rng, params), scheme, rng) for rng in rngs]
            show(label, scored(runs, by_filter()))
            if label.startswith("dose"):
                show("  same as the nearest tilt", scored(runs, same_as_last))
                show("  geometry alone, four shifts", scored(runs, geometry_only))
        eleventh(given.series, params, given.seed + 10_000)
    print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()

"""The hidden chain of dwells behind one continuous movie; see `assign_frames`."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from eucentric.errors import ProcessingError
from eucentric.motion.continuous_band import (
    BoolArray,
    IntArray,
    MovieBand,
    batches,
    correlation_maps,
    drift_prior,
    map_peaks,
    pair_odds,
    shell_sums,
    turn,
)
from eucentric.typing import FloatArray

_PARTS = (0.0, 0.25, 0.5, 0.7)
"""How much of a dwell's scene a frame of the moving stage may show."""
_ROUNDS = 6
_SWEEPS = 3
_REACH = 8
"""Frames beyond the ends of a dwell that are compared with it."""
_LONGEST_STEP = 6
_STEP = math.log(1.0 / 20.0)
"""Log probability that the stage steps after a frame: dwells of some tens of frames are usual."""
_BETWEEN_DWELLS = 4.0
"""The displacement from one dwell to the next, in units of the drift between frames, if they were one."""
_USUAL_FRAMES = 16.0
_HALF_WAY = 0.4
_TELLING = 3.0
_SHORTEST = 0.25
"""Of the usual length of dwells: all tilts are meant to have about the same exposure."""
_SAME_SCENE = -10.0
"""Log probability that a step within a dwell of usual length leaves the scene as it was: few do, and any frame may by
chance look blurred."""
_NEVER = -1e9


@dataclass(frozen=True, slots=True)
class Dwell:
    """A run of frames of one scene: positions in the list of lit frames."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Odds:
    """Log odds of frames against each showing a scene of its own."""

    whole: FloatArray
    """Of showing a dwell's whole scene."""
    mixed: FloatArray
    """Of showing a part of it or none, as the stage moves."""


class DwellChain:
    """Finds dwells among lit frames: first roughly, from pairs; then frame by frame, against the dwells' own scenes."""

    def __init__(self, band: MovieBand, place: IntArray, drift: float, fewest: int) -> None:
        self.band, self.drift, self.fewest = band, drift, fewest
        self.count = len(place)
        self.gap = np.concatenate([[False], np.diff(place) > 1])
        """Whether dark frames come before a frame."""
        self.position = torch.zeros(self.count, 2, device=band.values.device)
        """(frame, 2), A: displacement of each frame's content within its dwell."""
        self.number = band.number

    def solve(self, wanted: int | None) -> tuple[list[Dwell], FloatArray]:
        """Dwells, and for every lit frame the probability of belonging to the dwell that holds it.

        Raises
        ------
        ProcessingError : no dwells at all
        """
        dwells = self._rough(wanted)
        if not dwells:
            raise ProcessingError(
                "No frames of the movie were found to show the same scene: it holds too little signal to tell when the "
                "stage moved. Give the frames of each tilt in a table, with --frame-table."
            )
        for dwell in dwells:
            self._align(dwell)
        self._measure(dwells)
        dwells, probability = self._refine(self._count_right(dwells, wanted))
        for _ in range(_ROUNDS):
            before = dwells
            self._measure(dwells)
            counted = self._count_right(self._with_lost(dwells), wanted)
            dwells, probability = self._refine(counted)
            if counted == before and dwells == before:
                break
        return dwells, probability

    def _rough(self, wanted: int | None) -> list[Dwell]:
        """The best division of the movie into runs whose pairs of frames show one scene."""
        group = self._group(wanted)
        edges = [0, *np.flatnonzero(self.gap).tolist(), self.count]
        blocks: list[tuple[int, int]] = []
        for a, b in pairwise(edges):
            parts = max(1, (b - a) // group)
            cuts = [a + round(i * (b - a) / parts) for i in range(parts + 1)]
            blocks += list(pairwise(cuts))
        values = torch.stack([self.band.values[a:b].sum(0) / math.sqrt(b - a) for a, b in blocks])
        odds = pair_odds(self.band, values, self.band.signal * group, self.drift)
        # most pairs are of one dwell: those far below their mean are rather of two
        odds -= _HALF_WAY * np.maximum(0.0, odds.mean(1, keepdims=True))
        runs = best_runs(odds, max(2, math.ceil(self.fewest / group)), wanted)
        return [Dwell(blocks[a][0], blocks[b - 1][1]) for a, b in runs]

    def _group(self, wanted: int | None) -> int:
        """How many neighbouring frames to join, so that two groups can tell whether they show one scene."""
        usual = self.count / wanted if wanted else _USUAL_FRAMES
        group = 1
        while group * 2 <= usual / 4.0:
            gain = group * self.band.signal
            if float((self.number * gain**2 / (1.0 + 2.0 * gain)).sum()) > _TELLING:
                break
            group *= 2
        return group

    def _measure(self, dwells: list[Dwell]) -> None:
        """The scene's power, from what the frames of each dwell share."""
        band = self.band
        shared = torch.zeros_like(band.signal)
        pairs = 0
        for dwell in dwells:
            aligned = self._aligned(dwell)
            count = len(aligned)
            power = aligned.sum(0).abs().square() - aligned.abs().square().sum(0)
            shared += shell_sums(band, power)
            pairs += count * (count - 1)
        shared = shared / self.number.clamp(min=1) / max(1, pairs)
        padded = torch.cat([shared[:1], shared, shared[-1:]])
        band.signal = (0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]).clamp(min=1e-6)

    def _aligned(self, dwell: Dwell) -> Tensor:
        frames = slice(dwell.start, dwell.stop)
        return self.band.values[frames] * turn(self.band, self.position[frames])

    def _align(self, dwell: Dwell) -> None:
        """Displacements of the frames of a dwell, each against the sum of the others."""
        band, frames = self.band, slice(dwell.start, dwell.stop)
        count = dwell.stop - dwell.start
        weight = (2.0 * band.signal / (1.0 + count * band.signal))[band.shell]
        for _ in range(_SWEEPS):
            aligned = self._aligned(dwell)
            total = aligned.sum(0)
            centre, scale = self._expected(dwell, dwell.start, dwell.stop)
            found = []
            for some in batches(count):
                maps = correlation_maps(band, band.values[frames][some] * (total - aligned[some]).conj() * weight)
                found.append(map_peaks(band, maps + drift_prior(band, centre[some], scale[some])))
            at = torch.cat(found)
            self.position[frames] = at - at.median(0).values

    def _expected(self, dwell: Dwell, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Where the content of frames `first` to `last` should lie in a dwell, and how surely (A)."""
        own = self.position[dwell.start : dwell.stop]
        ahead, behind = dwell.start - first, last - dwell.stop
        neighbours = 0.5 * (torch.cat([own[1:2], own[:-1]]) + torch.cat([own[1:], own[-2:-1]])) if len(own) > 1 else own
        centre = torch.cat([own[:1].expand(ahead, 2), neighbours, own[-1:].expand(behind, 2)])
        far = np.concatenate([np.arange(ahead, 0, -1), np.zeros(len(own)), np.arange(1, behind + 1)])
        return centre, torch.from_numpy(self.drift * (1.0 + 0.5 * far)).float().to(own.device)

    def _near(self, dwell: Dwell) -> tuple[IntArray, _Odds]:
        """Frames in and about a dwell, and their odds of belonging to it."""
        first, last = max(0, dwell.start - _REACH), min(self.count, dwell.stop + _REACH)
        aligned = self._aligned(dwell)
        total = aligned.sum(0).expand(last - first, -1).clone()
        total[dwell.start - first : dwell.stop - first] -= aligned
        number = torch.full((last - first,), float(dwell.stop - dwell.start), device=total.device)
        number[dwell.start - first : dwell.stop - first] -= 1.0
        centre, scale = self._expected(dwell, first, last)
        return np.arange(first, last), self._compare(first, last, total, number, centre, scale)

    def _compare(self, first: int, last: int, total: Tensor, number: Tensor, centre: Tensor, scale: Tensor) -> _Odds:
        """Frames against the scene of which `total` is the sum of `number` frames, at displacements about `centre`."""
        band, signal = self.band, self.band.signal
        values = band.values[first:last]
        # the scene is predicted as `doubt` times the sum, with the variance `doubt`; noise has 1
        doubt = signal / (1.0 + number[:, None] * signal)
        weight = 2.0 * doubt / (1.0 + doubt)
        places, averages = [], []
        for some in batches(len(values)):
            prior = drift_prior(band, centre[some], scale[some])
            maps = correlation_maps(band, values[some] * total[some].conj() * weight[some][:, band.shell]) + prior
            flat = maps.flatten(1)
            places.append(map_peaks(band, maps))
            # averaged over displacements, rather than at the best: with the prior there
            best = flat.argmax(1, keepdim=True)
            chosen = prior.flatten(1).gather(1, best)[:, 0]
            averages.append(torch.logsumexp(flat, 1) - flat.max(1).values + chosen)
        averaging = torch.cat(averages)
        turned = values * turn(band, torch.cat(places))
        power = shell_sums(band, values.abs().square())
        predicted = shell_sums(band, total.abs().square()) * doubt**2
        shared = shell_sums(band, (turned * total.conj()).real) * doubt
        own = (self.number * torch.log1p(signal) + power / (1.0 + signal)).sum(1)

        def odds(part: float, other: float) -> Tensor:
            variance = 1.0 + part**2 * doubt + other * signal
            misfit = (power - 2.0 * part * shared + part**2 * predicted) / variance
            placed = averaging if part > 0.0 else torch.zeros_like(averaging)
            return own - (self.number * torch.log(variance) + misfit).sum(1) + placed

        parts = torch.stack([odds(part, other) for part in _PARTS for other in (0.0, (1.0 - part) ** 2)])
        mixed = torch.logsumexp(parts, 0) - math.log(len(parts))
        return _Odds(odds(1.0, 0.0).double().cpu().numpy(), mixed.double().cpu().numpy())

    def _refine(self, dwells: list[Dwell]) -> tuple[list[Dwell], FloatArray]:
        """The likeliest frames of each dwell, given the scenes of all; a dwell that loses its frames is gone."""
        whole = np.full((self.count, len(dwells)), _NEVER)
        mixed = np.zeros((self.count, len(dwells) + 1))
        for i, dwell in enumerate(dwells):
            self._align(dwell)
            frames, odds = self._near(dwell)
            whole[frames, i] = odds.whole
            for j in (i, i + 1):
                mixed[frames, j] = np.maximum(mixed[frames, j], odds.mixed)
        path, probability = follow_chain(whole, mixed, self.gap)
        found = []
        shortest = self._shortest(dwells)
        for i in range(len(dwells)):
            own = np.flatnonzero(path == i)
            if len(own) >= shortest:
                found.append(Dwell(int(own[0]), int(own[-1]) + 1))
        return found, probability

    def _shortest(self, dwells: list[Dwell]) -> int:
        """Frames that a dwell has at least: shorter runs are of the moving stage."""
        return max(self.fewest, math.ceil(_SHORTEST * _usual_length(dwells)))

    @staticmethod
    def _same_scene(frames: int, usual: float) -> float:
        """Log probability that a step within so many frames leaves the scene as it was."""
        return 0.0 if frames > 1.5 * usual else _SAME_SCENE

    def _with_lost(self, dwells: list[Dwell]) -> list[Dwell]:
        """The dwells, and runs of frames outside of all that show a scene of their own."""
        edges = [0, *(e for d in dwells for e in (d.start, d.stop)), self.count]
        found = list(dwells)
        for start, stop in zip(edges[0::2], edges[1::2], strict=True):
            if stop - start < self._shortest(dwells):
                continue
            lost = Dwell(start, stop)
            self._align(lost)
            aligned = self._aligned(lost)
            one = self._scene(aligned.sum(0)[None], torch.tensor([float(stop - start)], device=aligned.device))
            single = self._own_scene(shell_sums(self.band, aligned.abs().square())).clamp(min=0.0).sum()
            if float(one - single) + _STEP > 0.0:
                found.append(lost)
        return sorted(found, key=lambda d: d.start)

    def _count_right(self, dwells: list[Dwell], wanted: int | None) -> list[Dwell]:
        """Divide dwells that hold a step and join those that do not differ; with a number wanted, towards it."""
        dwells = self._divide(dwells, wanted)
        usual = _usual_length(dwells)
        joins = [self._step_odds(a, b, usual) for a, b in pairwise(dwells)]
        while joins:
            i = int(np.argmin(joins))
            if joins[i] >= 0.0 if wanted is None else len(dwells) <= wanted:
                break
            joined = Dwell(dwells[i].start, dwells[i + 1].stop)
            self._align(joined)
            dwells = [*dwells[:i], joined, *dwells[i + 2 :]]
            del joins[i]
            for j in (i - 1, i):
                if 0 <= j < len(joins):
                    joins[j] = self._step_odds(dwells[j], dwells[j + 1], usual)
        return dwells

    def _divide(self, dwells: list[Dwell], wanted: int | None) -> list[Dwell]:
        """Divide at steps until none is likely; with a number wanted, until it is reached.

        Beyond that number only a step is taken that is likelier than the least likely one there is.
        """
        fewest, usual = self._shortest(dwells), _usual_length(dwells)
        pieces = [(self._best_split(d, fewest, usual), d) for d in dwells]
        enough = 0.0
        if wanted is not None:
            least = min((self._step_odds(a, b, usual) for a, b in pairwise(dwells)), default=0.0)
            enough = max(0.0, least)
        while pieces:
            (odds, end, begin), dwell = max(pieces, key=lambda p: p[0][0])
            missing = wanted is not None and len(pieces) < wanted
            if odds == _NEVER or (odds <= enough and not missing):
                break
            pieces.remove(((odds, end, begin), dwell))
            for part in (Dwell(dwell.start, end), Dwell(begin, dwell.stop)):
                self._align(part)
                pieces.append((self._best_split(part, fewest, usual), part))
        return sorted((d for _, d in pieces), key=lambda d: d.start)

    def _own_scene(self, power: Tensor) -> Tensor:
        """(frame,): log odds that each frame shows a scene rather than noise; `power` in shells."""
        signal = self.band.signal
        return (power * signal / (1.0 + signal) - self.number * torch.log1p(signal)).sum(1)

    def _scene(self, sums: Tensor, number: Tensor) -> Tensor:
        """(batch,): log odds that the frames of each sum show one scene rather than noise."""
        signal, n = self.band.signal, number[:, None]
        power = shell_sums(self.band, sums.abs().square())
        return (power * signal / (1.0 + n * signal) - self.number * torch.log1p(n * signal)).sum(1)

    def _best_split(self, dwell: Dwell, fewest: int, usual: float) -> tuple[float, int, int]:
        """Log odds that a dwell is two; the end of the first and the begin of the second."""
        count = dwell.stop - dwell.start
        best = (_NEVER, dwell.start, dwell.stop)
        if count < 2 * fewest:
            return best
        aligned = self._aligned(dwell)
        number = torch.arange(1.0, count + 1.0, device=aligned.device)
        forward = self._scene(aligned.cumsum(0), number).double().cpu().numpy()
        backward = self._scene(aligned.flip(0).cumsum(0), number).double().cpu().numpy()[::-1]
        single = self._own_scene(shell_sums(self.band, aligned.abs().square())).clamp(min=0.0).double().cpu().numpy()
        lost = np.concatenate([[0.0], np.cumsum(single)])
        frames, odds_near = self._near(dwell)
        own = slice(dwell.start - int(frames[0]), dwell.stop - int(frames[0]))
        blurred = np.concatenate([[0.0], np.cumsum(odds_near.mixed[own] - odds_near.whole[own])])
        for skip in range(_LONGEST_STEP):
            at = np.arange(fewest, count - fewest - skip + 1)
            if len(at) == 0:
                break
            two = forward[at - 1] + backward[at + skip] + lost[at + skip] - lost[at] - forward[-1]
            # a small step may lead to much the same scene: then the frames in between alone tell of it
            odds = np.maximum(two, blurred[at + skip] - blurred[at] + self._same_scene(count, usual)) + _STEP
            i = int(odds.argmax())
            if odds[i] > best[0]:
                best = (float(odds[i]), dwell.start + int(at[i]), dwell.start + int(at[i]) + skip)
        return best

    def _step_odds(self, one: Dwell, two: Dwell, usual: float) -> float:
        """Log odds that two neighbouring dwells show two scenes, the stage having moved in between, rather than one."""
        band, signal = self.band, self.band.signal
        sums = torch.stack([self._aligned(d).sum(0) for d in (one, two)])
        number = torch.tensor([float(d.stop - d.start) for d in (one, two)], device=sums.device)
        apart = float(self._scene(sums, number).sum())
        both = number.sum()
        weight = (2.0 * signal / (1.0 + both * signal))[band.shell]
        centre = (self.position[one.stop - 1] - self.position[two.start])[None]
        scale = torch.tensor([_BETWEEN_DWELLS * self.drift], device=sums.device)
        prior = drift_prior(band, -centre, scale)
        maps = correlation_maps(band, (sums[1] * sums[0].conj() * weight)[None]) + prior
        at = map_peaks(band, maps)
        flat = maps.reshape(-1)
        averaging = float(torch.logsumexp(flat, 0) - flat.max() + prior.reshape(-1)[flat.argmax()])
        joined = sums[0] + (sums[1:] * turn(band, at))[0]
        together = float(self._scene(joined[None], both[None])) + averaging
        between = two.start - one.stop
        moved = together
        if between > 0:
            middle = 0.5 * (self.position[one.stop - 1] + self.position[two.start] + at[0])
            odds = self._compare(
                one.stop,
                two.start,
                joined.expand(between, -1),
                both.expand(between),
                middle.expand(between, 2),
                scale.expand(between),
            )
            apart += float(np.maximum(odds.mixed, 0.0).sum())
            moved += float(odds.mixed.sum()) + self._same_scene(two.stop - one.start, usual)
            together += float(odds.whole.sum())
        return max(apart, moved) - together + _STEP


def _usual_length(dwells: list[Dwell]) -> float:
    return float(np.median([d.stop - d.start for d in dwells])) if dwells else 0.0


def best_runs(odds: FloatArray, fewest: int, wanted: int | None) -> list[tuple[int, int]]:
    """Runs of frames with the greatest sum of pair odds, by dynamic programming; frames between runs count nothing.

    Parameters
    ----------
    odds : (lag, frame): of a frame and the one lag + 1 later
    fewest : shortest run
    wanted : number of runs; None for as many as pay

    Returns
    -------
    list of (first, last + 1), in order; fewer than wanted where so many do not fit
    """
    lags, count = odds.shape
    # score[t, a]: the run of frames a to t
    score = np.zeros((count, count))
    for lag in range(1, min(lags, count - 1) + 1):
        for t in range(lag, count):
            score[t, : t - lag + 1] += odds[lag - 1, t - lag]
    np.cumsum(score, axis=0, out=score)
    best = np.full((count + 1) if wanted is None else (wanted + 1, count + 1), _NEVER)
    if wanted is None:
        return _as_many_as_pay(score, fewest)
    best[0] = 0.0
    begin = np.full((wanted + 1, count + 1), -1)
    for t in range(1, count + 1):
        values = best[:-1, : max(0, t - fewest + 1)] + score[t - 1, : max(0, t - fewest + 1)]
        best[1:, t] = best[1:, t - 1]
        if values.shape[1] == 0:
            continue
        at = values.argmax(1)
        top = values[np.arange(wanted), at]
        better = top > best[1:, t]
        best[1:, t][better] = top[better]
        begin[1:, t][better] = at[better]
    k = int(np.flatnonzero(best[:, count] > 0.5 * _NEVER)[-1])
    runs: list[tuple[int, int]] = []
    t = count
    while k > 0:
        while begin[k, t] < 0:
            t -= 1
        runs.append((int(begin[k, t]), t))
        k, t = k - 1, int(begin[k, t])
    return runs[::-1]


def _as_many_as_pay(score: FloatArray, fewest: int) -> list[tuple[int, int]]:
    count = len(score)
    best, begin = np.zeros(count + 1), np.full(count + 1, -1)
    for t in range(1, count + 1):
        best[t] = best[t - 1]
        if t >= fewest:
            values = best[: t - fewest + 1] + score[t - 1, : t - fewest + 1] + _STEP
            a = int(values.argmax())
            if values[a] > best[t]:
                best[t], begin[t] = values[a], a
    runs: list[tuple[int, int]] = []
    t = count
    while t > 0:
        if begin[t] < 0:
            t -= 1
        else:
            runs.append((int(begin[t]), t))
            t = int(begin[t])
    return runs[::-1]


def follow_chain(whole: FloatArray, mixed: FloatArray, gap: BoolArray) -> tuple[IntArray, FloatArray]:
    """The likeliest course through dwell, step, dwell, ..., and how sure each frame of a dwell is.

    Parameters
    ----------
    whole : (frame, dwell) log odds of belonging to a dwell
    mixed : (frame, dwell + 1) log odds of being of the step before each dwell, and after the last
    gap : (frame,) whether frames with the beam off come before a frame: a step is then likely

    Returns
    -------
    dwell : (frame,), -1 for a step
    probability : (frame,) of the dwell the frame is most likely of
    """
    count, dwells = whole.shape
    states = 2 * dwells + 1  # step, dwell, step, ..., step
    emission = np.empty((count, states))
    emission[:, 0::2], emission[:, 1::2] = mixed, whole
    ahead, best = np.full((2, count, states), _NEVER)
    came = np.zeros((count, states), dtype=np.int64)
    ahead[0, :2] = best[0, :2] = math.log(0.5) + emission[0, :2]
    moves = [_moves(states, bool(after_dark)) for after_dark in gap]
    for t in range(1, count):
        options = _onward(best[t - 1], moves[t])
        came[t], best[t] = options.argmax(0), options.max(0) + emission[t]
        ahead[t] = np.logaddexp.reduce(_onward(ahead[t - 1], moves[t]), axis=0) + emission[t]
    back = np.full((count, states), _NEVER)
    back[-1, -2:] = 0.0
    for t in range(count - 1, 0, -1):
        row = back[t] + emission[t]
        options = np.full((3, states), _NEVER)
        for jump in range(3):
            options[jump, : states - jump] = row[jump:] + moves[t][jump][jump:]
        back[t - 1] = np.logaddexp.reduce(options, axis=0)
    posterior = ahead + back
    posterior = np.exp(posterior - np.logaddexp.reduce(posterior, axis=1, keepdims=True))
    path = np.empty(count, dtype=np.int64)
    state = states - 2 + int(best[-1, -1] > best[-1, -2])
    for t in range(count - 1, -1, -1):
        path[t] = state
        state -= int(came[t, state])
    dwell = np.where(path % 2 == 1, path // 2, -1)
    own = posterior[np.arange(count), path]
    return dwell, np.where(dwell >= 0, own, posterior[:, 1::2].max(1))


def _moves(states: int, after_dark: bool) -> FloatArray:
    """(3, state): log probability of having been in the same state, in the one before, and in the one before that."""
    step = 0.5 if after_dark else math.exp(_STEP)
    at_once = 0.8 if after_dark else 0.2  # without a frame of the moving stage
    is_dwell = np.arange(states) % 2 == 1
    return np.stack(
        [
            np.where(is_dwell, math.log(1.0 - step), math.log(0.5)),
            np.where(is_dwell, math.log(0.5), math.log(step * (1.0 - at_once))),
            np.where(is_dwell, math.log(step * at_once), _NEVER),
        ]
    )


def _onward(row: FloatArray, moves: FloatArray) -> FloatArray:
    """(3, state): where each state may have come from, with what log probability."""
    out = np.full((3, len(row)), _NEVER)
    for jump in range(3):
        out[jump, jump:] = row[: len(row) - jump] + moves[jump, jump:]
    return out

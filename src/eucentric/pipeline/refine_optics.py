"""Aberrations of sub-tilt refinement: one set for all series that one setting of one microscope took."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from eucentric.pipeline.refine_state import RoundState
from eucentric.pipeline.refine_work import SeriesDone
from eucentric.refinement.choose_groups import choose_alone
from eucentric.refinement.params import RefineParams
from eucentric.refinement.results import KeptChange, SeriesMemory
from eucentric.refinement.unknowns import OPTICS_TERMS


def with_optics(state: RoundState, done: Sequence[SeriesDone], params: RefineParams) -> RoundState:
    """The state with aberrations as all particles of an optics group say together; series left out keep theirs."""
    for name, own in state.shared.items():
        state = _with_group_optics(state, name, [d for d in done if d.name in own], params)
    return state


def _with_group_optics(state: RoundState, name: str, done: Sequence[SeriesDone], params: RefineParams) -> RoundState:
    before = state.memory.get(name, SeriesMemory())
    kept, trials = {k.family: k for k in before.kept}, {t.family: t for t in before.trials}
    parts = [d.refinement.optics for d in done if d.refinement is not None]
    refined = [d.name for d in done if d.refinement is not None]
    series = {s.name: s for s in state.series}
    for term in OPTICS_TERMS:
        equations = [p[term.name] for p in parts if term.name in p]
        if not equations:
            continue
        known = kept.get(term.name)
        total = np.zeros(len(term.changed)) if known is None else known.total
        trial, change, sigma = choose_alone(term, sum(equations[1:], equations[0]), total, params.certainty)
        trials[term.name] = trial
        if trial.accepted or known is not None:
            series |= {one: term.changed_series(series[one], change) for one in refined}
        if trial.accepted:
            new = KeptChange(family=term.name, name=term.name, size=trial.size, total=total + change, sigma=sigma)
            kept[term.name] = new
        else:
            kept.pop(term.name, None)
    memory = SeriesMemory(kept=tuple(kept.values()), trials=tuple(trials.values()))
    return replace(
        state,
        series=tuple(series[s.name] for s in state.series),
        memory={**state.memory, name: memory} if trials else state.memory,
    )


def optics_apart(params: RefineParams, state: RoundState) -> list[str]:
    """Told where aberrations are those of several optics groups."""
    if len(state.shared) < 2 or not any(t.option in params.groups for t in OPTICS_TERMS):
        return []
    groups = "; ".join(
        f"{name}: {', '.join(own[:5])}{' and others' * (len(own) > 5)}" for name, own in state.shared.items()
    )
    return [
        "Series differ in voltage, aberrations, pixel size or the name of their optics group, so aberrations were looked for in each "
        f"group by itself ({groups})."
    ]

"""Order and dose of a tilt series from whatever its files say, with a probability; never a silent guess.

Every kind of entry that tells an order is a witness with a reliability; orders that witnesses name are compared with each
other, and with the orders that tilt schemes make. A scheme that explains an order of many images exactly does so by chance
only where that order is one of the angles themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from eucentric.acquisition.fit_scheme import (
    AngleLattice,
    SchemeFit,
    chance_of_fit,
    compatible_schemes,
    describe_scheme,
    find_lattice,
    fit_schemes,
    is_trivial,
    missing_angles,
    order_by_scheme,
)
from eucentric.acquisition.order_evidence import (
    FILE_ORDER,
    Order,
    OrderSource,
    describe_source,
    order_sources,
    posterior,
)
from eucentric.acquisition.order_records import (
    Alternative,
    Evidence,
    Fault,
    ImageFacts,
    OrderStatus,
    RecoveredDose,
    RecoveredOrder,
    SeriesPart,
)
from eucentric.acquisition.recover_dose import recover_dose, unaccounted, with_doses
from eucentric.acquisition.split_series import angle_groups, find_pauses, find_restarts
from eucentric.models.tilt_scheme import TiltScheme

_ORDERS = {"dosym": "dose-symmetric", "bidir": "bidirectional"}
_TOLD, _LIKELY = 0.9, 0.5
# How often an order is one that a scheme makes: the true one, a wrong one of many images, one sorted by angle.
_FITS_IF_TRUE, _FITS_IF_WRONG, _SORTED_IF_WRONG = 0.9, 0.01, 0.5
_TITLE_HOLDS = 0.97
# Shares of schemes among series whose file says nothing, an assumption that is told with every result drawn from it.
_FAMILIES = {"dose-symmetric": 0.55, "bidirectional": 0.2, "continuous": 0.15}
_GROUPS = {1: 0.45, 2: 0.33, 3: 0.12, 4: 0.1}
_MOST_ALTERNATIVES = 12


def recover_order(images: Sequence[ImageFacts], tags: Mapping[str, float] | None = None) -> RecoveredOrder:
    """Order, scheme and doses of one tilt series.

    Parameters
    ----------
    images : in the order of the file; of one series (:func:`eucentric.acquisition.split_series.split_series`)
    tags : words of the file's title with the angle at which the series began: `dosym`, `bidir`

    Returns
    -------
    RecoveredOrder : with status `unknown`, and the schemes that would fit, where nothing tells the order
    """
    title = {word: angle for word, angle in (tags or {}).items() if word in _ORDERS}
    angles = [i.angle_deg for i in images]
    sources = order_sources(images)
    if len(images) < 2:
        return _no_order(images, sources, title, "one image alone: no series")
    candidates = _candidates(images, sources)
    fits = {order: _fits(images, order) for order in candidates}
    sure = _weigh(images, sources, candidates, fits, title)
    best = max(sure, key=lambda order: sure[order]) if sure else None
    if best is not None and sure[best] >= _LIKELY:
        return _told(images, sources, title, best, sure, fits)
    schemes = _weighted_schemes(angles, title)
    if title and schemes:
        return _by_title(images, sources, title, schemes)
    why = (
        "the images lie at one angle: no tilt series"
        if find_lattice(angles) is None and max(angles) - min(angles) < 1
        else ""
    )
    return _no_order(images, sources, title, why, schemes)


def as_part(found: RecoveredOrder, split_confidence: float) -> RecoveredOrder:
    """What was found of images that are one series only as surely as they were told apart from others.

    Order, scheme and doses are right where the images belong together and, if so, were put in order rightly. What tells
    series apart (places, labels) says nothing of the order within them, so the probabilities multiply.

    Parameters
    ----------
    split_confidence : probability that the images are one series, 0 to 1
    """
    confidence = found.confidence * split_confidence
    return replace(
        found,
        status="guess" if found.status == "told" and confidence < _TOLD else found.status,
        confidence=round(confidence, 3),
        scheme_confidence=round(found.scheme_confidence * split_confidence, 3),
        alternatives=tuple(
            replace(other, probability=round(other.probability * split_confidence, 4)) for other in found.alternatives
        ),
        dose=replace(found.dose, confidence=round(found.dose.confidence * split_confidence, 3)),
    )


def _candidates(images: Sequence[ImageFacts], sources: Sequence[OrderSource]) -> dict[Order, str]:
    """Orders that are to be weighed, and where each comes from first."""
    found: dict[Order, str] = {}
    angles = [i.angle_deg for i in images]
    for source in sources:
        if source.order is not None:
            found.setdefault(source.order, source.name)
            continue
        fits = fit_schemes([angles[i] for i in source.images], angles)
        if fits and not fits[0].out_of_place and fits[0].probability > _TOLD:
            try:
                order = tuple(order_by_scheme(angles, fits[0].scheme))
            except ValueError:
                continue
            found.setdefault(order, f"{source.name} of {len(source.images)} images, and their scheme for the others")
    return found


def _restarts(images: Sequence[ImageFacts], order: Order) -> list[int]:
    visits = angle_groups([i.angle_deg for i in images])
    return find_restarts([visits[i] for i in order])


def _fits(images: Sequence[ImageFacts], order: Order) -> tuple[SchemeFit, ...]:
    """Schemes of the first part of an order, which is the whole where nothing was begun again."""
    restarts = _restarts(images, order)
    part = order[: restarts[0]] if restarts else order
    return fit_schemes([images[i].angle_deg for i in part])


def _weigh(
    images: Sequence[ImageFacts],
    sources: Sequence[OrderSource],
    candidates: Mapping[Order, str],
    fits: Mapping[Order, tuple[SchemeFit, ...]],
    title: Mapping[str, float],
) -> dict[Order, float]:
    """Probability of every candidate: witnesses are independent, and at most one candidate is right."""
    trivial = {order: is_trivial([images[i].angle_deg for i in order]) for order in candidates}
    exact = {order: bool(fits[order]) and not fits[order][0].out_of_place for order in candidates}

    by_chance = min(max(_FITS_IF_WRONG, chance_of_fit(len(images))), 0.5)
    equal_steps = find_lattice([i.angle_deg for i in images]) is not None

    def shape(order: Order, *, is_true: bool) -> float:
        if not equal_steps:
            return 1.0
        if is_true:
            return _FITS_IF_TRUE if exact[order] else 1 - _FITS_IF_TRUE
        wrong = _SORTED_IF_WRONG if trivial[order] else by_chance
        return wrong if exact[order] else 1 - wrong

    def likelihood(true: Order | None) -> float:
        value = 1.0
        restarts = [] if true is None else _restarts(images, true)
        for source in sources:
            # The count of doses may begin anew with a series that is begun again, and so may numbers.
            fall = restarts if not source.name.startswith(("dates", "times")) else ()
            right = true is not None and source.agrees(true, fall)
            value *= source.reliability if right else 1 - source.reliability
        for order in candidates:
            value *= shape(order, is_true=order == true)
        if true is not None and title:
            value *= _title_agreement(fits[true], title)
        return value * (0.5 if true is None and title else 1.0)

    chances = posterior([likelihood(order) for order in candidates], likelihood(None))
    return dict(zip(candidates, chances, strict=True))


def _title_agreement(fits: Sequence[SchemeFit], title: Mapping[str, float]) -> float:
    if not fits:
        return 0.5
    return _TITLE_HOLDS if _matches_title(fits[0].scheme, title) else 1 - _TITLE_HOLDS


def _matches_title(scheme: TiltScheme, title: Mapping[str, float]) -> bool:
    return any(
        scheme.order == _ORDERS[word] and abs(scheme.start_deg - angle) <= 0.6 * scheme.step_deg
        for word, angle in title.items()
    )


def _told(
    images: Sequence[ImageFacts],
    sources: Sequence[OrderSource],
    title: Mapping[str, float],
    order: Order,
    sure: Mapping[Order, float],
    fits: Mapping[Order, tuple[SchemeFit, ...]],
) -> RecoveredOrder:
    """The result where an order is likelier than not."""
    confidence = sure[order]
    restarts = _restarts(images, order)
    replaced = _replaced(images, order)
    used = [i for i in order if i not in replaced]
    angles = [i.angle_deg for i in images]
    remaining = fit_schemes([angles[i] for i in used]) if restarts else fits[order]
    parts = _parts(images, order, restarts)
    dose = recover_dose(images, order, restarts, confidence)
    fit = remaining[0] if remaining and remaining[0].probability > _LIKELY else None
    scheme = None if fit is None else _with_unseen(images, order, fit.scheme, dose)
    missing = () if scheme is None else _missing(images, scheme)
    if scheme is not None:
        scheme = with_doses(scheme, [angles[i] for i in used], dose.doses[used])
    agreeing = [s for s in sources if s.agrees(order, restarts) and len(s.images) == len(images)]
    source = " and ".join(s.name for s in agreeing if s.reliability > _LIKELY) or _source_of(images, sources, order)
    faults = [
        *_restart_faults(images, order, restarts),
        *_double_faults(images, replaced, restarts),
        *_conflicts(sources, order, restarts),
        *_title_faults(scheme, title),
        *_place_faults(images, order, fit),
        *_pause_faults(images, order, restarts),
        *dose.faults,
    ]
    if missing:
        told = ", ".join(f"{a:g}" for a in missing)
        faults.append(Fault(kind="missing", text=f"The file lacks the images at {told} degrees, which the scheme has."))
    status: OrderStatus = "told" if confidence >= _TOLD else "guess"
    words = (
        "too few images to tell the scheme"
        if remaining and fit is None
        else _words(scheme, [angles[i] for i in used], parts)
    )
    return RecoveredOrder(
        status=status,
        order=order,
        confidence=round(confidence, 3),
        source=source,
        scheme=scheme,
        scheme_confidence=0.0 if fit is None else round(confidence * fit.probability, 3),
        words=words,
        evidence=_evidence(images, sources, title, order, restarts, scheme),
        alternatives=_other_schemes(order, sure, fits, remaining[1:] if fit is not None else remaining, words),
        parts=parts,
        replaced=replaced,
        missing_deg=missing,
        faults=tuple(faults),
        dose=dose,
    )


def _source_of(images: Sequence[ImageFacts], sources: Sequence[OrderSource], order: Order) -> str:
    return _candidates(images, sources).get(order, FILE_ORDER)


def _replaced(images: Sequence[ImageFacts], order: Order) -> tuple[int, ...]:
    """Images whose angle was visited again later."""
    visits = angle_groups([i.angle_deg for i in images])
    last = {visits[i]: i for i in order}
    return () if len(last) < 2 else tuple(i for i in order if last[visits[i]] != i)


def _parts(images: Sequence[ImageFacts], order: Order, restarts: Sequence[int]) -> tuple[SeriesPart, ...]:
    if not restarts:
        return ()
    parts = []
    for first, end in zip([0, *restarts], [*restarts, len(order)], strict=True):
        some = order[first:end]
        angles = [images[i].angle_deg for i in some]
        fits = fit_schemes(angles)
        scheme = fits[0].scheme if fits else None
        parts.append(SeriesPart(images=tuple(some), scheme=scheme, words=_words(scheme, angles, ())))
    return tuple(parts)


def _words(scheme: TiltScheme | None, angles: Sequence[float], parts: Sequence[SeriesPart]) -> str:
    if scheme is not None:
        return describe_scheme(scheme)
    if parts:
        return f"begun {len(parts)} times; what remains is no one scheme: {'; then '.join(p.words for p in parts)}"
    if find_lattice(angles) is None:
        return (
            "one angle alone"
            if np.ptp(angles) < 1
            else f"no scheme with equal steps, {min(angles):g} to {max(angles):g} degrees"
        )
    return f"no scheme known, {min(angles):.1f} to {max(angles):.1f} degrees"


def _with_unseen(images: Sequence[ImageFacts], order: Order, scheme: TiltScheme, dose: RecoveredDose) -> TiltScheme:
    """A scheme that reaches as far as the doses tell: images taken beyond the ends of the file, and left out of it."""
    low, high, step = scheme.min_deg, scheme.max_deg, scheme.step_deg
    wide = scheme.replace(min_deg=max(low - 3 * step, -89.9), max_deg=min(high + 3 * step, 89.9))
    lattice = AngleLattice(zero_deg=scheme.start_deg, step_deg=step)
    sequence = lattice.index(wide.angles_in_order()).tolist()
    here = lattice.index([i.angle_deg for i in images])
    have = set(here.tolist())
    for place, count in unaccounted(images, order, dose):
        a, b = int(here[order[place]]), int(here[order[place + 1]])
        if a not in sequence or b not in sequence:
            continue
        between = [p for p in sequence[sequence.index(a) + 1 : sequence.index(b)] if p not in have]
        if len(between) == count:
            low = min([low, *(lattice.angle(p) for p in between)])
            high = max([high, *(lattice.angle(p) for p in between)])
    return scheme.replace(min_deg=low, max_deg=high)


def _missing(images: Sequence[ImageFacts], scheme: TiltScheme) -> tuple[float, ...]:
    angles = [i.angle_deg for i in images]
    beyond = [
        a
        for a in scheme.angles_in_order()
        if not min(angles) - 0.5 * scheme.step_deg < a < max(angles) + 0.5 * scheme.step_deg
    ]
    return tuple(sorted({*missing_angles(angles, scheme), *(round(float(a), 6) for a in beyond)}))


def _restart_faults(images: Sequence[ImageFacts], order: Order, restarts: Sequence[int]) -> list[Fault]:
    faults = []
    for place in restarts:
        last, first = images[order[place - 1]], images[order[place]]
        pause = ""
        if last.time_s is not None and first.time_s is not None:
            pause = f", {(first.time_s - last.time_s) / 60:.1f} min later"
        text = (
            f"The series was begun again after {place} images: from {last.angle_deg:.1f} back to {first.angle_deg:.1f} "
            f"degrees{pause}. Of angles taken twice the later image is used, and the dose of the first counts."
        )
        faults.append(Fault(kind="restart", text=text))
    return faults


def _double_faults(images: Sequence[ImageFacts], replaced: Sequence[int], restarts: Sequence[int]) -> list[Fault]:
    if not replaced or restarts:
        return []
    told = ", ".join(f"{images[i].angle_deg:.1f}" for i in replaced)
    text = f"Taken again later: {told} degrees. The later image is used, and the dose of the first counts."
    return [Fault(kind="double", text=text)]


def _conflicts(sources: Sequence[OrderSource], order: Order, restarts: Sequence[int]) -> list[Fault]:
    """Trusted witnesses that say otherwise."""
    against = [s.name for s in sources if s.reliability >= _TOLD and not s.agrees(order, restarts)]
    if not against:
        return []
    text = f"The {' and the '.join(against)} tell another order."
    return [Fault(kind="conflict", text=text)]


def _title_faults(scheme: TiltScheme | None, title: Mapping[str, float]) -> list[Fault]:
    if not title or scheme is None or _matches_title(scheme, title):
        return []
    told = " ".join(f"{word} = {angle:g}" for word, angle in title.items())
    text = f"The title says `{told}`, but the images were taken {describe_scheme(scheme)}."
    return [Fault(kind="title", text=text)]


def _place_faults(images: Sequence[ImageFacts], order: Order, fit: SchemeFit | None) -> list[Fault]:
    if fit is None or not fit.out_of_place:
        return []
    visits = angle_groups([i.angle_deg for i in images])
    first_visits: dict[int, int] = {}
    for image in order:  # as the fit, which passes over second visits
        first_visits.setdefault(visits[image], image)
    firsts = list(first_visits.values())
    told = ", ".join(f"{images[firsts[p]].angle_deg:.1f}" for p in fit.out_of_place)
    return [Fault(kind="conflict", text=f"Taken at another time than the scheme has them: {told} degrees.")]


def _pause_faults(images: Sequence[ImageFacts], order: Order, restarts: Sequence[int]) -> list[Fault]:
    pauses = find_pauses([images[i].time_s for i in order])
    return [
        Fault(
            kind="pause",
            text=f"There was a pause of {seconds / 60:.0f} min before the image at {images[order[place]].angle_deg:.1f} degrees.",
        )
        for place, seconds in pauses
        if place not in restarts
    ]


def _evidence(
    images: Sequence[ImageFacts],
    sources: Sequence[OrderSource],
    title: Mapping[str, float],
    order: Order | None,
    restarts: Sequence[int],
    scheme: TiltScheme | None,
) -> tuple[Evidence, ...]:
    found = [
        Evidence(
            source=s.name,
            says=describe_source(s, images),
            agrees=None if order is None else s.agrees(order, restarts),
        )
        for s in sources
    ]
    for word, angle in title.items():
        says = f"{word} = {angle:g}: {_ORDERS[word]}, begun at {angle:g} degrees"
        agrees = None if scheme is None else _matches_title(scheme, title)
        found.append(Evidence(source="title", says=says, agrees=agrees))
    return tuple(found)


def _other_schemes(
    order: Order,
    sure: Mapping[Order, float],
    fits: Mapping[Order, tuple[SchemeFit, ...]],
    others_of_it: Sequence[SchemeFit],
    words: str,
) -> tuple[Alternative, ...]:
    """Schemes that explain the same order, and those of other orders that are not ruled out.

    What the words of a scheme cannot tell apart is one alternative: settings that matter only beyond the images, and
    other orders of one scheme. Those that `words`, the scheme chosen, cannot be told from are left out.
    """
    others = [(f.scheme, sure[order] * f.probability) for f in others_of_it]
    others += [
        (fits[o][0].scheme, p * fits[o][0].probability) for o, p in sure.items() if o != order and p > 0.005 and fits[o]
    ]
    others.sort(key=lambda one: -one[1])
    shares: dict[str, list[tuple[TiltScheme, float]]] = {}
    for scheme, share in others:
        shares.setdefault(describe_scheme(scheme), []).append((scheme, share))
    shares.pop(words, None)
    joined = [(alike[0][0], sum(share for _, share in alike)) for alike in shares.values()]
    joined.sort(key=lambda one: -one[1])
    return _listed(joined[:_MOST_ALTERNATIVES])


def _weighted_schemes(angles: Sequence[float], title: Mapping[str, float]) -> list[tuple[TiltScheme, float]]:
    """Schemes that have the angles, with their shares; what is left to 1 is for schemes that are not listed."""
    # A file whose title tells the scheme has no other.
    matches = partial(_matches_title, title=title)
    schemes = compatible_schemes(angles, matches) if title else compatible_schemes(angles)
    if not schemes:
        return []
    centre = 0.5 * (min(angles) + max(angles))
    shares = []
    for scheme in schemes:
        # Dose-symmetric series begin at zero or at the middle of their range; bidirectional ones somewhere near.
        width = scheme.step_deg if scheme.order == "dose-symmetric" else 20.0
        near = [np.exp(-0.5 * ((scheme.start_deg - c) / width) ** 2) for c in (0.0, centre)]
        share = 1.0 if scheme.order == "continuous" else float(max(near)) + 1e-3
        if scheme.order == "dose-symmetric":
            share *= _GROUPS.get(scheme.group_size, 0.05) * (0.15 if scheme.start_in_first_group else 1.0)
        shares.append(share)
    total = {f: sum(s for x, s in zip(schemes, shares, strict=True) if x.order == f) for f in _FAMILIES}
    weights = [
        (_TITLE_HOLDS if title else _FAMILIES[x.order]) * s / (sum(shares) if title else total[x.order])
        for x, s in zip(schemes, shares, strict=True)
    ]
    return sorted(zip(schemes, weights, strict=True), key=lambda one: -one[1])


def _by_title(
    images: Sequence[ImageFacts],
    sources: Sequence[OrderSource],
    title: Mapping[str, float],
    schemes: Sequence[tuple[TiltScheme, float]],
) -> RecoveredOrder:
    """A guess among the schemes that the title allows."""
    scheme, confidence = schemes[0]
    order = tuple(order_by_scheme([i.angle_deg for i in images], scheme))
    dose = recover_dose(images, order, (), confidence)
    missing = _missing(images, scheme)
    scheme = with_doses(scheme, [images[i].angle_deg for i in order], dose.doses[list(order)])
    return RecoveredOrder(
        status="guess",
        order=order,
        confidence=round(confidence, 3),
        source="title",
        scheme=scheme,
        scheme_confidence=round(confidence, 3),
        words=describe_scheme(scheme),
        evidence=_evidence(images, sources, title, None, (), scheme),
        alternatives=_listed(schemes[1:]),
        parts=(),
        replaced=_replaced(images, order),
        missing_deg=missing,
        faults=dose.faults,
        dose=dose,
    )


def _listed(schemes: Sequence[tuple[TiltScheme, float]]) -> tuple[Alternative, ...]:
    return tuple(Alternative(scheme=s, words=describe_scheme(s), probability=round(p, 4)) for s, p in schemes)


def _no_order(
    images: Sequence[ImageFacts],
    sources: Sequence[OrderSource],
    title: Mapping[str, float],
    why: str = "",
    schemes: Sequence[tuple[TiltScheme, float]] = (),
) -> RecoveredOrder:
    angles = [i.angle_deg for i in images]
    families = " or ".join(dict.fromkeys(s.order for s, _ in schemes)) or "no scheme that is known"
    return RecoveredOrder(
        status="unknown",
        order=(0,) if len(images) == 1 else None,
        confidence=0.0 if not schemes else round(schemes[0][1], 3),
        source="nothing in the file",
        scheme=None,
        scheme_confidence=0.0,
        words=why or f"unknown: {families}, {min(angles):.1f} to {max(angles):.1f} degrees",
        evidence=_evidence(images, sources, title, None, (), None),
        alternatives=_listed(schemes),
        parts=(),
        replaced=(),
        missing_deg=(),
        faults=(),
        dose=recover_dose(images, None),
    )

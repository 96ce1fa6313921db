"""The sense of the tilt axis, the sign of the angles and the hand: the gradient of the defocus against their product."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eucentric.pipeline.aligning import nominal_axis
from eucentric.pipeline.doctor.axis import full_turn, judge_axis
from eucentric.pipeline.doctor.cases import SeriesCase
from eucentric.pipeline.doctor.commands import command
from eucentric.pipeline.doctor.findings import Fault, NotChecked, Passed, Remedy, Result, confidence_of
from eucentric.pipeline.doctor.geometry_from_images import axis_seen
from eucentric.pipeline.doctor.measure import Measured
from eucentric.pipeline.doctor.metadata import names_against_angles

_DECIDED = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HandSeen:
    """The hand that the images of a series speak for, with the axis and angles as they are given."""

    hand: float
    sigmas: float
    axis_deg: float
    how: str


def hand_seen(case: SeriesCase, measured: Measured | None) -> HandSeen | None:
    """What the rings say; None where they do not decide."""
    rings = None if measured is None else measured.rings
    if rings is not None:
        if not rings.test.decided:
            return None
        how = "the rings of tilted images, looked at just now,"
        return HandSeen(hand=rings.test.hand, sigmas=rings.test.sigmas, axis_deg=rings.axis_deg, how=how)
    record = case.records.get("ctf")
    if record is None or record.parameters.get("hand") != "auto":
        return None  # a hand that was set says nothing of the images
    hand, sigmas = record.metrics.get("hand"), record.metrics.get("hand_confidence_sigmas")
    aligned = case.aligned
    if hand is None or sigmas is None or sigmas < _DECIDED or aligned is None:
        return None
    axis = aligned.poses[len(aligned.poses) // 2].z_rot_deg
    return HandSeen(hand=hand, sigmas=sigmas, axis_deg=axis, how="the CTF stage, from the rings of all images,")


def check_hand(case: SeriesCase, measured: Measured | None, set_hand: float | None) -> Iterator[Result]:
    """Whether axis, angles and hand fit what the images show.

    Parameters
    ----------
    set_hand : of `[ctf] hand` in the plan, where it is not `auto`
    """
    if case.series is None or case.series.optics is None:
        return
    seen = hand_seen(case, measured)
    if seen is None:
        if measured is not None or "ctf" in case.records:
            yield NotChecked(check="hand", series=case.name, text=_why_not(measured))
        return
    imported = case.series.hand
    if set_hand is not None and set_hand != seen.hand:
        yield _set_against_images(case, seen, set_hand)
        return
    if _axis_is_wrong(case, measured):  # its own finding gives the sense too
        return
    told = f"({seen.sigmas:.1f} standard errors)"
    if seen.hand == imported or set_hand is not None:
        text = f"With axis {seen.axis_deg:.1f} degrees {seen.how} say hand {seen.hand:+.0f} {told}, as is expected."
        yield Passed(check="hand", series=case.name, text=text)
        return
    yield _at_odds(case, seen, imported)


def check_hands_together(cases: Sequence[SeriesCase], seen: Sequence[HandSeen | None]) -> Iterator[Result]:
    """Series of one axis must agree on the hand."""
    known = [(c, s) for c, s in zip(cases, seen, strict=True) if s is not None]
    for sign in (1.0, -1.0):
        own = [c.name for c, s in known if s.hand == sign]
        others = [c for c, s in known if s.hand != sign]
        axes = {round(full_turn(s.axis_deg) / 10.0) for _, s in known}
        if len(own) == 1 and len(others) >= 2 and len(axes) == 1:
            yield Fault(
                check="hand",
                severity="error",
                confidence="likely",
                title="This series alone has its defocus gradient the other way round.",
                compared=f"{own[0]} speaks for hand {sign:+.0f}, the {len(others)} others of the same tilt axis for {-sign:+.0f}.",
                consequence="The hand belongs to the microscope, so the angles of this series most likely have the wrong sign: its "
                "tomogram is the mirror image of the others', and its particles spoil a common map.",
                series=own[0],
            )


def _why_not(measured: Measured | None) -> str:
    if measured is None:
        return "The hand was not compared: the CTF stage did not measure it, or could not decide."
    if measured.rings is None:
        return f"The hand was not compared: {measured.why_not.get('rings', 'no rings were looked at')}"
    test = measured.rings.test
    return f"The rings do not tell the hand ({test.sigmas:.1f} standard errors), so 180-degree flips of the axis go unseen."


def _axis_is_wrong(case: SeriesCase, measured: Measured | None) -> bool:
    assert case.series is not None
    given = nominal_axis(case.series)
    if given is None:
        return True
    seen = axis_seen(case, measured)
    if seen is None:
        return False
    return judge_axis(given, seen[0].axis_deg, seen[0].sigma_deg).relation != "agrees"


def _set_against_images(case: SeriesCase, seen: HandSeen, set_hand: float) -> Fault:
    turned = full_turn(seen.axis_deg + 180.0)
    return Fault(
        check="hand",
        severity="error",
        confidence=confidence_of(seen.sigmas),
        title=f"The hand is set to {set_hand:+.0f}, and the images say {seen.hand:+.0f}.",
        compared=f"`[ctf] hand = {set_hand:.0f}` in `eucentric.toml`; with axis {seen.axis_deg:.1f} degrees {seen.how} say "
        f"{seen.hand:+.0f} ({seen.sigmas:.1f} standard errors).",
        consequence="The defocus of everything off the tilt axis is corrected the wrong way, which costs resolution in tomograms and "
        "maps. The images know the product of hand and sense of the axis only: if the hand is known to be right, the axis points the "
        "other way, and the tomogram is the mirror image.",
        remedies=(
            Remedy(when="to follow the images", command=command("eucentric", "ctf", case.shown, "--hand", "auto")),
            Remedy(
                when=f"if hand {set_hand:+.0f} is known to be right, from another session of this microscope",
                command=case.importing.having(tilt_axis=round(turned, 1)).then_run(),
            ),
        ),
        series=case.name,
        sigmas=seen.sigmas,
    )


def _at_odds(case: SeriesCase, seen: HandSeen, imported: float) -> Fault:
    assert case.series is not None
    given = nominal_axis(case.series)
    turned = full_turn((seen.axis_deg if given is None else given) + 180.0)
    names = names_against_angles(case)
    hint = (
        f" The names of {names.opposite} of {names.compared} movies hold the angle with the other sign, which speaks for wrong signs "
        "in the metadata."
        if names is not None and names.is_negated
        else ""
    )
    by_axis = Remedy(
        when="if the axis or the signs of the angles are wrong (the likelier where files were edited or converted)",
        command=case.importing.having(tilt_axis=round(turned, 1)).then_run(),
    )
    by_hand = Remedy(
        when=f"if axis and signs are known to be right, and this microscope has hand {seen.hand:+.0f} in other sessions too",
        command=command("eucentric", "ctf", case.shown, "--hand", f"{seen.hand:.0f}")
        if case.project is not None
        else case.importing.then_run(),  # the CTF stage follows the images
    )
    return Fault(
        check="hand",
        severity="error",
        confidence=confidence_of(seen.sigmas),
        title="Across tilted images the defocus changes the other way than tilt axis, angles and hand say.",
        compared=f"Axis {seen.axis_deg:.1f} degrees, the angles as given and hand {imported:+.0f} predict one gradient; {seen.how} "
        f"show the opposite ({seen.sigmas:.1f} standard errors).{hint} That the three do not fit together is what is sure; a flip of "
        "the axis by 180 degrees, angles of the wrong sign and the other hand look the same to the images.",
        consequence="If axis or signs are wrong, the tomogram is the mirror image: all maps will be of the wrong hand. If "
        "only the hand "
        f"is {seen.hand:+.0f}, the tomogram is right, and the CTF stage follows the images by itself (hand auto). Known "
        f"proteins in a map "
        "tell which: an alpha helix must be right-handed.",
        remedies=(by_axis, by_hand),
        series=case.name,
        sigmas=seen.sigmas,
    )

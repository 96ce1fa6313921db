"""Tilt schemes as users write them: `dose-symmetric start=0 group=2`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError

from eucentric.acquisition.fit_scheme import find_lattice, order_by_scheme
from eucentric.errors import InputError
from eucentric.models.tilt_scheme import TiltOrder, TiltScheme

_SIDES = {"up": "positive", "down": "negative", "positive": "positive", "negative": "negative"}
_WORDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "start": ("start_deg", float),
    "step": ("step_deg", float),
    "first": ("first_side", lambda word: _SIDES[word]),
    "group": ("group_size", int),
    "grow": ("group_growth", int),
    "beyond": ("group_growth_beyond_deg", float),
    "every": ("group_growth_every_deg", float),
    "one-sided": ("one_sided_beyond_deg", float),
}
_WITH_START = "with-start"
_HELP = (
    "Expected continuous, bidirectional or dose-symmetric, and then what differs from the usual, such as "
    "`dose-symmetric start=0 group=2 first=up`. Words are start, step, first, group, with-start, grow, beyond, every and one-sided."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeWords:
    """A scheme that lacks what the angles of a series tell."""

    text: str
    order: TiltOrder
    given: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> "SchemeWords":
        """From a user's words.

        Raises
        ------
        InputError : words that are not known, or values that cannot be
        """
        words = text.replace(",", " ").split()
        orders = get_args(TiltOrder)
        if not words or words[0] not in orders:
            raise InputError(f"The scheme given is `{text}`. {_HELP}")
        given: dict[str, Any] = {}
        for word in words[1:]:
            key, equals, value = word.partition("=")
            try:
                if word == _WITH_START:
                    given["start_in_first_group"] = True
                    continue
                name, read = _WORDS[key]
                given[name] = read(value)
            except (KeyError, ValueError) as error:
                raise InputError(f"The scheme given has `{word}`, which is not known. {_HELP}") from error
            if not equals:
                raise InputError(f"The scheme given has `{word}` without a value. {_HELP}")
        order: TiltOrder = words[0]  # type: ignore[assignment]
        try:
            TiltScheme(order=order, min_deg=-89.9, max_deg=89.9, **given)
        except ValidationError as error:
            told = error.errors()[0]
            where = ".".join(str(p) for p in told["loc"]) or "it"
            raise InputError(f"The scheme given is `{text}`, but {where}: {told['msg']}. {_HELP}") from error
        return cls(text=text, order=order, given=given)

    def for_angles(self, angles_deg: Sequence[float]) -> TiltScheme:
        """The scheme with step and ends of a series.

        Raises
        ------
        InputError : angles without a common step, or outside the scheme
        """
        lattice = find_lattice(angles_deg)
        step = self.given.get("step_deg") or (None if lattice is None else lattice.step_deg)
        if step is None:
            raise InputError(
                f"The scheme `{self.text}` was given, but the angles from {min(angles_deg):g} to {max(angles_deg):g} degrees "
                "have no common step. Leave --scheme out, or give the step with step=."
            )
        low, high = min(angles_deg), max(angles_deg)
        falling = self.given.get("first_side") == "negative"
        usual = (high if falling else low) if self.order == "continuous" else 0.0
        start = self.given.get("start_deg", usual)
        slack = 0.3 * step
        ends = {"min_deg": min(low - slack, start), "max_deg": max(high + slack, start)}
        try:
            return TiltScheme.model_validate(
                {"order": self.order, **self.given, "step_deg": step, "start_deg": start, **ends}
            )
        except ValidationError as error:
            raise InputError(
                f"The scheme `{self.text}` does not go with angles from {low:g} to {high:g} degrees: "
                f"{error.errors()[0]['msg']}. Correct --scheme."
            ) from error

    def order_of(self, angles_deg: Sequence[float]) -> list[int]:
        """Indexes of images in the order that the scheme takes them.

        Raises
        ------
        InputError : an angle that the scheme does not have
        """
        scheme = self.for_angles(angles_deg)
        try:
            return order_by_scheme(angles_deg, scheme)
        except ValueError as error:
            raise InputError(
                f"The scheme `{self.text}` was given, but {error}: it has angles {scheme.step_deg:g} degrees apart, one "
                f"of them {scheme.start_deg:g}. Correct start= or step= of --scheme."
            ) from error

"""The prediction of a stage as a conversation in lines of text, for scripts of microscopes; see docs/how-to/predict-stage.md.

Lengths are um, angles degrees, times seconds. A line is answered by one line; what is wrong is answered by a line that begins
with ``error`` and changes nothing.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from eucentric.acquisition.goniometer import GoniometerModel
from eucentric.acquisition.params import PredictionParams
from eucentric.acquisition.predict_position import DEFAULT_TARGET, PositionPredictor
from eucentric.acquisition.results import Prediction
from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.io.goniometer_files import read_prediction_state, write_prediction_state
from eucentric.typing import PathLike

HEADER = "eucentric stage prediction 1, lengths um, angles degrees, times s"
_UM = 1e4
_MEASURED = ("time", "sigma", "height", "height-sigma")
_ALLOWED = {
    "target": ("at",),
    "spot": ("at",),
    "predict": ("time",),
    "measured": _MEASURED,
    "residual": _MEASURED,
    "height": ("time", "height-sigma"),
}
_OPTIONS = {option for options in _ALLOWED.values() for option in options}
_LONGEST_UM = 1e4
"""Stages move by some millimetres."""
_LARGEST = 1e11
"""Of any number: seconds since 1970 are below it."""
_SAME_ANGLE_DEG = 0.005


class PredictionSession:
    """Answers lines, and can be saved and taken up again.

    Parameters
    ----------
    params : what is believed of the stage
    goniometer : learned from earlier series
    state_file : written at the start and after every line that changes something; an existing one is taken up again

    Raises
    ------
    InputError : the state file cannot be written, or was begun with settings or a goniometer other than those given; or a
        setting that the goniometer brings was given with another value
    FormatError : the state file is damaged
    """

    def __init__(
        self,
        params: PredictionParams | None = None,
        goniometer: GoniometerModel | None = None,
        state_file: PathLike | None = None,
    ) -> None:
        given = params.model_dump(include=params.model_fields_set) if params else {}
        params = params or PredictionParams()
        if goniometer is not None:
            _check_left_to(goniometer, given)
            given["harmonics"] = goniometer.harmonics
            params = params.replace(harmonics=goniometer.harmonics)
        self._file = Path(state_file) if state_file is not None else None
        self._params, self._goniometer = params, goniometer
        self._lines: list[str] = []
        self._said: dict[str, Prediction] = {}
        self._commands: dict[str, Callable[[list[str]], str]] = {
            "target": lambda words: self._add(words, on_axis=False),
            "spot": lambda words: self._add(words, on_axis=True),
            "predict": self._predict,
            "measured": self._measured,
            "residual": self._residual,
            "height": self._height,
            "state": self._state,
            "save": self._save,
        }
        if self._file is not None and self._file.exists():
            self._take_up(self._file, given)
        else:
            self._predictor = PositionPredictor(params, goniometer)
        if self._file is not None:
            why = self._write(self._file)
            if why:
                raise InputError(f"The state cannot be saved in `{self._file}`: {why}. Give another file with --state.")

    @property
    def greeting(self) -> str:
        """The first line that is said."""
        if not self._lines:
            return HEADER
        learned = "a" if self._goniometer else "no"
        return (
            f"{HEADER}; {len(self._lines)} lines taken up, with the settings saved with them and {learned} goniometer"
        )

    def answer(self, line: str) -> str:
        """The answer to a line: one line, whatever was said."""
        words = line.split()
        if not words or words[0].startswith("#"):
            return "ok"
        command = self._commands.get(words[0].lower())
        if command is None:
            return f"error `{words[0]}` is not known; expected {', '.join(self._commands)} or quit"
        try:
            return command(words[1:])
        except EucentricError as error:
            return "error " + " ".join(str(error).split())
        except ValueError as error:
            return f"error {error} in `{line.strip()}`"

    def answers(self, lines: Iterable[str]) -> Iterator[str]:
        """The greeting, then an answer to each line, until `quit` or the end."""
        yield self.greeting
        for line in lines:
            if line.strip().lower() in ("quit", "exit"):
                yield "ok"
                return
            yield self.answer(line)

    def _add(self, words: list[str], *, on_axis: bool) -> str:
        if len(words) < 3:
            raise InputError("Expected a name, x and y, such as `target A 1.2 -0.3`.")
        command = "spot" if on_axis else "target"
        if words[0] in _OPTIONS:
            raise InputError(f"`{words[0]}` is a word of this language. Give the {command} another name.")
        options = _options(command, words[3:])
        place = (_angstrom(_number(words[1])), _angstrom(_number(words[2])))
        self._predictor.add_target(words[0], place, seen_at_deg=options.get("at", 0.0), on_axis=on_axis)
        self._said.pop(words[0], None)
        return f"ok{self._keep((command, *words))}"

    def _predict(self, words: list[str]) -> str:
        (tilt,), name, options = _parsed("predict", words, "3.0")
        said = self._predictor.predict(tilt, name, time_s=options.get("time"))
        self._forget(tilt, self._predictor.tilt_deg)
        self._said[said.target] = said
        x, y = said.position_angstrom / _UM
        sx, sy = said.position_sigma_angstrom / _UM
        return (
            f"shift {x:.4f} {y:.4f} focus {said.focus_change_angstrom / _UM:.4f} "
            f"sigma {sx:.4f} {sy:.4f} {said.focus_sigma_angstrom / _UM:.4f} "
            f"track {'yes' if said.track_now else 'no'} way {said.way.replace(' ', '-')} target {said.target}"
        )

    def _measured(self, words: list[str]) -> str:
        (tilt, x, y), name, options = _parsed("measured", words, "3.0 0.12 -0.03")
        return self._update(tilt, (_angstrom(x), _angstrom(y)), name, options, ("measured", *words))

    def _residual(self, words: list[str]) -> str:
        (dx, dy), name, options = _parsed("residual", words, "0.012 -0.003")
        said = self._said.get(name or next(iter(self._predictor.targets), DEFAULT_TARGET))
        if said is None:
            raise InputError(
                "A residual is counted from a prediction, and none was asked for since the stage moved. Say `predict` first."
            )
        x, y = said.position_angstrom / _UM + (dx, dy)
        line = ("measured", repr(said.tilt_deg), repr(float(x)), repr(float(y)), *words[2:])
        return self._update(said.tilt_deg, (_angstrom(x), _angstrom(y)), name, options, line)

    def _height(self, words: list[str]) -> str:
        (tilt, z), name, options = _parsed("height", words, "3.0 0.15")
        options["height"] = z
        return self._update(tilt, None, name, options, ("height", *words))

    def _update(
        self,
        tilt: float,
        position: tuple[float, float] | None,
        name: str | None,
        options: dict[str, float],
        line: tuple[str, ...],
    ) -> str:
        if "height-sigma" in options and "height" not in options:
            raise InputError(
                "`height-sigma` says how well a height is known, and there is no `height`. Give both or none."
            )
        lengths = {key: _angstrom(options[key]) for key in ("sigma", "height", "height-sigma") if key in options}
        got = self._predictor.update(
            tilt,
            position,
            target=name,
            sigma_angstrom=lengths.get("sigma"),
            height_angstrom=lengths.get("height"),
            height_sigma_angstrom=lengths.get("height-sigma"),
            time_s=options.get("time"),
        )
        self._forget(tilt)
        unsaved = self._keep(line)
        said = "ok" if got.accepted else "rejected"
        word = f" {got.word}" if got.word else ""
        return f"{said}{word}{';' if word and unsaved else ''}{unsaved}"

    def _forget(self, *tilts: float | None) -> None:
        """Predictions of other angles: the stage has gone on, and a residual would move it back."""
        near = [tilt for tilt in tilts if tilt is not None]
        self._said = {
            name: said
            for name, said in self._said.items()
            if any(abs(said.tilt_deg - tilt) < _SAME_ANGLE_DEG for tilt in near)
        }

    def _state(self, words: list[str]) -> str:
        if words:
            raise InputError("Nothing is expected after `state`.")
        now = self._predictor.describe()
        tilt = "none" if now["tilt_deg"] is None else f"{now['tilt_deg']:.2f}"
        return (
            f"state tilt {tilt} height {now['height_angstrom'] / _UM:.3f} {now['height_sigma_angstrom'] / _UM:.3f} "
            f"axis-offset {now['axis_offset_angstrom'] / _UM:.3f} {now['axis_offset_sigma_angstrom'] / _UM:.3f} "
            f"backlash {' '.join(f'{b / _UM:.4f}' for b in now['backlash_angstrom'])} "
            f"targets {' '.join(self._predictor.targets) or 'none'}"
        )

    def _save(self, words: list[str]) -> str:
        if len(words) != 1:
            raise InputError("Expected the name of a file without spaces, such as `save TS_01.json`.")
        why = self._write(Path(words[0]))
        if why:
            raise InputError(f"`{words[0]}` cannot be written: {why}. Give another file.")
        return "ok"

    def _keep(self, line: tuple[str, ...]) -> str:
        """Nothing, or the word that what was said is taken but not saved."""
        self._lines.append(" ".join(line))
        why = self._write(self._file) if self._file is not None else ""
        return f" not saved: `{self._file}` cannot be written: {why}" if why else ""

    def _write(self, path: Path) -> str:
        """Why the state cannot be written; nothing where it was."""
        goniometer = self._goniometer.to_dict() if self._goniometer else None
        values = {"params": self._params.model_dump(), "goniometer": goniometer, "lines": self._lines}
        try:
            write_prediction_state(path, values)
        except (OSError, EucentricError) as error:
            cause = error.__cause__ if isinstance(error, EucentricError) else error
            if isinstance(cause, OSError) and cause.errno and cause.errno != errno.ENOENT:
                return os.strerror(cause.errno).lower()
            return "the system takes no new files there"
        return ""

    def _take_up(self, path: Path, given: dict[str, Any]) -> None:
        """Everything that was said is said again: the state is the same to the last digit."""
        stored: dict[str, Any] = read_prediction_state(path)
        try:
            params = PredictionParams.model_validate(stored["params"])
            lines = [str(line) for line in stored["lines"]]
            model = stored["goniometer"]
        except (KeyError, TypeError, ValidationError) as error:
            raise FormatError(
                f"`{path}` is not a whole state of a prediction. Begin anew with another file."
            ) from error
        try:
            goniometer = GoniometerModel.from_dict(model) if model is not None else None
            predictor = PositionPredictor(params, goniometer)
        except InputError as error:
            raise FormatError(
                f"The goniometer in `{path}` is damaged ({str(error).split('. ')[0]}). Begin anew with another file."
            ) from error
        if lines:
            self._check_same(path, params, goniometer, given)
            self._params, self._goniometer = params, goniometer
        else:  # nothing was said to it yet: the settings are those given now
            predictor = PositionPredictor(self._params, self._goniometer)
        self._predictor = predictor
        file, self._file = self._file, None
        for line in lines:
            answer = self.answer(line)
            if answer.startswith("error"):
                raise FormatError(f"`{path}` holds a line that cannot be taken up: `{line}` ({answer}). Begin anew.")
        self._file = file

    def _check_same(
        self, path: Path, params: PredictionParams, goniometer: GoniometerModel | None, given: dict[str, Any]
    ) -> None:
        saved = params.model_dump()
        other = [
            f"{name} {saved[name]} is saved, {value} given" for name, value in given.items() if saved[name] != value
        ]
        if self._goniometer is not None and (goniometer is None or goniometer.to_dict() != self._goniometer.to_dict()):
            other = [f"{'another' if goniometer else 'no'} goniometer is saved", *other]
        if other:
            raise InputError(
                f"`{path}` holds a series begun with other settings: {'; '.join(other)}. "
                "Leave them out to go on with those saved, or give another file with --state."
            )


def _check_left_to(goniometer: GoniometerModel, given: Mapping[str, Any]) -> None:
    """Refuse settings that stand in the goniometer model and were given otherwise."""
    of_model = {"harmonics": goniometer.harmonics, "stage_noise_angstrom": goniometer.stage_noise_angstrom}
    for name, value in of_model.items():
        if given.get(name, value) != value:
            option = f"--{name.replace('_', '-')}"
            raise InputError(
                f"{option} {given[name]:g} was given with a goniometer that was learned with {value:g}, and the goniometer's counts. "
                f"Leave {option} out, or predict without --goniometer."
            )


def _parsed(command: str, words: list[str], example: str) -> tuple[list[float], str | None, dict[str, float]]:
    """Numbers, as many as the example has, the name of a target where one follows, and options."""
    count = len(example.split())
    if len(words) < count:
        raise InputError(f"Expected {count} number{'s' if count > 1 else ''}, such as `{command} {example}`.")
    numbers, rest = [_number(word) for word in words[:count]], words[count:]
    name = rest.pop(0) if rest and rest[0] not in _OPTIONS else None
    return numbers, name, _options(command, rest)


def _options(command: str, words: list[str]) -> dict[str, float]:
    allowed = _ALLOWED[command]
    keys = words[::2]
    if len(words) % 2 or any(key not in allowed for key in keys) or len(set(keys)) < len(keys):
        example = f"{allowed[0]} {'-10' if allowed[0] == 'at' else '65'}"
        raise InputError(
            f"`{' '.join(words)}` is not understood after `{command}`. Expected pairs such as `{example}`, each once, of: "
            f"{', '.join(allowed)}."
        )
    return {key: _number(value) for key, value in zip(keys, words[1::2], strict=True)}


def _number(word: str) -> float:
    """A number of a line, as it was typed."""
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not abs(value) < _LARGEST:
        raise InputError(f"`{word}` is not a number that can be used. Leave the line out where nothing was found.")
    return value


def _angstrom(um: float) -> float:
    if abs(um) > _LONGEST_UM:
        raise InputError(f"{um:.4g} um is longer than any stage moves. Lengths are um: check the unit.")
    return _UM * um

"""The prediction of a stage as a conversation in lines of text, for scripts of microscopes; see docs/how-to/predict-stage.md.

Lengths are um, angles degrees, times seconds. A line is answered by one line; what is wrong is answered by a line that begins
with ``error`` and changes nothing.
"""

from collections.abc import Callable, Iterable, Iterator
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
_OPTIONS = {"at", "time", "sigma", "height", "height-sigma"}


class PredictionSession:
    """Answers lines, and can be saved and taken up again.

    Parameters
    ----------
    params : what is believed of the stage
    goniometer : learned from earlier series
    state_file : written after every line that changes something; an existing one is taken up again
    """

    def __init__(
        self,
        params: PredictionParams | None = None,
        goniometer: GoniometerModel | None = None,
        state_file: PathLike | None = None,
    ) -> None:
        params = params or PredictionParams()
        if goniometer is not None:
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
            self._take_up(self._file)
        else:
            self._predictor = PositionPredictor(params, goniometer)

    @property
    def greeting(self) -> str:
        """The first line that is said."""
        return f"{HEADER}; {len(self._lines)} lines taken up" if self._lines else HEADER

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
        options = _options(words[3:])
        place = (_UM * float(words[1]), _UM * float(words[2]))
        self._predictor.add_target(words[0], place, seen_at_deg=options.get("at", 0.0), on_axis=on_axis)
        return self._keep(("spot" if on_axis else "target", *words))

    def _predict(self, words: list[str]) -> str:
        (tilt,), name, options = _parsed(words, 1, "predict 3.0")
        said = self._predictor.predict(tilt, name, time_s=options.get("time"))
        self._said[said.target] = said
        x, y = said.position_angstrom / _UM
        sx, sy = said.position_sigma_angstrom / _UM
        return (
            f"shift {x:.4f} {y:.4f} focus {said.focus_change_angstrom / _UM:.4f} "
            f"sigma {sx:.4f} {sy:.4f} {said.focus_sigma_angstrom / _UM:.4f} "
            f"track {'yes' if said.track_now else 'no'} way {said.way.replace(' ', '-')} target {said.target}"
        )

    def _measured(self, words: list[str]) -> str:
        (tilt, x, y), name, options = _parsed(words, 3, "measured 3.0 0.12 -0.03")
        return self._update(tilt, (_UM * x, _UM * y), name, options, ("measured", *words))

    def _residual(self, words: list[str]) -> str:
        (dx, dy), name, options = _parsed(words, 2, "residual 0.012 -0.003")
        said = self._said.get(name or next(iter(self._predictor.targets), DEFAULT_TARGET))
        if said is None:
            raise InputError("A residual is counted from a prediction, and none was asked for. Say `predict` first.")
        x, y = said.position_angstrom / _UM + (dx, dy)
        line = ("measured", repr(said.tilt_deg), repr(float(x)), repr(float(y)), *words[2:])
        return self._update(said.tilt_deg, (_UM * x, _UM * y), name, options, line)

    def _height(self, words: list[str]) -> str:
        (tilt, z), name, options = _parsed(words, 2, "height 3.0 0.15")
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
        lengths = {key: _UM * options[key] for key in ("sigma", "height", "height-sigma") if key in options}
        got = self._predictor.update(
            tilt,
            position,
            target=name,
            sigma_angstrom=lengths.get("sigma"),
            height_angstrom=lengths.get("height"),
            height_sigma_angstrom=lengths.get("height-sigma"),
            time_s=options.get("time"),
        )
        done = self._keep(line)
        if done != "ok":
            return done
        return f"{'ok' if got.accepted else 'rejected'}{' ' + got.word if got.word else ''}"

    def _state(self, words: list[str]) -> str:
        del words
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
        self._write(Path(words[0]))
        return "ok"

    def _keep(self, line: tuple[str, ...]) -> str:
        self._lines.append(" ".join(line))
        if self._file is not None:
            self._write(self._file)
        return "ok"

    def _write(self, path: Path) -> None:
        goniometer = self._goniometer.to_dict() if self._goniometer else None
        values = {"params": self._params.model_dump(), "goniometer": goniometer, "lines": self._lines}
        write_prediction_state(path, values)

    def _take_up(self, path: Path) -> None:
        """Everything that was said is said again: the state is the same to the last digit."""
        stored: dict[str, Any] = read_prediction_state(path)
        try:
            self._params = PredictionParams.model_validate(stored["params"])
            lines = [str(line) for line in stored["lines"]]
            model = stored["goniometer"]
        except (KeyError, TypeError, ValidationError) as error:
            raise FormatError(
                f"`{path}` is not a whole state of a prediction. Begin anew with another file."
            ) from error
        self._goniometer = GoniometerModel.from_dict(model) if model is not None else None
        self._predictor = PositionPredictor(self._params, self._goniometer)
        file, self._file = self._file, None
        for line in lines:
            answer = self.answer(line)
            if answer.startswith("error"):
                raise FormatError(f"`{path}` holds a line that cannot be taken up: `{line}` ({answer}). Begin anew.")
        self._file = file


def _parsed(words: list[str], count: int, example: str) -> tuple[list[float], str | None, dict[str, float]]:
    """Numbers, the name of a target where one follows, and options."""
    if len(words) < count:
        raise InputError(f"Expected {count} number{'s' if count > 1 else ''}, such as `{example}`.")
    numbers, rest = [float(word) for word in words[:count]], words[count:]
    name = rest.pop(0) if rest and rest[0] not in _OPTIONS else None
    return numbers, name, _options(rest)


def _options(words: list[str]) -> dict[str, float]:
    unknown = [word for word in words[::2] if word not in _OPTIONS]
    if unknown or len(words) % 2:
        raise InputError(
            f"`{' '.join(words)}` is not understood. Expected pairs such as `time 65` of: {', '.join(sorted(_OPTIONS))}."
        )
    return {key: float(value) for key, value in zip(words[::2], words[1::2], strict=True)}

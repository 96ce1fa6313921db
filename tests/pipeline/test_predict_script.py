"""The script of docs/how-to/predict-stage.md, run against a microscope whose specimen turns about an axis beside it."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from eucentric.acquisition import PredictionParams
from eucentric.pipeline.prediction_session import PredictionSession

PAGE = Path(__file__).parents[2] / "docs/how-to/predict-stage.md"
OFFSET_UM, HEIGHT_UM = 1.2, -0.9


class Microscope:
    """Seen along the beam: x across the axis, y along it, z up; defocus is negative under focus, less so the higher the specimen."""

    def __init__(self):
        self.tilt, self.lens = 0.0, -3.0
        self.shift = np.zeros(2)  # of the field, in x and y
        self.seen = []

    def specimen(self):
        t = np.deg2rad(self.tilt)
        x = OFFSET_UM * np.cos(t) + HEIGHT_UM * np.sin(t) - OFFSET_UM
        z = -OFFSET_UM * np.sin(t) + HEIGHT_UM * np.cos(t) - HEIGHT_UM
        return np.array([x, 0.01 * np.sin(t)]), z

    def defocus(self):
        return self.lens + self.specimen()[1]

    def tilt_to(self, angle):
        self.tilt = float(angle)

    def set_image_shift(self, x, y):
        self.shift = np.array([x, y], dtype=float)

    def shift_by_microns(self, along, across):
        self.shift = self.shift + np.array([-across, along])

    def specimen_shift(self):
        return self.shift[1], -self.shift[0]

    def align(self, _):
        self.shift = self.specimen()[0]

    def set_defocus(self, value):
        self.lens = float(value)

    def record(self):
        self.seen.append((self.tilt, *(self.specimen()[0] - self.shift), self.defocus()))

    def module(self):
        def nothing(*_):
            return None

        return SimpleNamespace(
            Echo=pytest.fail, TiltTo=self.tilt_to, ReportTiltAngle=lambda: self.tilt, ReportImageShift=lambda: (*self.shift, 0, 0),
            ReportSpecimenShift=self.specimen_shift, SetImageShift=self.set_image_shift, ImageShiftByMicrons=self.shift_by_microns,
            ReportDefocus=lambda: self.lens, SetDefocus=self.set_defocus, G=nothing, ReportAutoFocus=lambda: (self.defocus(), 0.0),
            T=nothing, AlignTo=self.align, R=self.record, S=nothing, OpenNewFile=nothing, CloseFile=nothing, ReadFile=nothing,
            LimitNextAutoAlign=nothing,
        )  # fmt: skip


class Conversation:
    """What a pipe to the program does, in this process."""

    def __init__(self, session):
        self.session, self.lines = session, [session.greeting]
        self.stdin = SimpleNamespace(write=self.write, flush=lambda: None)
        self.stdout = SimpleNamespace(readline=lambda: self.lines.pop(0) + "\n")

    def write(self, text):
        self.lines.append("ok" if text.strip() == "quit" else self.session.answer(text))


def script():
    (found,) = re.findall(r"```python\n#!Python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return found


def test_the_script_keeps_the_target_in_view_and_in_focus(monkeypatch):
    microscope = Microscope()
    monkeypatch.setitem(sys.modules, "serialem", microscope.module())
    said = Conversation(PredictionSession(PredictionParams()))
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: said)
    exec(compile(script(), str(PAGE), "exec"), {})
    seen = np.array(microscope.seen)
    assert len(seen) == 41
    free = np.abs([OFFSET_UM * np.sin(np.deg2rad(t)) for t in seen[:, 0]]).max()
    off = np.abs(seen[8:, 1:] - (0.0, 0.0, seen[0, 3]))
    assert free > 1.0
    assert off[:, :2].max() < 0.05
    assert off[:, 2].max() < 0.1

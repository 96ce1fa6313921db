"""Lines that tell how far a command is, in a terminal and in a log."""

import io

import pytest

from eucentric.cli import progress_lines


class Channel(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress_lines.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_a_minute_and_none_of_what_is_quick(monkeypatch, clock):
    channel = Channel(terminal=False)
    monkeypatch.setattr(progress_lines.sys, "stderr", channel)
    step = progress_lines.shown_parts()
    for second, part in ((1, 0.1), (59, 0.4), (61, 0.5), (100, 0.7), (130, 1.0)):
        clock[0] = 1000.0 + second
        step("round 1, 4 series", part)
    assert channel.getvalue() == "round 1, 4 series: 50%\nround 1, 4 series: 100%\n"


def test_a_terminal_gets_one_line_that_is_written_again(monkeypatch, clock):
    channel = Channel(terminal=True)
    monkeypatch.setattr(progress_lines.sys, "stderr", channel)
    step = progress_lines.shown_parts()
    step("maps", 0.5)
    step("maps", 1.0)
    assert channel.getvalue() == "\rmaps: 50%   \rmaps: 100%   \n"

"""What a digital twin says, as lines of text, as Markdown and as a page."""

import base64
import math
import re
from functools import lru_cache
from pathlib import Path

from jinja2 import Template

from eucentric.figures.recording import spectra_figure
from eucentric.io.atomic import write_text_atomic
from eucentric.pipeline.progress import duration
from eucentric.pipeline.training_file import figure_png
from eucentric.pipeline.twin import RESULT, Expected, TwinResult
from eucentric.pipeline.twin_recording import TwinRecording
from eucentric.report.environment import page_environment

MARKDOWN, PAGE = "expected.md", "expected.html"
_FIRST = (
    "alignment rms",
    "defocus error, |tilt| <= 30",
    "defocus error, |tilt| > 30",
    "motion rms",
    "tilt axis error",
    "particle contrast",
    "good tilts lost",
)


def shown(one: Expected) -> str:
    """Mean and scatter with as many digits as they are worth."""
    if not math.isfinite(one.mean):
        return "-"
    text = _number(one.mean)
    if math.isfinite(one.sd):
        text += f" +- {_number(one.sd, 2)}"
    return f"{text} {one.unit}".strip()


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.0f}" if abs(value) >= 10.0**digits - 0.5 else f"{value:.{digits}g}"


def _in_words_of_a_page(text: str) -> str:
    return re.sub(r"(?<=[\d)]) A\b", " Å", text).replace(" +- ", " ± ")


def main_figures(result: TwinResult) -> list[tuple[str, str]]:
    """Names and values of what is asked first."""
    known = {one.words: one for one in result.expected}
    rows = [(words, shown(known[words])) for words in _FIRST if words in known]
    for kind, scores in result.picking.items():
        rows.append((f"{kind}: F1", shown(scores["F1"])))
        rows.append((f"{kind}: precision", shown(scores["precision"])))
        rows.append((f"{kind}: recall", shown(scores["recall"])))
        rows.append((f"{kind}: orientation, median error", shown(scores["error of orientation, median"])))
    for one in result.averages:
        words = f"{one.project.kind}: average `{one.project.name}` of {one.particles} particles"
        own = f"{_resolution(one.project.resolution_angstrom)} of {one.project.particles}"
        rows.append((words, f"{_resolution(one.resolution_angstrom)} (the project's: {own})"))
    return rows


def _resolution(angstrom: float) -> str:
    return f"{angstrom:.1f} A" if math.isfinite(angstrom) else "no agreement of the halves"


def conclusion(result: TwinResult) -> str:
    """A sentence on the finished session; empty where there is none."""
    if not result.compared:
        return ""
    if not result.worse:
        return "The session is in nothing worse than its twin."
    return f"The session is worse than its twin in: {'; '.join(result.worse)}."


def lines(result: TwinResult) -> list[str]:
    """For a terminal."""
    rows = main_figures(result)
    width = max((len(name) for name, _ in rows), default=0)
    count = len(result.series)
    told = [f"Expected, mean{' +- scatter' if count > 1 else ''} of {count} simulated series:"]
    told += [f"  {name:<{width}}  {value}" for name, value in rows]
    if result.compared:
        told.append("What the project reports of itself, and its twin:")
        width = max(len(one.words) for one in result.compared)
        for one in result.compared:
            own = f"{_number(one.project)} {one.unit}".strip()
            told.append(f"  {one.words:<{width}}  {own:<12}  {shown(one.twin):<22}  {one.verdict}")
        told.append(conclusion(result))
    told += [f"FAILED {text}" for text in result.failures]
    told.append(f"This took {duration(result.seconds)}.")
    return told


def markdown(result: TwinResult) -> str:
    """A small document."""
    parts = [f"# Digital twin of {result.like}", ""]
    parts += [f"- {text}" for text in result.told]
    parts += ["", f"## Expected ({len(result.series)} simulated series)", "", "| figure | value |", "| --- | --- |"]
    parts += [f"| {_cell(name)} | {_cell(value)} |" for name, value in main_figures(result)]
    if result.compared:
        parts += [
            "",
            "## The session beside its twin",
            "",
            "| figure | session | twin | |",
            "| --- | --- | --- | --- |",
        ]
        parts += [
            f"| {_cell(one.words)} | {_number(one.project)} {one.unit} | {shown(one.twin)} | {one.verdict} |"
            for one in result.compared
        ]
        parts += ["", conclusion(result)]
    parts += [f"- failed: {text}" for text in result.failures]
    return "\n".join(parts) + "\n"


def page(result: TwinResult, picture: bytes | None = None) -> str:
    """The same as a page that needs no other file, with a picture (PNG) of the spectra where there is one."""
    return _template().render(
        result=result,
        rows=main_figures(result),
        shown=shown,
        number=_number,
        angstrom=_in_words_of_a_page,
        conclusion=conclusion(result),
        took=duration(result.seconds),
        picture=None if picture is None else base64.b64encode(picture).decode("ascii"),
    )


def write_pages(result: TwinResult, recording: TwinRecording | None) -> tuple[Path, ...]:
    """Write ``expected.md`` and ``expected.html`` beside ``expected.json``; the files."""
    picture = None
    if recording is not None:
        spectra = recording.spectra
        figure = spectra_figure(
            spectra.frequency,
            spectra.measured,
            recording.fit.power(spectra),
            1.0 / (recording.fit.detected * spectra.electrons),
        )
        picture = figure_png(figure)
    document, shown_page = result.folder / MARKDOWN, result.folder / PAGE
    write_text_atomic(document, markdown(result))
    write_text_atomic(shown_page, page(result, picture))
    return result.folder / RESULT, document, shown_page


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


@lru_cache(maxsize=1)
def _template() -> Template:
    return page_environment().from_string(_PAGE)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Digital twin of {{ result.like }}</title>
<style>
:root { color-scheme: light dark; --ink: #222; --quiet: #595959; --ground: #fff; --line: #ddd; --bad: #fdecea; --good: #eaf6ec; }
@media (prefers-color-scheme: dark) {
:root { --ink: #e6e6e6; --quiet: #b0b0b0; --ground: #16191d; --line: #3a3f45; --bad: #41211e; --good: #1d3522; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: var(--ink);
  background: var(--ground); }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; } h2 { font-size: 1.2rem; margin-top: 1.8rem; }
.quiet { color: var(--quiet); } .wide { overflow-x: auto; } img { max-width: 100%; background: #fff; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: 0.25rem 1rem 0.25rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } tr.worse > * { background: var(--bad); } tr.better > * { background: var(--good); }
</style>
</head>
<body>
<h1>Digital twin of {{ result.like }}</h1>
<p class="quiet">{{ result.series | length }} simulated series, the same plan, scored with the truth. It took {{ took }}.</p>
{% if conclusion %}<p><b>{{ conclusion }}</b></p>
{% endif %}
{% for failure in result.failures %}<p><b>Failed:</b> {{ failure }}</p>
{% endfor %}
<h2>Expected</h2>
<div class="wide" tabindex="0" role="region" aria-label="Expected figures"><table>
<thead><tr><th scope="col">figure</th><th scope="col">mean{% if result.series | length > 1 %} &plusmn; scatter from series to series{%
endif %}</th></tr></thead>
<tbody>
{% for name, value in rows %}<tr><th scope="row">{{ name }}</th><td>{{ angstrom(value) }}</td></tr>
{% endfor %}
</tbody></table></div>
{% if result.compared %}
<h2>The session beside its twin</h2>
<div class="wide" tabindex="0" role="region" aria-label="Session and twin"><table>
<thead><tr><th scope="col">what the project reports of itself</th><th scope="col">session</th><th scope="col">twin</th>
<th scope="col">the session is</th></tr></thead>
<tbody>
{% for one in result.compared %}<tr class="{{ one.verdict }}"><th scope="row">{{ one.words }}</th>
<td>{{ angstrom(number(one.project) + " " + one.unit) }}</td><td>{{ angstrom(shown(one.twin)) }}</td><td>{{ one.verdict }}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="quiet">A difference counts where it is larger than a quarter of the twin's figure and than twice the scatter;
numbers of picks also by more than chance.</p>
{% endif %}
{% if picture %}
<h2>Spectra</h2>
<p><img alt="Power of the images and of their twin against frequency" src="data:image/png;base64,{{ picture }}"></p>
{% endif %}
<h2>What the twin is made of</h2>
<ul>
{% for text in result.told %}<li>{{ angstrom(text) }}</li>
{% endfor %}
</ul>
</body>
</html>
"""

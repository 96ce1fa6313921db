"""The status page of a session: static, loads nothing, and asks the browser to read it again."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from jinja2 import Template

from eucentric.pipeline.live_advice import Advice, SeriesFigures
from eucentric.pipeline.progress import duration
from eucentric.report.environment import page_environment

PAGE_FILE = "live.html"
_DASH = "\u2013"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRow:
    """One tilt series."""

    name: str
    state: str
    """`waiting`, `ready`, `running`, `done`, `failed` or `refused`."""
    message: str
    page: str | None = None
    """Of the report, from the project's folder."""
    figures: SeriesFigures | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePage:
    """All that the page shows."""

    watched: str
    written: float
    """s since the epoch."""
    refresh_seconds: int
    doing: str
    """What goes on, a sentence."""
    pace: tuple[str, ...]
    advice: tuple[Advice, ...]
    problems: tuple[str, ...]
    rows: tuple[LiveRow, ...]
    has_report: bool

    def count(self, *states: str) -> int:
        """Series in one of some states."""
        return sum(row.state in states for row in self.rows)


def render_live(page: LivePage) -> str:
    """The page as HTML."""
    return _template().render(page=page, shown=_shown, duration=duration, written=_moment(page.written))


def _moment(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _shown(row: LiveRow) -> Sequence[str]:
    figures = row.figures
    if figures is None:
        return [_DASH] * 6

    def number(value: float | None, form: str) -> str:
        return _DASH if value is None else form.format(value)

    defocus = number(figures.defocus_angstrom and figures.defocus_angstrom * 1e-4, "{:.2f}")
    if figures.target_defocus_angstrom:
        defocus += f" ({figures.target_defocus_angstrom * 1e-4:.1f})"
    return [
        str(figures.images),
        number(figures.motion_angstrom, "{:.0f}"),
        defocus,
        number(figures.shift_percent, "{:.0f}"),
        number(figures.thickness_angstrom and figures.thickness_angstrom / 10.0, "{:.0f}"),
        number(figures.dose, "{:.0f}"),
    ]


@lru_cache(maxsize=1)
def _template() -> Template:
    return page_environment().from_string(_PAGE)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{{ page.refresh_seconds }}">
<title>Live: {{ page.count("done") }} of {{ page.rows | length }} tilt series</title>
<style>
:root { color-scheme: light dark; --ink: #222; --quiet: #595959; --ground: #fff; --line: #ddd; --warm: #fdf3e1; --bad: #fdecea; }
@media (prefers-color-scheme: dark) {
:root { --ink: #e6e6e6; --quiet: #b0b0b0; --ground: #16191d; --line: #3a3f45; --warm: #3a2f18; --bad: #41211e; }
a { color: #8ab8ff; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: var(--ink);
  background: var(--ground); }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; } h2 { font-size: 1.2rem; margin-top: 1.8rem; }
.quiet { color: var(--quiet); } .wide { overflow-x: auto; } code { overflow-wrap: anywhere; }
.counts { display: flex; flex-wrap: wrap; gap: 0.4rem 1.6rem; padding: 0; list-style: none; } .counts b { font-size: 1.4rem; }
table { border-collapse: collapse; } caption { text-align: left; color: var(--quiet); padding-bottom: 0.3rem; }
th, td { text-align: left; padding: 0.25rem 0.7rem 0.25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.number { text-align: right; } td.number { white-space: nowrap; } thead th { vertical-align: bottom; } td.message { min-width: 16rem; }
.advice li { background: var(--warm); margin: 0.3rem 0; padding: 0.4rem 0.7rem; list-style: none; } .advice { padding: 0; }
.problem, tr.failed > *, tr.refused > * { background: var(--bad); } .problem { padding: 0.4rem 0.7rem; }
</style>
</head>
<body>
<h1>Live</h1>
<p class="quiet">Follows <code>{{ page.watched }}</code>.
Written {{ written }}; this page reads itself anew every {{ page.refresh_seconds }} s.</p>
<p><b>{{ page.doing }}</b></p>
{% for problem in page.problems %}<p class="problem">{{ problem }}</p>
{% endfor %}
<ul class="counts">
<li><b>{{ page.count("done") }}</b> done</li>
<li><b>{{ page.count("running", "ready") }}</b> running or next</li>
<li><b>{{ page.count("waiting") }}</b> not yet whole</li>
<li><b>{{ page.count("failed", "refused") }}</b> failed</li>
</ul>
{% for line in page.pace %}<p>{{ line }}</p>
{% endfor %}
{% if page.has_report %}<p><a href="report/index.html">The report</a></p>
{% endif %}
<h2>Advice</h2>
{% if page.advice %}
<ul class="advice">
{% for one in page.advice %}<li><b>{{ one.series or "Session" }}, {{ one.kind }}:</b> {{ one.text }}</li>
{% endfor %}
</ul>
{% else %}
<p class="quiet">Nothing out of the ordinary.</p>
{% endif %}
<h2>Tilt series</h2>
{% if page.rows %}
<div class="wide" tabindex="0" role="region" aria-label="Tilt series"><table>
<caption>Newest first. Good series move little in an image, keep their target in view (shift), and have a defocus near its
target, in brackets.</caption>
<thead><tr><th scope="col">series</th><th scope="col">state</th><th scope="col" class="number">images</th>
<th scope="col" class="number">motion (&Aring;)</th><th scope="col" class="number">defocus (&micro;m)</th>
<th scope="col" class="number">shift (% of field)</th><th scope="col" class="number">thickness (nm)</th>
<th scope="col" class="number">dose (e/&Aring;&sup2;)</th><th scope="col" class="number">time</th>
<th scope="col">note</th></tr></thead>
<tbody>
{% for row in page.rows %}
<tr class="{{ row.state }}">
<th scope="row">{% if row.page %}<a href="{{ row.page | urlencode }}">{{ row.name }}</a>{% else %}
{{ row.name }}{% endif %}</th>
<td>{{ row.state }}</td>{% for value in shown(row) %}<td class="number">{{ value }}</td>{% endfor %}
<td class="number">{{ "" if row.seconds is none else duration(row.seconds) }}</td><td class="message">{{ row.message }}</td></tr>
{% endfor %}
</tbody></table></div>
{% else %}
<p class="quiet">No tilt series yet.</p>
{% endif %}
</body>
</html>
"""

"""The HTML of the pages."""

from eucentric.report.page_script import SCRIPT
from eucentric.report.page_style import STYLE

_BASE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{% block title %}{% endblock %}</title>
<style>"""
    + STYLE
    + """</style>
</head>
<body>
{% block body %}{% endblock %}
<script>"""
    + SCRIPT
    + """</script>
</body>
</html>
"""
)

_MACROS = """
{% macro image(picture) %}
<img src="data:{{ picture.media }};base64,{{ picture.data | base64 }}" alt="{{ picture.title }}">
{%- endmacro %}
{% macro plot(picture) %}
<figure{% if picture.plotted %} class="plot"{% endif %}>{{ image(picture) }}
<figcaption><b>{{ picture.title }}.</b> {{ picture.caption }}</figcaption></figure>
{% endmacro %}
{% macro facts(rows, label) %}
<div class="wide" role="region" aria-label="{{ label }}" tabindex="0"><table>
{% for name, value in rows %}<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}</table></div>
{% endmacro %}
{% macro results(rows, title, kind) %}
{% if rows %}
<h2>{{ title }}</h2>
<div class="wide" role="region" aria-label="{{ title }}" tabindex="0"><table class="sortable">
<thead><tr><th scope="col">{{ kind }}</th>
{% for name, value in rows[0].facts %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}
<tr><th scope="row"><a href="{{ row.page | urlencode }}">{{ row.name }}</a></th>
{% for name, value in row.facts %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% endmacro %}
{% macro downloads(files) %}
{% if files %}
<p class="files">{% for href, words in files %}<a href="{{ href | urlencode }}">{{ words }}</a>{{ "" if loop.last else " · " }}
{% endfor %}</p>
{% endif %}
{% endmacro %}
"""

_PROJECT = """{% extends "base" %}
{% import "macros" as part %}
{% block title %}{{ page.title }}{% endblock %}
{% block body %}
<header><h1>{{ page.title }}</h1>
<p>{{ page.rows | length }} tilt series, {{ page.failed_count }} failed.
<span class="hint">Press the head of a column to sort by it, again to turn the order round.</span></p></header>
<main>
<h2>Tilt series</h2>
<div class="wide" role="region" aria-label="Tilt series" tabindex="0"><table class="sortable">
<thead><tr><th scope="col">series</th>
{% if page.has_thumbnails %}<th scope="col" data-fixed>picture</th>{% endif %}
<th scope="col">outcome</th><th scope="col">stage</th><th scope="col">tilts</th><th scope="col">excluded</th>
{% for column in page.quality_columns %}<th scope="col">{{ column }}</th>{% endfor %}
<th scope="col">unlike the others</th><th scope="col">caveats</th><th scope="col">time (s)</th>
<th scope="col">message</th></tr></thead>
<tbody>
{% for row in page.rows %}
<tr{% if row.failed %} class="failed"{% endif %}>
<th scope="row">{% if row.page %}<a href="{{ row.page | urlencode }}">{{ row.name }}</a>{% else %}{{ row.name }}{% endif %}</th>
{% if page.has_thumbnails %}<td>{% if row.thumbnail %}{{ part.image(row.thumbnail) }}{% endif %}</td>{% endif %}
<td>{{ "left out" if row.left_out is not none else "failed" if row.failed else "done" }}</td><td>{{ row.stage }}</td>
<td>{{ "" if row.tilt_count is none else row.tilt_count }}</td>
<td>{{ "" if row.excluded_count is none else row.excluded_count }}</td>
{% for value in row.quality %}<td>{{ value }}</td>{% endfor %}
<td>{{ row.outliers | length }}</td>
<td>{{ row.caveat_count }}</td><td>{{ "%.1f" | format(row.seconds) }}</td><td>{{ row.message }}</td>
</tr>
{% endfor %}
</tbody></table></div>
{% if page.outlier_note %}
<h3>Unlike the others</h3>
<p class="reading">{{ page.outlier_note }}</p>
<ul class="outliers">
{% for row in page.rows if row.outliers %}
<li><b>{{ row.name }}</b><ul>{% for words in row.outliers %}<li>{{ words }}</li>{% endfor %}</ul></li>
{% endfor %}
</ul>
{% endif %}
{% if page.pictures %}
<h2>Distributions</h2>
{% for picture in page.pictures %}{{ part.plot(picture) }}{% endfor %}
{% endif %}
{% if page.acquisition_note %}
<h2>Stage and acquisition</h2>
<p class="reading">{{ page.acquisition_note }}</p>
{% if page.acquisition %}
<ul class="outliers">{% for words in page.acquisition %}<li>{{ words }}</li>{% endfor %}</ul>
{% endif %}
{% endif %}
{{ part.results(page.averages, "Averages", "average") }}
{{ part.results(page.refinements, "Refinements", "refinement") }}
{% if page.tables %}
<h2>Metrics</h2>
{% for table in page.tables %}
<h3>{{ table.stage }}</h3>
<div class="wide" role="region" aria-label="Metrics: {{ table.stage }}" tabindex="0"><table class="sortable">
<thead><tr><th scope="col">series</th>{% for column in table.columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for name, values in table.rows %}
<tr><th scope="row">{{ name }}</th>{% for value in values %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
{% endif %}
{{ part.downloads(page.files) }}
<h2>Methods</h2>
{% for paragraph in page.methods %}<p>{{ paragraph }}</p>
{% endfor %}
{% if page.references %}
<ol>
{% for reference in page.references %}<li>{{ reference }}</li>
{% endfor %}
</ol>
{% endif %}
{% if page.bibtex %}
<p class="files"><a href="methods.bib">methods.bib</a></p>
<details><summary>BibTeX</summary>
<pre tabindex="0" role="region" aria-label="BibTeX">{{ page.bibtex }}</pre></details>
{% endif %}
{% if page.versions %}
<h2>Programs</h2>
<p>{% for name, number in page.versions %}{{ name }} {{ number }}{{ "" if loop.last else ", " }}{% endfor %}</p>
{% endif %}
</main>
{% endblock %}
"""

_SERIES = """{% extends "base" %}
{% import "macros" as part %}
{% block title %}{{ page.name }}{% endblock %}
{% block body %}
<nav aria-label="Project"><a href="index.html">The project</a></nav>
<main>
<h1>{{ page.name }}</h1>
{% if page.left_out is not none %}
<p class="failed">Left out by hand: {{ page.left_out }}</p>
{% endif %}
{% if page.failed_stage %}
<p class="failed">Failed in {{ page.failed_stage }}: {{ page.message }}</p>
{% endif %}
{% if page.outliers %}
<p>Unlike the other series:</p>
<ul class="outliers">{% for words in page.outliers %}<li>{{ words }}</li>{% endfor %}</ul>
{% endif %}
{% if page.facts %}{{ part.facts(page.facts, "About " ~ page.name) }}{% endif %}
{{ part.downloads(page.files) }}
{% if page.sections | length > 1 %}
<nav aria-label="Sections"><ul class="sections">
{% for section in page.sections %}<li><a href="#section-{{ loop.index }}">{{ section.title }}</a></li>
{% endfor %}</ul></nav>
{% endif %}
{% for section in page.sections %}
<section id="section-{{ loop.index }}">
<h2>{{ section.title }}</h2>
<p class="reading">{{ section.reading }}</p>
{% if section.caveats %}
<ul class="caveats">{% for caveat in section.caveats %}<li>{{ caveat }}</li>{% endfor %}</ul>
{% endif %}
{% if section.metrics %}{{ part.facts(section.metrics, section.title ~ ": figures") }}{% endif %}
{% if section.columns %}
<div class="wide" role="region" aria-label="{{ section.title }}: table" tabindex="0"><table class="sortable">
<thead><tr>{% for column in section.columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in section.rows %}
<tr>{% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% for slider in section.sliders %}
<figure class="slider">
{% for frame in slider.frames %}
<img src="data:{{ frame.media }};base64,{{ frame.data | base64 }}" alt="{{ slider.title }}, {{ frame.title }}"
 data-label="{{ frame.title }}"{{ "" if loop.index0 == slider.shown else " hidden" }}>
{% endfor %}
<div class="controls" hidden><button type="button" aria-pressed="false">Play</button>
<input type="range" min="0" max="{{ slider.frames | length - 1 }}" value="{{ slider.shown }}" step="1" aria-label="{{ slider.title }}">
<output>{{ slider.frames[slider.shown].title }}</output></div>
<figcaption><b>{{ slider.title }}.</b> {{ slider.caption }}</figcaption></figure>
{% endfor %}
{% for strip in section.strips %}
<p class="title"><b>{{ strip.title }}.</b> {{ strip.caption }}</p>
<div class="strip" tabindex="0" role="group" aria-label="{{ strip.title }}">
{% for tile in strip.tiles %}
<div class="tile{% if tile.mark %} marked{% endif %}">
{{ part.image(tile.picture) }}
<b>{{ tile.lines[0] }}</b>
{% for line in tile.lines[1:] %}<span>{{ line }}</span>
{% endfor %}
{% if tile.mark %}<span class="mark">&#9888; {{ tile.mark }}</span>
{% endif %}
</div>
{% endfor %}
</div>
{% endfor %}
{% for picture in section.pictures %}{{ part.plot(picture) }}{% endfor %}
</section>
{% endfor %}
</main>
{% endblock %}
"""

TEMPLATES = {"base": _BASE, "macros": _MACROS, "project": _PROJECT, "series": _SERIES}
"""By name, for the template loader."""

"""The HTML of the pages."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; border-bottom: 1px solid #ccc; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: 0.8rem 0; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: 0.2rem 0.7rem; border-bottom: 1px solid #e3e3e3; vertical-align: top; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; } figcaption, .title { color: #555; }
.reading { color: #555; font-style: italic; }
.failed { background: #fdecea; border-left: 4px solid #c0392b; padding: 0.6rem 1rem; }
.strip { display: flex; gap: 0.5rem; overflow-x: auto; margin: 0.4rem 0; padding-bottom: 0.5rem; }
.strip .tile { flex: none; width: 11rem; margin: 0; font-size: 0.8rem; line-height: 1.35; border-top: 4px solid transparent; }
.strip img { display: block; width: 100%; } .strip b, .strip span { display: block; }
.strip .marked { border-top-color: #d55e00; } .strip .mark { color: #8a4b00; }
tr.failed td { background: #fdecea; } .caveats li { color: #8a4b00; }
"""

_BASE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{% block title %}{% endblock %}</title>
<style>"""
    + _STYLE
    + """</style>
</head>
<body>
{% block body %}{% endblock %}
</body>
</html>
"""
)

_PROJECT = """{% extends "base" %}
{% block title %}{{ page.title }}{% endblock %}
{% block body %}
<h1>{{ page.title }}</h1>
<p>{{ page.rows | length }} tilt series, {{ page.failed_count }} failed.</p>
<h2>Tilt series</h2>
<div class="wide"><table>
<tr><th>series</th><th>outcome</th><th>stage</th><th>tilts</th><th>excluded</th><th>caveats</th><th>time (s)</th>
<th>message</th></tr>
{% for row in page.rows %}
<tr{% if row.failed %} class="failed"{% endif %}>
<td>{% if row.page %}<a href="{{ row.page | urlencode }}">{{ row.name }}</a>{% else %}{{ row.name }}{% endif %}</td>
<td>{{ "failed" if row.failed else "done" }}</td><td>{{ row.stage }}</td>
<td>{{ "" if row.tilt_count is none else row.tilt_count }}</td>
<td>{{ "" if row.excluded_count is none else row.excluded_count }}</td>
<td>{{ row.caveat_count }}</td><td>{{ "%.1f" | format(row.seconds) }}</td><td>{{ row.message }}</td>
</tr>
{% endfor %}
</table></div>
{% if page.averages %}
<h2>Averages</h2>
<div class="wide"><table>
<tr><th>average</th>{% for name, value in page.averages[0].facts %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in page.averages %}
<tr><td><a href="{{ row.page | urlencode }}">{{ row.name }}</a></td>
{% for name, value in row.facts %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% endif %}
{% if page.tables %}
<h2>Metrics</h2>
{% for table in page.tables %}
<h3>{{ table.stage }}</h3>
<div class="wide"><table>
<tr><th>series</th>{% for column in table.columns %}<th>{{ column }}</th>{% endfor %}</tr>
{% for name, values in table.rows %}
<tr><td>{{ name }}</td>{% for value in values %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% endfor %}
{% endif %}
<h2>Methods</h2>
{% for paragraph in page.methods %}<p>{{ paragraph }}</p>
{% endfor %}
{% if page.references %}
<ol>
{% for reference in page.references %}<li>{{ reference }}</li>
{% endfor %}
</ol>
{% endif %}
{% if page.versions %}
<h2>Programs</h2>
<p>{% for name, number in page.versions %}{{ name }} {{ number }}{{ "" if loop.last else ", " }}{% endfor %}</p>
{% endif %}
{% endblock %}
"""

_SERIES = """{% extends "base" %}
{% block title %}{{ page.name }}{% endblock %}
{% block body %}
<p><a href="index.html">The project</a></p>
<h1>{{ page.name }}</h1>
{% if page.failed_stage %}
<p class="failed">Failed in {{ page.failed_stage }}: {{ page.message }}</p>
{% endif %}
{% if page.facts %}
<table>{% for name, value in page.facts %}<tr><th>{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
{% endif %}
{% for section in page.sections %}
<h2>{{ section.title }}</h2>
<p class="reading">{{ section.reading }}</p>
{% if section.caveats %}
<ul class="caveats">{% for caveat in section.caveats %}<li>{{ caveat }}</li>{% endfor %}</ul>
{% endif %}
{% if section.metrics %}
<table>{% for name, value in section.metrics %}<tr><th>{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
{% endif %}
{% if section.columns %}
<div class="wide"><table>
<tr>{% for column in section.columns %}<th>{{ column }}</th>{% endfor %}</tr>
{% for row in section.rows %}
<tr>{% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% endif %}
{% for strip in section.strips %}
<p class="title"><b>{{ strip.title }}.</b> {{ strip.caption }}</p>
<div class="strip" tabindex="0" role="group" aria-label="{{ strip.title }}">
{% for tile in strip.tiles %}
<div class="tile{% if tile.mark %} marked{% endif %}">
<img src="data:{{ tile.picture.media }};base64,{{ tile.picture.data | base64 }}" alt="{{ tile.picture.title }}">
<b>{{ tile.lines[0] }}</b>
{% for line in tile.lines[1:] %}<span>{{ line }}</span>
{% endfor %}
{% if tile.mark %}<span class="mark">&#9888; {{ tile.mark }}</span>
{% endif %}
</div>
{% endfor %}
</div>
{% endfor %}
{% for picture in section.pictures %}
<figure><img src="data:{{ picture.media }};base64,{{ picture.data | base64 }}" alt="{{ picture.title }}">
<figcaption><b>{{ picture.title }}.</b> {{ picture.caption }}</figcaption></figure>
{% endfor %}
{% endfor %}
{% endblock %}
"""

TEMPLATES = {"base": _BASE, "project": _PROJECT, "series": _SERIES}
"""By name, for the template loader."""

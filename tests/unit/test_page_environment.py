"""Templates of pages: values are escaped, and there is one place that says so."""

from pathlib import Path

import pytest
from jinja2 import DictLoader, UndefinedError

import eucentric
from eucentric.report.environment import page_environment


def test_values_are_escaped_and_names_must_be_given():
    template = page_environment().from_string("<p>{{ name }}</p>")
    assert template.render(name="<script>&") == "<p>&lt;script&gt;&amp;</p>"
    with pytest.raises(UndefinedError):
        template.render()
    assert page_environment(DictLoader({"a": "{{ x }}"})).get_template("a").render(x='"') == "&#34;"


def test_pages_have_one_environment():
    sources = Path(eucentric.__file__).parent.rglob("*.py")
    makers = [path.name for path in sources if "Environment(" in path.read_text(encoding="utf-8")]
    assert makers == ["environment.py"]

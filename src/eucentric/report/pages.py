"""Pages as HTML that needs no other file."""

import base64
import hashlib
from functools import lru_cache

from jinja2 import DictLoader, Environment

from eucentric.report.content import ProjectPage, SeriesPage
from eucentric.report.environment import page_environment
from eucentric.report.page_script import SCRIPT
from eucentric.report.templates import TEMPLATES


def render_project(page: ProjectPage) -> str:
    """The page of the project."""
    return _environment().get_template("project").render(page=page, policy=_policy())


def render_series(page: SeriesPage) -> str:
    """The page of one tilt series."""
    return _environment().get_template("series").render(page=page, policy=_policy())


def _policy() -> str:
    """A browser loads nothing from elsewhere and runs the one script of the pages, whatever names in the data hold."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = page_environment(DictLoader(dict(TEMPLATES)))
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    return environment

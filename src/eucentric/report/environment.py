"""How templates of pages are filled: every value is escaped, and a name that is not given is an error."""

from jinja2 import BaseLoader, Environment, StrictUndefined


def page_environment(loader: BaseLoader | None = None) -> Environment:
    """For pages as HTML.

    Parameters
    ----------
    loader : of templates by name; None for templates that are given as text
    """
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)

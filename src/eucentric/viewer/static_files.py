"""Scripts and styles of the package, by name: a fixed list, so that no path is ever made from a request."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tornado.web import HTTPError

from eucentric.report.page_script import SCRIPT
from eucentric.report.page_style import STYLE
from eucentric.viewer.handlers import BaseHandler

MEDIA: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
}


@cache
def own_files() -> dict[str, bytes]:
    """What the pages load: the style of the report with ours after it, its script for tables and sliders, our modules."""
    found = static_files("eucentric.viewer", "static")
    return {**found, "style.css": STYLE.encode() + found["style.css"], "tables.js": SCRIPT.encode()}


@cache
def static_files(package: str, folder: str) -> dict[str, bytes]:
    """Files of a folder of an installed package, by name."""
    spec = find_spec(package)  # found without running it: the files are all that is needed of neuroglancer
    if spec is None or not spec.submodule_search_locations:
        return {}
    found = {}
    for entry in sorted(Path(spec.submodule_search_locations[0], folder).iterdir()):
        if entry.is_file() and entry.suffix in MEDIA:
            found[entry.name] = entry.read_bytes()
    return found


class StaticHandler(BaseHandler):
    """`/static/NAME`."""

    def content(self, name: str) -> bytes:
        """The file of that name; 404 where there is none."""
        found = own_files().get(name)
        if found is None:
            raise HTTPError(404)
        return found

    def get(self, name: str) -> None:
        content = self.content(name)
        self.set_header("Content-Type", MEDIA["." + name.rpartition(".")[2]])
        self.set_header("Cache-Control", "private, no-cache")
        self.finish(content)

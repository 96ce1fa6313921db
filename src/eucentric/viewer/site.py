"""What all requests share: the project, the rules, templates and threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from eucentric import __version__
from eucentric.viewer.security import Guard

_THREADS = 4


@dataclass(kw_only=True)
class Site:
    """A project that is being shown."""

    root: Path
    """The project's folder, resolved."""
    guard: Guard = field(default_factory=Guard)
    port: int = 0
    """Known once the server listens."""
    executor: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_THREADS, "viewer"))

    @property
    def cookie(self) -> str:
        """Its name: cookies know no ports, and several viewers may be open."""
        return f"eucentric_{self.port}"

    @cached_property
    def _templates(self) -> Environment:
        return Environment(
            loader=PackageLoader("eucentric.viewer"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def render(self, template: str, **values: Any) -> str:
        """A page; every value is escaped."""
        return self._templates.get_template(template).render(project=self.root.name, version=__version__, **values)

    def close(self) -> None:
        self.executor.shutdown(wait=True, cancel_futures=True)

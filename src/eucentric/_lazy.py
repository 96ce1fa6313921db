"""Lazy public names for package ``__init__`` files (PEP 562), so that importing a settings module never loads torch."""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def lazy_names(package: str, where: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package whose public names live in its submodules.

    A function may have the name of the file that defines it: the package's attribute is then the function.

    Parameters
    ----------
    package : the package's ``__name__``
    where : public name -> submodule that defines it
    """

    class Package(ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            # importing a submodule binds it in its package: a public function of that name goes first
            if not (name in where and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

    def getattr_(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{where[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    sys.modules[package].__class__ = Package
    return getattr_, lambda: sorted(where), sorted(where)

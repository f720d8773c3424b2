"""What makes workers light that only pretend to train: put in their path as `sitecustomize`, Python loads it first.

In place of large packages that Ray Tune loads, and such workers have no use for, it puts modules in which every name is
an empty class. A worker then has 70 MiB of its own instead of 115, and 200 fit into the memory of a small machine.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

UNUSED = ("pandas", "ray.data")


class EmptyPackage(ModuleType):
    """A package in which every name is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class EmptyPackages(MetaPathFinder, Loader):
    """Finds an empty package under the name of any module of the unused ones."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002
        """How Python asks for a module."""
        unused = any(f"{fullname}.".startswith(f"{package}.") for package in UNUSED)
        return ModuleSpec(fullname, self, is_package=True) if unused else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module."""
        return EmptyPackage(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leaves it empty."""


sys.meta_path.insert(0, EmptyPackages())

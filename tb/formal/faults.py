"""Breaks a module of the RTL before it is imported, to see that a property notices."""

import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys

__all__ = ["break_module"]


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles what ``broken`` makes of the source; looks at no bytecode."""

    def __init__(self, name, path, broken):
        super().__init__(name, path)
        self.broken = broken

    def get_code(self, fullname):
        source = self.get_data(self.path).decode()
        return compile(self.broken(source), self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name, broken):
        self.name, self.broken = name, broken

    def find_spec(self, fullname, path, target=None):
        if fullname != self.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        spec.loader = _Loader(fullname, spec.origin, self.broken)
        return spec


def break_module(module: str, old: str, new: str):
    """From its import on ``backbeat_rtl.<module>`` has ``new`` where ``old`` matches.

    Raises
    ------
    RuntimeError
        The module has been imported already.
    ValueError
        On import: ``old`` does not match exactly one place.
    """
    name = f"backbeat_rtl.{module}"
    if name in sys.modules:
        raise RuntimeError(f"{name} has been imported already")

    def broken(source: str) -> str:
        text, places = re.subn(old, lambda _: new, source)
        if places != 1:
            raise ValueError(f"a fault must change one place: {old!r} matches {places} of {name}")
        return text

    sys.meta_path.insert(0, _Finder(name, broken))

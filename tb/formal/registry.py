"""All properties by name."""

from importlib import import_module

__all__ = ["find", "properties"]

_MODULES = ("pe", "requantiser", "doors", "axi", "buffers", "nest", "streams", "store")


def properties() -> dict:
    """Every :class:`Property` by its name, in the order of the report."""
    found = [prop for name in _MODULES for prop in import_module(f".{name}", __package__).PROPERTIES]
    names = [prop.name for prop in found]
    if len(set(names)) != len(names):
        raise ValueError(f"two properties have the same name: {names}")
    return dict(zip(names, found, strict=True))


def find(name: str) -> list:
    """The properties of that name, or of that block if it is what stands before a dot.

    Raises
    ------
    ValueError
        There is none; lists all.
    """
    every = properties()
    if name in every:
        return [every[name]]
    block = [prop for prop in every.values() if prop.name.split(".")[0] == name]
    if not block:
        raise ValueError(f"no property is called {name!r}; there are {', '.join(every)}")
    return block

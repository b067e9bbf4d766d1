"""A command on its way to the engine, and what a door sees of it already."""

from amaranth.hdl import Cat, Mux
from amaranth.lib import data

from .config import WORD
from .isa import Op, Port

__all__ = ["Command", "Order", "order_of"]

#: One instruction.
Command = data.StructLayout({"function_id": 10, "input_0": 32, "input_1": 32})

#: What a door sees of a command already. ``at_once``: PUSH, READ or RESET, which are judged and
#: carried out in one cycle; ``legal``: to a port that there is; ``a``, ``b``, ``table``,
#: ``descriptor``: a PUSH to that port; ``result``: a READ of a result. ``minimum``: one of its bytes is
#: -128, whatever it is.
Kind = data.StructLayout({"at_once": 1, "reset": 1, "legal": 1, "a": 1, "b": 1, "table": 1,
                          "descriptor": 1, "result": 1, "minimum": 1})
Order = data.StructLayout({"command": Command, "kind": Kind})


def order_of(command, *, memory: bool):
    """A command with its kind, as a value; ``memory``: for a core that has a memory port."""
    op, port = command.function_id[:3], command.function_id[3:]
    push, read = op == Op.PUSH, op == Op.READ
    bytes_ = Cat(command.input_0, command.input_1)
    kind = {"at_once": push | read | (op == Op.RESET), "reset": op == Op.RESET,
            "legal": Mux(push, port <= (max(Port) if memory else Port.TABLE), port == 0),
            "a": push & (port == Port.A), "b": push & (port == Port.B),
            "table": push & (port == Port.TABLE),
            "descriptor": push & (port == Port.DESCRIPTOR) if memory else 0,
            "result": read & (port == 0),
            "minimum": Cat(bytes_.word_select(n, 8) == 0x80 for n in range(WORD)).any()}
    return Cat(command, *(kind[field] for field, _ in Kind))

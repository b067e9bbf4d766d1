"""What a golden waveform records: ports of components, under names that do not depend on their insides.

A port is found by its component's place in the hierarchy and by the member's name in its signature.
What Amaranth and Verilator call it inside the modules is looked up, so those names may change.
"""

from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from amaranth.back import rtlil
from amaranth.hdl import Fragment, Signal, Value
from amaranth.lib.wiring import Component
from pywellen import Waveform

from .wave_trace import Lane, Trace

__all__ = ["BLOCKS", "WaveError", "find_ports", "read_vcd"]

CLOCK = "clk"


class WaveError(Exception):
    """What is wrong with the recording itself, and what to do about it."""


def _stream(*names: str) -> str:
    return " ".join(f"{name}.valid {name}.ready {name}.payload?{name}.valid" for name in names)


class Block(NamedTuple):
    """A component and what is recorded of it.

    Attributes
    ----------
    instance : str
        Where it lies below the top.
    members : str
        Ports, in the order in which differences of one cycle are reported. ``x.y?z`` counts only while
        ``z`` is not zero, ``x.y?z+2`` two cycles behind that: what is left over on wires that nobody
        looks at is not shown.
    memory : bool or None
        Only of cores with (without) a memory port.
    """

    instance: str
    members: str
    memory: "bool | None" = None


_LOADER = """i_start i_word o_across o_active o_last?o_active o_write.lanes o_write.bytes?o_write.lanes
             o_write.word?o_write.lanes"""

#: From the door to the results, and from descriptors to the pins of the memory port. What lies between
#: operand words and sums is the same with and without a port, and recorded without one only.
BLOCKS = {
    "door": Block("", """
        reset cmd_valid cmd_ready cmd_payload_function_id?cmd_valid cmd_payload_inputs_0?cmd_valid
        rsp_valid rsp_ready rsp_payload_outputs_0?rsp_valid"""),
    "core": Block("core", "i.valid i.ready"),
    "engine": Block("core.engine", "i_execute o_ready"),
    "chain": Block("core.engine.memory.chain", f"""
        i_doorbell.valid i_start i_push.valid {_stream("o_fetch")} i_fetched.valid
        i_fetched.number?i_fetched.valid i_fetch_done i_fetch_error.valid i_loaded o_begin o_empty
        o_destination_valid o_active i_completed o_failed o_failure?o_failed""", True),
    "nest": Block("core.engine.memory.nest", f"""
        {_stream("o_load", "o_run", "o_store")} i_fed.valid i_table_free.valid o_idle o_done
        o_misfit""", True),
    "addresses": Block("core.engine.memory.addresses", f"""
        {_stream('i')} o_burst.valid o_burst.ready o_info.valid o_info.ready o_idle""", True),
    "gather": Block("core.engine.memory.addresses.gather", _stream("i", "o"), True),
    "load_data": Block("core.engine.memory.load_data", """
        i_order.valid i_order.ready i_info.valid i_info.ready i_word.valid i_word.ready o_start
        o_word_valid o_port?o_word_valid o_table_valid o_descriptor_valid o_done o_done_target?o_done
        o_minimum o_error.valid o_failed o_busy o_moved""", True),
    "runs": Block("core.engine.runs", "i_accept o_ready o_users_a o_users_b o_users_c", False),
    "datapath": Block("core.engine.datapath", f"""
        i_start i_panel?i_start i_word_valid i_port?i_word_valid i_word?i_word_valid o_loading
        {_stream("i_run")} o_busy o_feeding o_fed.valid o_fed.a_bank?o_fed.valid
        o_fed.b_bank?o_fed.valid"""),
    "load_a": Block("core.engine.datapath.load_a", _LOADER, False),
    "load_b": Block("core.engine.datapath.load_b", _LOADER, False),
    # One lane's of eight phases: the others are made beside it in the same way.
    "transposer": Block("core.engine.datapath.transposer", "o_data[0]", False),
    "sequencer": Block("core.engine.datapath.sequencer", """
        o_a.valid o_a.first?o_a.valid o_a.address?o_a.valid o_b.valid o_b.first?o_b.valid
        o_b.address?o_b.valid o_last o_tile?o_last""", False),
    "array": Block("core.engine.datapath.array", """
        i_first i_a i_b i_last o_valid o_sums[0]?o_valid o_sums[1]?o_valid+1 o_sums[2]?o_valid+2
        o_sums[3]?o_valid+3""", False),
    "accumulators": Block("core.engine.datapath.accumulators", """
        i_tile.valid i_tile.slot?i_tile.valid i_tile.accumulate?i_tile.valid i_tile.end?i_tile.valid
        i_tile.half?i_tile.valid o_read_ready o_tile_end o_end.valid o_end.half?o_end.valid"""),
    "stored": Block("core.engine.datapath.accumulators", """
        i_read o_stored[0] o_stored[1] o_stored[2] o_stored[3]""", False),
    "readout": Block("core.engine.readout", """
        i_start_valid i_start?i_start_valid i_settings?i_start_valid i_pitch?i_start_valid
        i_sums_complete i_table_valid i_table?i_table_valid i_clear o_ready o_row o_sent o_empty
        o_max_abs o.valid o.ready"""),
    "group": Block("core.engine.readout.group_0", f"i_start i_wave?i_start {_stream('o')}"),
    "epilogue": Block("core.engine.readout.group_0.epilogue", """
        i_valid i_value?i_valid i_table_valid i_requantise o_value?i_requantise"""),
    "joiner": Block("core.engine.readout.joiner", "o_wave o_empty i_room o_valid o?o_valid"),
    "store": Block("core.engine.memory.store", """
        i.valid i.ready i_destination.valid i_destination.ready o_last_run o_sums_complete o_clear
        o_start_valid i_beat.valid i_beat.ready o_burst.valid o_burst.ready o_word.valid o_word.ready
        i_written o_completed o_error o_active o_holding""", True),
    "memory": Block("core.engine.memory", """
        o_active o_completed o_tiles_complete o_run.valid o_run.ready o_failed o_failure?o_failed
        o_load_busy o_load_wait o_run_wait o_store_busy o_store_wait""", True),
    "port": Block("core.port", "inner.flush inner.quiet inner.was_read inner.was_written", True),
    # What memory sends comes from the scenario.
    "axi": Block("", """
        m_axi_arvalid m_axi_arready m_axi_araddr?m_axi_arvalid m_axi_arlen?m_axi_arvalid
        m_axi_rvalid m_axi_rready m_axi_rresp?m_axi_rvalid
        m_axi_awvalid m_axi_awready m_axi_awaddr?m_axi_awvalid m_axi_awlen?m_axi_awvalid
        m_axi_wvalid m_axi_wready m_axi_wdata?m_axi_wvalid m_axi_wstrb?m_axi_wvalid
        m_axi_wlast?m_axi_wvalid m_axi_bvalid m_axi_bready m_axi_bresp?m_axi_bvalid""", True),
}


class Place(NamedTuple):
    """Where a value stands in a waveform: the variable, and its bits from ``lsb`` on."""

    variable: str
    lsb: int
    width: int

    def cut(self, value: int) -> int:
        return value >> self.lsb & (1 << self.width) - 1


class Port(NamedTuple):
    """A recorded port; if one does, the one that says ``late`` cycles before that it counts."""

    name: str
    place: Place
    gate: "Place | None"
    late: int


def find_ports(component: Component, top: str, memory: bool) -> list[Port]:
    """What to read from the waveform of a component's Verilog under the name ``top``.

    Raises
    ------
    WaveError
        There is no such component or no such port.
    """
    fragment = Fragment.get(component, None)
    pins = [Value.cast(value) for _, _, value in component.signature.flatten(component)]
    _, names = rtlil.convert_fragment(fragment, pins, top)
    found = []
    for block, (instance, members, only) in BLOCKS.items():
        if only not in (None, memory):
            continue
        here = _component(fragment, top, block, instance)
        for member in members.split():
            member, _, gate = member.partition("?")
            gate, _, late = gate.partition("+")
            found.append(Port(f"{block}.{member}", _place(here, block, member, names),
                              _place(here, block, gate, names) if gate else None, int(late or 0)))
    return found


def _component(fragment: Fragment, top: str, block: str, instance: str) -> Component:
    for step, name in enumerate(instance.split(".") if instance else []):
        inside = {inner: sub for sub, inner, _ in fragment.subfragments if inner}
        if name not in inside:
            where = ".".join([top, *instance.split(".")[:step]])
            raise WaveError(f"block {block!r}: no {name} in {where}, only {', '.join(sorted(inside))}; "
                            "say in tb/wave_signals.py where it is now")
        fragment = inside[name]
    return next(origin for origin in fragment.origins if isinstance(origin, Component))


def _place(component: Component, block: str, member: str, names) -> Place:
    """``member`` is a path as in Python: ``o_tile.slot``, ``o_sums[0]``."""
    value = component
    for step in member.replace("[", ".[").split("."):
        try:
            value = value[int(step[1:-1])] if step.startswith("[") else getattr(value, step)
        except (AttributeError, LookupError) as error:
            known = ", ".join(component.signature.members)
            raise WaveError(f"block {block!r}: {type(component).__name__} has no {member}, only "
                            f"{known}; say in tb/wave_signals.py what it is called now") from error
    try:
        value, lsb = Value.cast(value), 0
        width = len(value)
        while hasattr(value, "start"):      # a slice: a field of a structure
            value, lsb = value.value, lsb + value.start
        found = isinstance(value, Signal) and value in names
    except TypeError:       # a stream, or no port at all
        found = False
    if not found:
        raise WaveError(f"block {block!r}: {member} of {type(component).__name__} is no value that is "
                        "used; take it out of tb/wave_signals.py")
    return Place(".".join(names[value]), lsb, width)


def read_vcd(path: Path, ports: list[Port], top: str) -> Trace:
    """Samples the ports at each rising edge of the clock, as a register would.

    Cycle 0 ends with the first edge after the one at time 0.

    Raises
    ------
    WaveError
        The file has no such variable.
    """
    variables = {variable.full_name: variable for variable in Waveform(str(path)).all_vars()}

    def changes(name: str):
        if name not in variables:
            raise WaveError(f"{path} has no {name}: Verilator has not traced it")
        return list(variables[name].signal)

    edges = [time for time, value in changes(f"{top}.{CLOCK}") if value][1:]
    sampled = {name: _sample(changes(name), edges) for name, _ in groupby(sorted(
        place.variable for port in ports for place in (port.place, port.gate) if place))}
    lanes = {}
    for name, place, gate, late in ports:
        values = [place.cut(value) for value in sampled[place.variable]]
        if gate:
            counts = [0] * late + [gate.cut(value) for value in sampled[gate.variable]]
            values = [value if count else None for value, count in zip(values, counts, strict=False)]
        lanes[name] = Lane(place.width, gate is not None, values)
    return Trace(len(edges), lanes)


def _sample(changes: list[tuple[int, int]], edges: list[int]) -> list[int]:
    """The value before each edge; what changes at an edge comes from a register behind it."""
    values, number = [], 0
    for edge in edges:
        while number + 1 < len(changes) and changes[number + 1][0] < edge:
            number += 1
        values.append(changes[number][1])
    return values

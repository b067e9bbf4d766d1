"""Fetches a chain of descriptors, checks each, and has them carried out one after the other."""

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import isa
from .isa import DescriptorOp, Error

__all__ = ["FIELDS", "Chain", "Failure"]

_BEATS = isa.FETCHED_WORDS // 2

#: All that the core reads of a descriptor.
FIELDS = data.FlexibleLayout(32 * isa.FETCHED_WORDS, {
    f.name: data.Field(f.width, 32 * number + f.lsb)
    for number, fields in isa.DESCRIPTOR.items() if number < isa.FETCHED_WORDS for f in fields})

Failure = data.StructLayout({"error": Error, "value": 32, "descriptor": 32})


class Chain(wiring.Component):
    """Takes up descriptors: the next one is fetched while one is carried out.

    A descriptor is taken up when the loop nest has handed out all of the one before and its loads
    are complete; its runs and stores may still be under way, unless it asks for a fence.

    Members
    -------
    i_doorbell : {valid, address}
        Begin a chain. Only while not ``o_active``.
    i_start : bit
        Carry out the descriptor pushed. Likewise.
    i_push : {valid, bytes}
        Two words of a descriptor.
    i_fetched : {valid, number, bytes}, i_fetch_done : bit, i_fetch_error : {valid, address}
        Two words of the descriptor asked for; all are here; the memory answered with an error.
    o_fetch : stream of 32 bit
        Address of a descriptor to be fetched.
    i_loaded : bit
        No load is under way.
    i_completed : bit
        A product is complete.
    i_nest_idle, i_nest_done, i_nest_misfit, o_begin, o_empty
        To and from the loop nest; ``o_empty``: the descriptor has no product, only a record.
    i_empty_taken : bit
    o_destination_valid : bit, i_destination_ready : bit
        The settings of the product for the store unit.
    o_fields : FIELDS, o_address : 32 bit, o_pushed : bit
        The descriptor being carried out, and where it came from.
    o_fetching : 32 bit
        Address of the descriptor fetched last.
    o_active : bit
        A chain is in progress.
    o_failure : Failure, o_failed : bit
        The descriptor being taken up is no good.
    """

    def __init__(self):
        super().__init__({
            "i_doorbell":          In(data.StructLayout({"valid": 1, "address": 32})),
            "i_start":             In(1),
            "i_push":              In(data.StructLayout({"valid": 1, "bytes": 64})),
            "i_fetched":           In(data.StructLayout({"valid": 1, "number": 5, "bytes": 64})),
            "i_fetch_done":        In(1),
            "i_fetch_error":       In(data.StructLayout({"valid": 1, "address": 32})),
            "o_fetch":             Out(stream.Signature(32)),
            "i_loaded":            In(1),
            "i_completed":         In(1),
            "i_nest_idle":         In(1),
            "i_nest_done":         In(1),
            "i_nest_misfit":       In(1),
            "o_begin":             Out(1),
            "o_empty":             Out(1),
            "i_empty_taken":       In(1),
            "o_destination_valid": Out(1),
            "i_destination_ready": In(1),
            "o_fields":            Out(FIELDS),
            "o_address":           Out(32),
            "o_pushed":            Out(1),
            "o_fetching":          Out(32),
            "o_active":            Out(1),
            "o_failure":           Out(Failure),
            "o_failed":            Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        m.submodules.next = memory = Memory(shape=64, depth=32, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        pushes, number = Signal(5), Signal(5)
        m.d.comb += [
            write.en.eq(self.i_push.valid | self.i_fetched.valid),
            write.addr.eq(Mux(self.i_push.valid, pushes, self.i_fetched.number)),
            write.data.eq(Mux(self.i_push.valid, self.i_push.bytes, self.i_fetched.bytes)),
            read.addr.eq(number),
        ]
        with m.If(self.i_push.valid & (pushes != _BEATS)):
            m.d.sync += pushes.eq(pushes + 1)

        words = [Signal(64, name=f"words_{n}") for n in range(_BEATS)]
        f = self.o_fields
        m.d.comb += f.as_value().eq(Cat(words))
        under_way = Signal(8)           # products taken up and not complete
        taken, fetched, fetch = Signal(), Signal(), Signal()
        m.d.sync += under_way.eq(under_way + taken - self.i_completed)
        bad, bad_address = Signal(), Signal(32)
        with m.If(self.i_fetch_done):
            m.d.sync += fetched.eq(1)
        with m.If(self.i_fetch_error.valid & ~bad):
            m.d.sync += [bad.eq(1), bad_address.eq(self.i_fetch_error.address)]
        m.d.comb += [self.o_fetch.payload.eq(self.o_fetching), self.o_fetch.valid.eq(fetch),
                     self.o_failure.descriptor.eq(Mux(self.o_pushed, 0, self.o_address))]

        # Which rules are broken; of the first its error and the word at fault, which is read from the
        # memory again.
        checks = self.checks(f)
        broken, first = Signal(len(checks)), Signal(len(checks))
        m.d.sync += broken.eq(Cat(wrong for wrong, *_ in checks))
        error, upper, part = Signal(Error), Signal(), Signal(2)
        value = read.data.word_select(upper, 32)
        gemm = f.op == DescriptorOp.GEMM
        last = f.last | self.o_pushed
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [number.eq(0), fetched.eq(0)]
                with m.If(self.i_doorbell.valid):
                    m.d.sync += [self.o_active.eq(1), self.o_fetching.eq(self.i_doorbell.address),
                                 self.o_pushed.eq(0)]
                    m.next = "FETCH"
                with m.If(self.i_start):
                    m.d.sync += [self.o_active.eq(1), self.o_pushed.eq(1), pushes.eq(0)]
                    m.next = "COPY"
            with m.State("FETCH"):
                # An unaligned descriptor cannot even be fetched.
                m.d.sync += self.o_address.eq(self.o_fetching)
                with m.If(self.o_fetching[:3] != 0):
                    m.d.comb += [self.o_failed.eq(1), self.o_failure.error.eq(Error.ALIGNMENT),
                                 self.o_failure.value.eq(self.o_fetching),
                                 self.o_failure.descriptor.eq(self.o_fetching)]
                    m.next = "STOPPED"
                with m.Else():
                    m.d.comb += fetch.eq(1)
                    with m.If(self.o_fetch.ready):
                        m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(fetched & bad & self.i_nest_idle & self.i_loaded):
                    m.d.comb += [self.o_failed.eq(1), self.o_failure.error.eq(Error.BUS_READ),
                                 self.o_failure.value.eq(bad_address),
                                 self.o_failure.descriptor.eq(self.o_fetching)]
                    m.next = "STOPPED"
                with m.Elif(fetched & self.i_nest_idle & self.i_loaded):
                    m.d.sync += [fetched.eq(0), self.o_address.eq(self.o_fetching), number.eq(0)]
                    m.next = "COPY"
            with m.State("COPY"):
                m.d.sync += [Array(words)[number].eq(read.data), number.eq(number + 1)]
                with m.If(number == _BEATS - 1):
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "ANNOUNCE"
                # The lowest bit alone: a carry, and no choice behind another.
                m.d.sync += first.eq(broken & -broken)
                with m.If(broken.any()):
                    m.next = "LOOK UP"
            with m.State("LOOK UP"):
                said, bits = Cat(part, upper, number, error), 2 + 1 + len(number)
                m.d.sync += said.eq(reduce(or_, (
                    Mux(first[n], shown | word << 2 | code.value << bits, 0)
                    for n, (_, code, word, shown) in enumerate(checks))))
                m.next = "BROKEN"
            with m.State("BROKEN"):
                m.d.comb += [self.o_failed.eq(1), self.o_failure.error.eq(error),
                             self.o_failure.value.eq(Cat(value[:16] & part[0].replicate(16),
                                                         value[16:] & part[1].replicate(16)))]
                m.next = "STOPPED"
            with m.State("ANNOUNCE"):
                with m.If((under_way == 0) | (~f.fence & ~under_way[-1])):
                    m.d.comb += self.o_destination_valid.eq(1)
                    with m.If(self.i_destination_ready):
                        m.d.comb += taken.eq(1)
                        m.d.sync += self.o_fetching.eq(f.next)
                        m.next = "AHEAD"
            with m.State("AHEAD"):
                # The next descriptor, before this one's loads; if it cannot be fetched its turn is
                # still to come.
                m.d.comb += fetch.eq(~last & (self.o_fetching[:3] == 0))
                with m.If(~fetch | self.o_fetch.ready):
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                with m.If(gemm):
                    m.d.comb += self.o_begin.eq(1)
                    m.next = "CARRY OUT"
                with m.Else():
                    m.d.comb += self.o_empty.eq(1)
                    with m.If(self.i_empty_taken):
                        m.next = "NEXT"
            with m.State("CARRY OUT"):
                with m.If(self.i_nest_misfit):
                    m.d.comb += [self.o_failed.eq(1), self.o_failure.error.eq(Error.PLAN),
                                 self.o_failure.value.eq(words[6][32:])]
                    m.next = "STOPPED"
                with m.Elif(self.i_nest_done):
                    m.next = "NEXT"
            with m.State("NEXT"):
                with m.If(last):
                    with m.If(under_way == 0):
                        m.d.sync += self.o_active.eq(0)
                        m.next = "IDLE"
                with m.Elif(self.o_fetching[:3] != 0):
                    m.next = "FETCH"
                with m.Else():
                    m.next = "WAIT"
            with m.State("STOPPED"):
                pass
        return m

    @staticmethod
    def checks(f):
        """What is wrong, the code, the word at fault, and which halves of it count; the first counts."""
        def size(value, most):
            return (value == 0) | (value > most)

        def at(name):
            return next(number for number, fields in isa.DESCRIPTOR.items()
                        if name in (field.name for field in fields))

        whole, low, nothing = 0b11, 0b01, 0b00

        gathered = f.gather_a | f.gather_b
        rows = {"a": Mux(f.a_across, f.m, f.k), "b": Mux(f.b_across, f.n, f.k),
                "c": Mux(f.requantise, f.n, f.n << 2)}
        out = [((f.op > max(DescriptorOp)) | ((f.op == DescriptorOp.GEMM) & (
            f.sums & ~f.columns_outer | f.gather_a & f.gather_b)), Error.UNKNOWN, 0, whole)]
        for name, wanted in (
                ("a", 1), ("b", 1), ("c", 1), ("table", f.requantise), ("sums_address", f.sums),
                ("a_pitch", ~f.gather_a), ("b_pitch", ~f.gather_b), ("c_pitch", 1),
                ("row_pitch", gathered), ("image_pitch", gathered),
                ("b_wrap", ~f.gather_b & (f.b_group != 0))):
            out.append(((f[name][:3] != 0) & wanted, Error.ALIGNMENT, at(name), whole))
        out += [(size(f[name], most), Error.DIMENSION, at(name), whole) for name, most in (
            ("m", isa.MAX_DIMENSION), ("n", isa.MAX_DIMENSION), ("k", isa.MAX_K))]
        out.append((gathered & ((f.pixel == 0) | (f.pixel[:3] != 0)), Error.DIMENSION, at("pixel"), low))
        out += [(gathered & (f[name] == 0), Error.DIMENSION, at(name), nothing)
                for name in ("taps_x", "grid_y", "grid_x", "insert_y", "insert_x")]
        out += [((rows[x] > f[f"{x}_pitch"]) & wanted, Error.PITCH, at(f"{x}_pitch"), whole)
                for x, wanted in (("a", ~f.gather_a), ("b", ~f.gather_b), ("c", 1))]
        out += [
            ((f.chunk == 0) | ((f.chunk[:3] != 0) & (f.chunk < f.k)), Error.PLAN,
             at("chunk"), whole),
            ((f.a_panel == 0) | f.a_across & (f.a_panel[:3] != 0) & (f.a_panel < f.m),
             Error.PLAN, at("a_panel"), whole),
            ((f.b_panel == 0) | (f.b_panel[:3] != 0) & (f.b_panel < f.n), Error.PLAN, at("b_panel"),
             whole),
        ]
        # Without a product only the op itself can be wrong.
        product = f.op == DescriptorOp.GEMM
        return out[:1] + [(wrong & product, *rest) for wrong, *rest in out[1:]]

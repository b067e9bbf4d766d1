"""Fetches a chain of descriptors, checks each, and has them carried out one after the other."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import isa
from .isa import DescriptorOp, Error
from .pipeline import exceeds

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
        The descriptor being taken up is no good; two cycles late. ``descriptor`` is at all times where
        the one being carried out came from, 0 if it was pushed.
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
        # Commands are looked at a cycle late, as they come late; only that a chain is active is known at
        # once.
        push, pushes, number = Signal.like(self.i_push), Signal(5), Signal(5)
        rung, started, place = Signal(), Signal(), Signal(32, reset_less=True)
        m.d.sync += [push.eq(self.i_push), rung.eq(self.i_doorbell.valid), started.eq(self.i_start),
                     place.eq(self.i_doorbell.address)]
        with m.If(self.i_doorbell.valid | self.i_start):
            m.d.sync += self.o_active.eq(1)
        m.d.comb += [
            write.en.eq(push.valid | self.i_fetched.valid),     # never both
            write.addr.eq(Mux(push.valid, pushes, self.i_fetched.number)),
            write.data.eq(Mux(push.valid, push.bytes, self.i_fetched.bytes)),
            read.addr.eq(number),
        ]
        with m.If(push.valid & (pushes != _BEATS)):
            m.d.sync += pushes.eq(pushes + 1)

        words = [Signal(64, name=f"words_{n}") for n in range(_BEATS)]
        f = self.o_fields
        m.d.comb += f.as_value().eq(Cat(words))
        # The words' turns to be copied, one after the other.
        turn = Signal(_BEATS)
        m.d.sync += turn.eq(turn << 1)
        for n, word in enumerate(words):
            with m.If(turn[n]):
                m.d.sync += word.eq(read.data)

        under_way, taken = Signal(8), Signal()      # products taken up and not complete; one more
        with m.If(taken != self.i_completed):
            m.d.sync += under_way.eq(under_way + Mux(taken, 1, -1))
        # What a state asks for is found before it: it has not changed since the descriptor was copied,
        # or what has come stays so. Products are taken up less often than these are late.
        product, last, ahead, none, may_take = Signal(), Signal(), Signal(), Signal(), Signal()
        fetched, copy, bad, bad_address = Signal(), Signal(), Signal(), Signal(32)
        m.d.sync += [
            product.eq(f.op == DescriptorOp.GEMM), last.eq(f.last | self.o_pushed),
            ahead.eq(~(f.last | self.o_pushed) & (f.next[:3] == 0)),
            taken.eq(0), none.eq((under_way == 0) & ~taken),
            may_take.eq(none | (~f.fence & ~under_way[-1])),
            copy.eq(fetched & self.i_nest_idle & self.i_loaded),
        ]
        with m.If(self.i_fetch_done):
            m.d.sync += fetched.eq(1)
        with m.If(self.i_fetch_error.valid & ~bad):
            m.d.sync += [bad.eq(1), bad_address.eq(self.i_fetch_error.address)]
        m.d.comb += self.o_fetch.payload.eq(self.o_fetching)
        with m.If(self.o_fetch.ready):
            m.d.sync += self.o_fetch.valid.eq(0)

        # Which rules are broken; of the first its error and the word at fault, which is read from the
        # memory again. The lowest bit alone: a carry, and no choice behind another.
        checks = self.checks(f, product)
        broken, first, wrong = Signal(len(checks)), Signal(len(checks)), Signal()
        error, upper, part = Signal(Error), Signal(), Signal(2)
        said, bits, at_fault = Cat(part, upper, error), 2 + 1, Signal.like(number)

        def of_first(values):
            return reduce(or_, (Mux(first[n], value, 0) for n, value in enumerate(values)))

        m.d.comb += at_fault.eq(of_first(word >> 1 for _, _, word, _ in checks))
        m.d.sync += [
            broken.eq(Cat(rule for rule, *_ in checks)), first.eq(broken & -broken),
            wrong.eq(broken.any()), said.eq(of_first(
                shown | (word & 1) << 2 | code.value << bits for _, code, word, shown in checks)),
        ]
        value = read.data.word_select(upper, 32)
        refusals = {
            "unaligned": (Error.ALIGNMENT, self.o_fetching), "unread": (Error.BUS_READ, bad_address),
            "unlawful": (error, Cat(value[:16] & part[0].replicate(16),
                                    value[16:] & part[1].replicate(16))),
            "misfit": (Error.PLAN, words[6][32:]),
        }
        refused = {name: Signal(name=name) for name in refusals}
        failure = Signal(data.StructLayout({"error": Error, "value": 32}), reset_less=True)
        m.d.sync += [
            *(flag.eq(0) for flag in refused.values()), self.o_failed.eq(Cat(refused.values()).any()),
            *(failure[field].eq(reduce(or_, (
                Mux(refused[name], refusal[n], 0) for name, refusal in refusals.items())))
              for n, field in enumerate(("error", "value"))),
        ]
        m.d.comb += [self.o_failure.error.eq(failure.error), self.o_failure.value.eq(failure.value),
                     self.o_failure.descriptor.eq(Mux(self.o_pushed, 0, self.o_address))]

        with m.FSM():
            with m.State("IDLE"):
                with m.If(rung):
                    m.d.sync += [self.o_fetching.eq(place), self.o_pushed.eq(0)]
                    m.next = "FETCH"
                with m.If(started):
                    m.d.sync += [self.o_pushed.eq(1), pushes.eq(0), turn[0].eq(1)]
                    m.next = "COPY"
            with m.State("FETCH"):
                # An unaligned descriptor cannot even be fetched.
                m.d.sync += self.o_address.eq(self.o_fetching)
                with m.If(self.o_fetching[:3] != 0):
                    m.d.sync += refused["unaligned"].eq(1)
                    m.next = "STOPPED"
                with m.Elif(~self.o_fetch.valid):
                    m.d.sync += self.o_fetch.valid.eq(1)
                with m.Elif(self.o_fetch.ready):
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(copy):
                    m.d.sync += [fetched.eq(0), self.o_address.eq(self.o_fetching)]
                    with m.If(bad):
                        m.d.sync += refused["unread"].eq(1)
                        m.next = "STOPPED"
                    with m.Else():
                        m.d.sync += turn[0].eq(1)
                        m.next = "COPY"
            with m.State("COPY"):
                m.d.sync += number.eq(number + 1)
                with m.If(turn[-1]):
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "ANNOUNCE"
            with m.State("ANNOUNCE"):
                m.d.sync += number.eq(at_fault)     # 0 if there is none
                with m.If(wrong):
                    m.d.sync += refused["unlawful"].eq(1)
                    m.next = "STOPPED"
                with m.Elif(may_take):
                    m.d.sync += self.o_destination_valid.eq(1)
                    m.next = "TAKE UP"
            with m.State("TAKE UP"):
                with m.If(self.i_destination_ready):
                    # The next descriptor, before this one's loads; if it cannot be fetched its turn is
                    # still to come.
                    m.d.sync += [self.o_destination_valid.eq(0), taken.eq(1),
                                 self.o_fetching.eq(f.next), self.o_fetch.valid.eq(ahead)]
                    m.next = "AHEAD"
            with m.State("AHEAD"):
                with m.If(~self.o_fetch.valid | self.o_fetch.ready):
                    m.d.sync += [self.o_begin.eq(product), self.o_empty.eq(~product)]
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.sync += self.o_begin.eq(0)
                with m.If(product):
                    m.next = "CARRY OUT"
                with m.Elif(self.i_empty_taken):
                    m.d.sync += self.o_empty.eq(0)
                    m.next = "NEXT"
            with m.State("CARRY OUT"):
                with m.If(self.i_nest_misfit):
                    m.d.sync += refused["misfit"].eq(1)
                    m.next = "STOPPED"
                with m.Elif(self.i_nest_done):
                    m.next = "NEXT"
            with m.State("NEXT"):
                with m.If(ahead):
                    m.next = "WAIT"
                with m.Elif(~last):
                    m.next = "FETCH"
                with m.Elif(none):
                    m.d.sync += self.o_active.eq(0)
                    m.next = "IDLE"
            with m.State("STOPPED"):
                pass
        return m

    @staticmethod
    def checks(f, product):
        """What is wrong, the code, the word at fault, and which halves of it count; the first counts.

        ``product``: whether there is one, which has been known for longer than all of the fields.
        """
        def size(value, most):
            return (value == 0) | exceeds(value, most)

        def at(name):
            return next(number for number, fields in isa.DESCRIPTOR.items()
                        if name in (field.name for field in fields))

        whole, low, nothing = 0b11, 0b01, 0b00

        gathered = f.gather_a | f.gather_b
        rows = {"a": Mux(f.a_across, f.m, f.k), "b": Mux(f.b_across, f.n, f.k),
                # Where it is cut off, N breaks a rule that counts before.
                "c": Mux(f.requantise, f.n, (f.n << 2)[:32])}
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
        out += [(exceeds(rows[x], f[f"{x}_pitch"]) & wanted, Error.PITCH, at(f"{x}_pitch"), whole)
                for x, wanted in (("a", ~f.gather_a), ("b", ~f.gather_b), ("c", 1))]
        out += [
            ((f.chunk == 0) | ((f.chunk[:3] != 0) & exceeds(f.k, f.chunk)), Error.PLAN,
             at("chunk"), whole),
            ((f.a_panel == 0) | f.a_across & (f.a_panel[:3] != 0) & exceeds(f.m, f.a_panel),
             Error.PLAN, at("a_panel"), whole),
            ((f.b_panel == 0) | (f.b_panel[:3] != 0) & exceeds(f.n, f.b_panel), Error.PLAN,
             at("b_panel"), whole),
        ]
        # Without a product only the op itself can be wrong.
        return out[:1] + [(wrong & product, *rest) for wrong, *rest in out[1:]]

"""What the core does with commands it cannot carry out: it says so, stays so, and RESET ends it."""

import numpy as np

from backbeat.program import Job, compile_job
from backbeat_rtl.isa import Error, Op, Port, Read, Write

from .cfu_bus import CORES, Door
from .commands import command, commands_of, get, load, load_matrix, read, readout, run

CONFIG = "6x5"
CORE = CORES[CONFIG].component.core.engine.config
A = np.arange(-30, 30, dtype=np.int8).reshape(10, 6)
B = np.arange(-20, 22, dtype=np.int8).reshape(7, 6)
ONES = np.ones((2 * CORE.rows + 1, 1), dtype=np.int8)
LOADED = [*load_matrix(Port.A, A, CORE.rows), *load_matrix(Port.B, B, CORE.columns)]
DONE = [*LOADED, run()]


def bad_load(port=Port.A, **changes):
    size = {"depth": 6, "tiles": 2, "last": 3} | changes
    bad = load(port, **size)
    return [], bad, Error.SIZE, bad[1]


#: Name: what comes before, the command, its error and the value reported.
ERRORS = {
    "get of no register":        ([], get(9), Error.ILLEGAL, get(9)[0]),
    "get of the last funct7":    ([], get(127), Error.ILLEGAL, get(127)[0]),
    "set of no register":        ([], command(Op.SET, 6, 1), Error.ILLEGAL, command(Op.SET, 6)[0]),
    "load of the table":         ([], command(Op.LOAD, Port.TABLE), Error.ILLEGAL,
                                  command(Op.LOAD, Port.TABLE)[0]),
    "push to no port":           (LOADED, command(Op.PUSH, 3), Error.ILLEGAL, command(Op.PUSH, 3)[0]),
    "run with funct7":           (LOADED, command(Op.RUN, 1), Error.ILLEGAL, command(Op.RUN, 1)[0]),
    "readout with funct7":       (DONE, command(Op.READOUT, 64), Error.ILLEGAL,
                                  command(Op.READOUT, 64)[0]),
    "read with funct7":          ([*DONE, readout()], command(Op.READ, 2), Error.ILLEGAL,
                                  command(Op.READ, 2)[0]),
    "shift beyond 62":           ([], command(Op.SET, Write.SHIFT, 63), Error.SIZE, 63),
    "shift of 2^32 - 1":         ([], command(Op.SET, Write.SHIFT, 2**32 - 1), Error.SIZE, 2**32 - 1),
    "tile beyond the table":     ([], command(Op.SET, Write.TABLE, CORE.tiles), Error.SIZE, CORE.tiles),
    "lane beyond the table":     ([], command(Op.SET, Write.TABLE, CORE.columns << 8), Error.SIZE,
                                  CORE.columns << 8),
    "more than the table's place": ([], command(Op.SET, Write.TABLE, 1 << 16), Error.SIZE, 1 << 16),
    "no depth":                  bad_load(depth=0),
    "no tiles":                  bad_load(tiles=0),
    "no last":                   bad_load(last=0),
    "tiles beyond the buffer":   bad_load(tiles=CORE.tiles + 1),
    "tiles of 255":              bad_load(tiles=255),
    "last beyond the rows":      bad_load(last=CORE.rows + 1),
    "last beyond the columns":   bad_load(Port.B, last=CORE.columns + 1),
    "last of 255":               bad_load(Port.B, last=255),
    "depth beyond the lanes":    bad_load(depth=CORE.depth + 1, tiles=1),
    "depth of 65,535":           bad_load(depth=65535, tiles=1),
    "depth times tiles":         bad_load(depth=CORE.depth // 2 + 1, tiles=2),
    "depth times three tiles":   bad_load(depth=CORE.depth // 4 + 1, tiles=3),
    "run without panels":        ([], run(), Error.NOT_LOADED, run()[1]),
    "run without B":             (load_matrix(Port.A, A, CORE.rows), run(), Error.NOT_LOADED, 0),
    "run of A's other half":     (LOADED, run(a_half=1), Error.NOT_LOADED, run(a_half=1)[1]),
    "run of B's other half":     (LOADED, run(b_half=1), Error.NOT_LOADED, run(b_half=1)[1]),
    "run of a panel too short":  (LOADED[:-1], run(), Error.NOT_LOADED, 0),
    "run of a panel given up":   ([*DONE, load(Port.A, depth=6, tiles=1, last=1), *load_matrix(
                                      Port.A, A, CORE.rows, half=1)], run(), Error.NOT_LOADED, 0),
    "run of another half given up": ([load(Port.A, depth=6, tiles=1, last=1, half=1), *LOADED],
                                     run(a_half=1), Error.NOT_LOADED, run(a_half=1)[1]),
    "panels of unequal depth":   ([*LOADED, *load_matrix(Port.B, B[:, :5].copy(), CORE.columns)], run(),
                                  Error.DEPTH, 0),
    "accumulate onto nothing":   (LOADED, run(accumulate=True), Error.DEPTH, 8),
    "accumulate onto other rows": ([*DONE, *load_matrix(Port.A, A[:9], CORE.rows, half=1)],
                                   run(a_half=1, accumulate=True), Error.DEPTH, 9),
    "accumulate onto other tiles": ([*DONE, *load_matrix(Port.A, A[:4], CORE.rows, half=1)],
                                    run(a_half=1, accumulate=True), Error.DEPTH, 9),
    "accumulate onto other columns": ([*DONE, *load_matrix(Port.B, B[:6], CORE.columns, half=1)],
                                      run(b_half=1, accumulate=True), Error.DEPTH, 10),
    "more tiles than accumulators": ([*load_matrix(Port.A, ONES[:2 * CORE.rows + 1], CORE.rows),
                                      *load_matrix(Port.B, ONES[:CORE.columns + 1], CORE.columns)],
                                     run(), Error.SIZE, 0),
    "push without a load":       ([], command(Op.PUSH, Port.B), Error.NO_LOAD,
                                  command(Op.PUSH, Port.B)[0]),
    "push beyond the panel":     (LOADED, command(Op.PUSH, Port.A), Error.NO_LOAD,
                                  command(Op.PUSH, Port.A)[0]),
    "push to the other port":    (LOADED[:2], command(Op.PUSH, Port.B), Error.NO_LOAD,
                                  command(Op.PUSH, Port.B)[0]),
    "-128 on port A":            (LOADED[:4], command(Op.PUSH, Port.A, 0x80), Error.OPERAND, 3),
    "-128 in the last byte":     (LOADED[:2], command(Op.PUSH, Port.A, 0, 0x80 << 24), Error.OPERAND, 1),
    "-128 in a later panel":     ([*LOADED, *LOADED[:3]], command(Op.PUSH, Port.A, 0x80),
                                  Error.OPERAND, 2),
    "readout of nothing":        (LOADED, readout(), Error.NO_RESULT, 0),
    "readout of the other half": (DONE, readout(half=1), Error.NO_RESULT, 1),
    "read without readout":      (DONE, command(Op.READ), Error.NO_RESULT, command(Op.READ)[0]),
    "read beyond the last word": ([*DONE, readout(), *read(A.shape[0] * B.shape[0])], command(Op.READ),
                                  Error.NO_RESULT, command(Op.READ)[0]),
    "run onto what is read":     ([*DONE, readout(), *read(3)], run(), Error.BUSY, 0),
    "readout while reading":     ([*DONE, run(c_half=1), readout(), *read(3)], readout(half=1),
                                  Error.BUSY, 1),
}


def test_every_error_is_reported_and_ends_with_reset():
    assert {error for _, _, error, _ in ERRORS.values()} == {
        error for error in Error if Error.NONE < error <= Error.BUSY}
    CORES[CONFIG].run(every_error_is_reported_and_ends_with_reset)


async def every_error_is_reported_and_ends_with_reset(dut, rng):
    door = Door(dut, CONFIG, rng)
    product = commands_of(compile_job(Job(A, B, "nt"), CORE))
    report = [get(Read.ERROR), get(Read.ERROR_VALUE)]
    for name, (before, bad, error, value) in ERRORS.items():
        await door.send([command(Op.RESET), *before], f"before {name}")
        assert not door.model.error, name
        assert await door.send([bad, *report], name) == [error, error, value], name
        # Nothing works any more, and another error does not replace the first.
        ignored = [*DONE, readout(), *read(2), command(Op.SET, Write.SHIFT, 99), command(Op.PUSH, 5)]
        assert await door.send(ignored, f"after {name}") == [error] * len(ignored), name
        assert await door.send(report, f"after {name}") == [error, value], name
        assert await door.send([command(Op.RESET), *report], name) == [0, 0, 0], name
        await door.send(product, f"product after {name}")
    await door.drain()


def test_words_before_a_bad_one_are_counted():
    CORES["4x4"].run(words_before_a_bad_one_are_counted)


async def words_before_a_bad_one_are_counted(dut, rng):
    door = Door(dut, "4x4", rng)
    for count in (0, 1, 2, 3, 5, 8, 21):
        await door.send([command(Op.RESET), load(Port.A, depth=88, tiles=1, last=4),
                         *[command(Op.PUSH, Port.A, 7, 7)] * count], f"{count} words")
        assert await door.send([command(Op.PUSH, Port.A, 0x80), get(Read.ERROR_VALUE)],
                               f"the bad word after {count}") == [Error.OPERAND, count]
    await door.drain()

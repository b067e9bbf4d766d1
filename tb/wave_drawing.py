"""The cycles around a difference as a picture: expected above, got below."""

import json
import os
from pathlib import Path

import wavedrom

from .wave_trace import Difference, Trace

__all__ = ["draw"]

#: Cycles drawn before and from the first one that differs.
BEFORE, FROM = 6, 14
#: Most ports drawn that differ, and digits of a value, its last ones.
MOST, DIGITS = 12, 8


def draw(scenario: str, expected: Trace, got: Trace, difference: Difference, folder: Path) -> Path:
    """Writes ``folder/scenario.svg``: the ports that differ, and the handshakes of the door and of the
    block that differs first.

    Returns
    -------
    Path
        The picture.
    """
    differing = [difference.name, *(name for _, name in difference.others)][:MOST]
    block = difference.name.partition(".")[0]
    handshakes = [name for name in got.lanes
                  if name.partition(".")[0] in ("door", block) and name.endswith(("valid", "ready"))]
    names = list(dict.fromkeys([*handshakes, *differing]))
    start = max(0, difference.cycle - BEFORE)
    cycles = difference.cycle + FROM - start
    picture = {
        "head": {"text": f"{scenario}, cycle {difference.cycle}: {difference.name} is {difference.got}, "
                         f"expected {difference.expected}", "tick": start},
        "signal": [{"name": "clk", "wave": "p" + "." * (cycles - 1)},
                   *([what, *(_lane(trace, name, start, cycles) for name in names)]
                     for what, trace in (("expected", expected), ("got", got)))],
        "config": {"hscale": 2},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{scenario}.svg"
    part = path.with_suffix(".part")
    image = wavedrom.render(json.dumps(picture))
    image["style"] = "background: white"        # its lines are black
    part.write_text(image.tostring(), encoding="utf-8")
    os.replace(part, path)
    return path


def _lane(trace: Trace, name: str, start: int, cycles: int) -> dict:
    """WaveDrom's line of a port: ``x`` where it does not count, or is not recorded."""
    lane = trace.lanes.get(name)
    values = (lane.values if lane else [])[start:start + cycles]
    wave, data, before = "", [], ()
    for value in [*values, *[None] * (cycles - len(values))]:
        if value == before:
            wave += "."
        elif value is None:
            wave += "x"
        elif lane.bits == 1:
            wave += str(value)
        else:
            digits = f"{value:x}"
            wave += "="
            data.append(digits if len(digits) <= DIGITS else f"…{digits[-DIGITS:]}")
        before = value
    return {"name": name, "wave": wave, "data": data}

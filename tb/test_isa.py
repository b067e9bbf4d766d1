"""The instruction set: generated files are current, fields do not overlap, encoders check."""

import shutil
import subprocess

import pytest

from backbeat_rtl import isa
from backbeat_rtl.isa_export import TARGETS, c_header


@pytest.mark.parametrize("path", TARGETS, ids=lambda p: p.name)
def test_generated_file_is_current(path):
    assert path.read_text() == TARGETS[path](), "run `make isa`"


@pytest.mark.parametrize("word", isa.FIELDS)
def test_fields_do_not_overlap(word):
    taken = 0
    for f in isa.FIELDS[word]:
        bits = ((1 << f.width) - 1) << f.lsb
        assert bits < 1 << 32 and not taken & bits, f.name
        taken |= bits


def test_descriptor_fields_do_not_overlap():
    names = set()
    for number, fields in isa.DESCRIPTOR.items():
        assert number < isa.FETCHED_WORDS or number >= isa.RECORD_WORD
        taken = 0
        for f in fields:
            bits = ((1 << f.width) - 1) << f.lsb
            assert bits < 1 << 32 and not taken & bits and f.name not in names, f.name
            taken, names = taken | bits, names | {f.name}


def test_decode_inverts_encode_of_descriptors():
    names = [f for fields in isa.DESCRIPTOR.values() for f in fields]
    values = {f.name: 0x12345678 * (n + 1) & (1 << f.width) - 1 for n, f in enumerate(names)}
    assert isa.decode_descriptor(isa.encode_descriptor(**values)) == values
    assert isa.decode_descriptor(isa.encode_descriptor(origin_y=-2))["origin_y"] == 0xFFFE
    with pytest.raises(ValueError, match="chunk must fit 16 bits, got 65536"):
        isa.encode_descriptor(chunk=65536)
    with pytest.raises(ValueError, match="no field rows"):
        isa.encode_descriptor(rows=1)


@pytest.mark.parametrize("word", isa.FIELDS)
def test_decode_inverts_encode(word):
    for extreme in (0, 1):
        values = {f.name: extreme * ((1 << f.width) - 1) for f in isa.FIELDS[word]}
        assert isa.decode(word, isa.encode(word, **values)) == values
        assert {name: field.offset for name, field in isa.layout(word)} == {
            f.name: f.lsb for f in isa.FIELDS[word]}


def test_every_code_is_documented():
    for codes, table in ((isa.Op, isa.OPERATIONS), (isa.Read, isa.READABLE), (isa.Write, isa.WRITABLE),
                         (isa.Port, isa.PORTS), (isa.Error, isa.ERRORS),
                         (isa.DescriptorOp, isa.DESCRIPTOR_OPS)):
        assert set(table) == set(codes)


@pytest.mark.parametrize(("match", "values"), [
    ("depth must fit 16 bits, got 65536", {"depth": 65536, "tiles": 1, "last": 1}),
    ("no value for last", {"depth": 1, "tiles": 1}),
    ("has no field rows", {"depth": 1, "tiles": 1, "last": 1, "rows": 1}),
])
def test_encode_names_the_field(match, values):
    with pytest.raises(ValueError, match=match):
        isa.encode("LOAD.0", **values)


def test_c_header_says_the_same(tmp_path):
    """Compiled, its macros encode and decode like isa.py."""
    if not shutil.which("gcc"):
        pytest.skip("no C compiler")
    checks = []
    for word, fields in isa.FIELDS.items():
        for number, f in enumerate(fields):
            value = (0xA5A5A5A5 >> number) & (1 << f.width) - 1
            macro = f"BB_{word.replace('.', '_')}_{f.name.upper()}"
            checks += [f"{macro}({value}u) == {value << f.lsb}u",
                       f"{macro}_OF({value << f.lsb}u) == {value}u"]
    for word, fields in isa.DESCRIPTOR.items():
        for f in fields:
            value, macro = 0xA5A5A5A5 & (1 << f.width) - 1, f"BB_DESCRIPTOR_{f.name.upper()}"
            checks += [f"{macro}_WORD == {word}", f"{macro}({value}u) == {value << f.lsb}u",
                       f"{macro}_OF({value << f.lsb}u) == {value}u"]
    for prefix, codes in (("OP", isa.Op), ("GET", isa.Read), ("SET", isa.Write),
                          ("PORT", isa.Port), ("ERROR", isa.Error)):
        checks += [f"BB_{prefix}_{code.name} == {int(code)}" for code in codes]
    (tmp_path / "isa.h").write_text(c_header())
    (tmp_path / "check.c").write_text(
        '#include "isa.h"\n' + "".join(f"_Static_assert({c}, {f'{c}'!r});\n".replace("'", '"')
                                       for c in checks))
    result = subprocess.run(["gcc", "-std=c11", "-Wall", "-Werror", "-fsyntax-only",
                             tmp_path / "check.c"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

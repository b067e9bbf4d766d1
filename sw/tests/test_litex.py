"""Backend litex: a simulated SoC that runs the server firmware, reached directly and through LiteX."""

import re
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import mailbox_links
import numpy as np
import pytest
import torch
from mailbox_links import SocLink

import backbeat
from backbeat.accelerator import Accelerator
from backbeat.backends import link, mailbox
from backbeat.backends.litex import LitexBackend
from backbeat.backends.mailbox import Header, Mailbox, Order, Request, Response, Status, checksum
from backbeat.memory import BASE, Memory
from backbeat.products import Conv2d, Conv2dInputGradient, Conv2dWeightGradient, Gemm
from backbeat.program import Batch
from backbeat.soc import Soc, build_firmware
from backbeat.torch import offload
from backbeat_rtl import isa
from backbeat_rtl.isa import Error, Op, Read, Write, function_id

CONFIG = "8x8"
MEMORY = Memory(size=1 << 22)
RNG = np.random.default_rng(9)
A, B = (RNG.integers(-128, 128, shape, dtype=np.int8) for shape in ((20, 70), (70, 24)))
HAVE_LITEX = mailbox_links.import_litex()


@pytest.fixture(scope="module")
def firmware():
    return build_firmware(["server.c"], {"BB_MEMORY_SIZE": hex(MEMORY.size)})


def started(firmware) -> Soc:
    soc = Soc(CONFIG, firmware, MEMORY)
    soc.run(100_000)
    return soc


@pytest.fixture
def soc(firmware):
    with started(firmware) as soc:
        yield soc


@pytest.fixture(scope="module")
def model():
    with backbeat.open("model", CONFIG) as acc:
        yield acc


def open_soc(soc, config=None, timeout=10, **faults):
    path = faults.pop("link", None) or SocLink(soc, **faults)
    backend = LitexBackend(f"localhost:1?timeout={timeout}", config and backbeat.Config.of(config),
                           Memory(), link=path)
    return Accelerator(backend, backend.config, backend.memory)


def products():
    """One of each kind, with and without requantisation."""
    rng = np.random.default_rng(11)
    x, w = (rng.integers(-128, 128, s, dtype=np.int8) for s in ((2, 6, 5, 11), (9, 3, 2, 11)))
    geometry = {"stride": (2, 1), "padding": 1, "dilation": (1, 2)}
    dy = rng.integers(-127, 128, (2, 3, 5, 9), dtype=np.int8)
    spec = backbeat.Requantise(1 << 20, 33, rounding="stochastic", seed=5, low=0)
    return [Conv2d(x, w, **geometry), Gemm(A, B, column_sums=True),
            Conv2dInputGradient(dy, w, (6, 5), **geometry), Gemm(A, B, requantize=spec),
            Conv2dWeightGradient(dy, x, (3, 2), **geometry),
            Conv2d(x, w, requantize=spec, **geometry)]


def assert_same(got, expected):
    for one, other in zip(got, expected, strict=True):
        if isinstance(one, tuple):
            assert_same(one, other)
        else:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def test_driver_and_firmware_agree_on_the_mailbox():
    text = (Path(__file__).parents[1] / "firmware/server.h").read_text()
    defined = {name: int(value.strip("()").replace("1 << 23", str(1 << 23)), 0) for name, value in
               re.findall(r"#define BB_(\w+)\s+(0x\w+|\d+|\(1 << 23\))", text)}
    expected = {"MAILBOX_MAGIC": mailbox.MAGIC, "MAILBOX_VERSION": mailbox.VERSION,
                "MAILBOX_RESPONSE": mailbox.RESPONSE, "MAILBOX_REQUEST": mailbox.REQUEST,
                "MAILBOX_BYTES": mailbox.BYTES, "MAILBOX_CAPACITY": mailbox.CAPACITY}
    for kind in (Header, Response, Request, Order, Status):
        expected |= {f"{kind.__name__.upper()}_{member.name}": int(member) for member in kind}
    del defined["MAILBOX_WORK"]     # nobody else's business
    assert defined == expected


def test_products_are_those_of_the_model(soc, model):
    with open_soc(soc, CONFIG) as acc:
        assert soc.console == "server: ready\n"
        assert_same(acc.run(products()), model.run(products()))
        assert acc.last.descriptors == 6 and acc.last.max_abs == model.last.max_abs
        assert 0 < acc.last.utilisation < 1 and acc.last.bytes_read == model.last.bytes_read
        a, b = (RNG.integers(-128, 128, s, dtype=np.int8) for s in ((3, 9, 20), (3, 20, 7)))
        np.testing.assert_array_equal(acc.bmm(a, b), model.bmm(a, b))


def test_core_is_known_from_what_it_reports(soc):
    with open_soc(soc) as acc:
        assert acc.config == backbeat.Config.of(CONFIG)
        assert acc.memory.size == MEMORY.size
    with pytest.raises(backbeat.AcceleratorError, match="rows 8, expected 4"):
        open_soc(soc, "4x4")


def test_products_through_the_door_are_those_of_the_model(soc, model):
    """More commands and more answers than a request has room for."""
    a, b = (RNG.integers(-127, 128, s, dtype=np.int8) for s in ((60, 150), (150, 60)))
    with open_soc(soc) as acc:
        result = acc._backend._run_commands(Gemm(a, b).lower(8).job)
        np.testing.assert_array_equal(result.c, model.gemm(a, b))
        assert result.stats.commands > 2 * mailbox.CAPACITY


def train(acc):
    """Three steps of a small network of every kind of layer; all weights."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
                              torch.nn.Linear(64, 10))
    offload(net, acc)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(net(torch.randn(6, 1, 4, 4)), torch.arange(6))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()]).numpy()


def test_training_is_that_of_the_model(soc, model):
    with open_soc(soc) as acc:
        np.testing.assert_array_equal(train(acc), train(model))
        assert acc.stats.products > 10


def test_resident_tensors_do_not_cross_again(soc, model):
    with open_soc(soc) as acc:
        spec = backbeat.Requantise(1 << 20, 26, low=-127)
        w, a = acc.put(B), np.maximum(A, -127)
        plain = acc.gemm(a, B, requantize=spec)
        crossed = acc.last.bytes_uploaded
        hidden = acc.gemm(a, w, requantize=spec, keep=True)
        assert acc.last.bytes_uploaded == crossed - 70 * 24 and acc.last.bytes_downloaded == 192
        np.testing.assert_array_equal(acc.get(hidden), plain)
        writes = acc._backend.mailbox.link.bus.writes
        np.testing.assert_array_equal(acc.gemm(hidden, w, "nt"), model.gemm(plain, B, "nt"))
        assert acc.last.bytes_uploaded == 192
        assert acc._backend.mailbox.link.bus.writes - writes < 20
        odd = acc.gemm(a, np.ascontiguousarray(B[:, :5]), requantize=spec, keep=True)
        raw = odd.operand().filled(8).array()
        assert not raw[:, 5:].any(), "what fills up rows has been cleared"


@pytest.mark.parametrize(("fault", "chance"), [("lose", 0.1), ("garble", 0.1), ("repeat", 0.5),
                                               ("late", 0.3), ("fail", 0.2)])
def test_what_happens_to_frames_changes_no_bit(soc, model, fault, chance):
    with open_soc(soc, fault=fault, chance=chance) as acc:
        path = acc._backend.mailbox.link
        for product in products():
            assert_same(acc.run([product]), model.run([product]))
            assert acc.last.descriptors == 1, "carried out once"
        tensor = acc.put(B)
        np.testing.assert_array_equal(acc.get(tensor), B)
        assert path.happened > 5
        assert path.opened > 1 or fault != "fail", "what fails is opened anew"


@pytest.mark.parametrize(("fault", "match"), [
    ("lose", "after 0.[5-9] s without a sign of life.*check that the SoC is powered and runs server.c"),
    ("fail", "failures: nothing came"),
])
def test_dead_bridge_is_an_error_in_bounded_time_and_works_again(soc, model, fault, match):
    with open_soc(soc, fault=fault) as acc:
        np.testing.assert_array_equal(acc.gemm(A, B), model.gemm(A, B))
        box, begun = acc._backend.mailbox, time.monotonic()
        box.link.chance, box.timeout = 1.0, 0.5
        with pytest.raises(backbeat.AcceleratorError, match=(
                f"localhost:1: a request was not answered, {match}" if fault == "lose" else match)):
            acc._backend.get(Read.ID)
        assert time.monotonic() - begun < 20
        box.link.chance, box.timeout = 0.0, 10
        np.testing.assert_array_equal(acc.gemm(A, B), model.gemm(A, B))


def test_core_is_reset_before_operands_follow_a_product_that_was_abandoned(soc, model, monkeypatch):
    """It may still be writing where they are to lie."""
    with open_soc(soc, fault="fail") as acc:
        backend, done = acc._backend, []
        box, ring = backend.mailbox, backend._ring

        def dying(chain):
            monkeypatch.setattr(box.link, "chance", 1.0)
            return ring(chain)

        monkeypatch.setattr(backend, "_ring", dying)
        with pytest.raises(backbeat.AcceleratorError, match="nothing came"):
            acc.gemm(A, B)
        monkeypatch.undo()
        real = {name: getattr(box, name) for name in ("send", "call")}

        def noted(name, what, *rest):
            done.append((name, what))
            return real[name](what, *rest)

        for name in real:
            monkeypatch.setattr(box, name, partial(noted, name))
        np.testing.assert_array_equal(acc.gemm(B.T.copy(), A.T.copy()), model.gemm(A, B).T)
        (first, orders), *rest = done
        assert first == "call" and orders[0] & 7 == Op.RESET and orders[1] == 1 and len(orders) == 4
        assert any(name == "send" for name, _ in rest)


def test_memory_that_does_not_keep_what_is_written_is_an_error(soc, monkeypatch):
    """All frames of operands are lost, those of the mailbox are not."""
    with open_soc(soc) as acc:
        path = acc._backend.mailbox.link
        write = path.bus.write_words
        monkeypatch.setattr(path.bus, "write_words", lambda address, words: (
            write(address, words) if address < BASE + mailbox.BYTES else None))
        with pytest.raises(backbeat.AcceleratorError, match="1,680 bytes at .* have not arrived whole"):
            acc.put(B)
        assert acc.resident == 0


def test_request_is_carried_out_once_however_often_it_is_posted(soc, model):
    with open_soc(soc) as acc:
        acc.gemm(A, B)
        box, before = acc._backend.mailbox, acc._backend.get(Read.COMPLETED)[0]
        chain = isa_words(function_id(Op.SET, Write.DOORBELL), BASE + mailbox.BYTES)
        fence = isa_words(function_id(Op.GET, Read.FENCE) | Order.ANSWER, 0)
        request = np.concatenate([chain, fence])
        post = box._post
        box._post = lambda body: [(post(body), soc.run(200_000)) for _ in range(3)]
        assert box.call(request, 1)[0] == 1
        box._post = post
        assert acc._backend.get(Read.COMPLETED)[0] == before + 1


def test_garbled_request_is_never_carried_out(soc):
    """Whichever of its words it is: it is refused and posted again."""
    class Garbling(SocLink):
        word = None

        def write(self, address, words):
            if address == BASE + mailbox.REQUEST + 4 and self.word is not None:
                words = words.copy()
                words[self.word] ^= np.uint32(1 << 6)
                self.word, self.happened = None, self.happened + 1
            super().write(address, words)

    path = Garbling(soc)
    box = Mailbox(path, BASE)
    area = soc.image[mailbox.BYTES:mailbox.BYTES + 4096]
    area[:] = np.random.default_rng(1).integers(0, 256, 4096)
    orders = np.array([Order.CRC << 24, BASE + mailbox.BYTES, 64,
                       Order.SAME << 24 | Order.ANSWER, 3, 0, 0,
                       Order.CRC << 24, BASE + mailbox.BYTES + 1024, 128], np.uint32)
    expected = box.call(orders, 5).tolist()
    assert expected[0] == checksum(area[:64]) and expected[-1] == checksum(area[1024:1152])
    for path.word in range(len(orders) + 3):
        assert box.call(orders, 5).tolist() == expected
    assert path.happened == len(orders) + 3


@pytest.mark.parametrize("which", ["read", "write"])
def test_what_is_garbled_on_its_way_is_moved_again(soc, model, which):
    """One bit of each frame of operands or results, the first time that it comes."""
    class Garbling(SocLink):
        seen: set = set()

        def once(self, kind, address, words):
            if kind != which or address < BASE + mailbox.BYTES or address in self.seen:
                return words
            self.seen.add(address)
            self.happened += 1
            return self.garbled(words)

        def read(self, address, count):
            return self.once("read", address, super().read(address, count))

        def write(self, address, words):
            super().write(address, self.once("write", address, words))

    path = Garbling(soc)
    with open_soc(soc, link=path) as acc:
        for product in products()[:3]:
            path.seen.clear()
            assert_same(acc.run([product]), model.run([product]))
        np.testing.assert_array_equal(acc.get(acc.put(A)), A)
        assert path.happened > 4


def test_checksum_is_of_memory_not_of_what_the_cpu_has_seen(soc):
    with open_soc(soc) as acc:
        expected = acc.gemm(A, B)
        c = isa.decode_descriptor(soc.image[mailbox.BYTES:mailbox.BYTES + 192].tobytes())["c"]
        result = soc.image[c - BASE:c - BASE + expected.nbytes]
        assert result.tobytes() == expected.tobytes()
        result[:] = 0
        look = [Order.CRC << 24, c, result.size]
        request = np.concatenate([
            look, isa_words(function_id(Op.SET, Write.DOORBELL), BASE + mailbox.BYTES),
            isa_words(function_id(Op.GET, Read.FENCE) | Order.ANSWER, 0), look])
        assert acc._backend.mailbox.call(request.astype(np.uint32), 3).tolist() == [
            checksum(np.zeros_like(result)), 1, checksum(expected)]


def isa_words(function, value):
    return np.array([Order.SAME << 24 | function, 1, value, 0], np.uint32)


def test_server_refuses_what_makes_no_sense(soc):
    box = Mailbox(SocLink(soc), BASE)
    word = mailbox.BYTES + BASE
    for content in ([0], [9 << 24], [Order.SAME << 24, 1, 0], [Order.EACH << 24, 2, 0, 0, 0],
                    [Order.EACH << 24, 1 << 31, 0, 0], [Order.SAME << 24 | Order.ANSWER, 2049, 0, 0],
                    [Order.CRC << 24, word + 2, 4], [Order.CRC << 24, word, MEMORY.size],
                    [Order.CRC << 24, BASE - 4, 8], [Order.CRC << 24, BASE + MEMORY.size, 4],
                    [Order.CLEAR << 24, BASE, 4], [Order.EXPECT << 24, word, 4]):
        with pytest.raises(backbeat.AcceleratorError, match="status 1"):
            box.call(np.array(content, np.uint32), 0)
    soc.image[mailbox.BYTES:mailbox.BYTES + 64] = np.arange(64)
    area = soc.image[mailbox.BYTES:mailbox.BYTES + 64].copy()
    with pytest.raises(mailbox.Unexpected) as found:
        box.call(np.array([Order.CRC << 24, word, 64, Order.EXPECT << 24, word, 64, 1], np.uint32), 1)
    assert found.value.at == 3
    orders = [Order.EXPECT << 24, word, 64, checksum(area), Order.CRC << 24, word + 8, 16,
              Order.CLEAR << 24, word + 8, 16]
    assert box.call(np.array(orders, np.uint32), 1)[0] == checksum(area[8:24])
    area[8:24] = 0
    np.testing.assert_array_equal(soc.image[mailbox.BYTES:mailbox.BYTES + 64], area)


def test_every_command_reaches_the_core(soc):
    """An illegal one is answered as the core answers it."""
    with open_soc(soc) as acc:
        backend = acc._backend
        for register in Read:
            backend.get(register)
            assert backend.get(Read.ERROR) == [Error.NONE], register
        for function in (function_id(Op.GET, 19), function_id(Op.SET, 8), function_id(Op.LOAD, 2),
                         function_id(Op.PUSH, 4), function_id(Op.RUN, 1), 1023 << 0 & ~7 | Op.READ):
            backend.execute([Batch(function)])
            assert backend.get(Read.ERROR) == [Error.ILLEGAL], function
            backend.recover()
        backend.execute([Batch(function_id(Op.RUN))])
        with pytest.raises(backbeat.AcceleratorError, match="NOT_LOADED") as caught:
            acc.gemm(A, B)
        assert caught.value.code == Error.NOT_LOADED
        assert acc.gemm(A, B).shape == (20, 24)


def test_restart_of_the_soc_is_noticed_and_residents_are_lost(soc, firmware, model):
    with open_soc(soc) as acc:
        tensor = acc.put(B)
        soc.close()
        again = Soc(CONFIG, firmware, MEMORY)
        again.image[:mailbox.BYTES] = soc.image[:mailbox.BYTES]      # memory keeps something
        again.run(100_000)
        acc._backend.mailbox.link.bus.soc = again
        with pytest.raises(backbeat.AcceleratorError, match="has been started anew"):
            acc.gemm(A, B)
        with pytest.raises(ValueError, match="b has been lost when the device was started anew"):
            acc.gemm(A, tensor)
        tensor.free()
        np.testing.assert_array_equal(acc.gemm(A, acc.put(B)), model.gemm(A, B))
        again.close()


def test_two_drivers_at_once_are_an_error(soc):
    with open_soc(soc) as one, open_soc(soc) as two:
        two.gemm(A, B)
        path = one._backend.mailbox.link
        path.bus.write_words = lambda *_: None      # the other one was faster
        with pytest.raises(backbeat.AcceleratorError, match="somebody else uses litex:localhost:1"):
            one.gemm(A, B)


def test_soc_without_a_server_is_named():
    with started(build_firmware(["selftest.c"])) as lonely:
        with pytest.raises(backbeat.AcceleratorError, match="within 0.3 s: there is no mailbox"):
            open_soc(lonely, timeout=0.3)


def test_server_of_another_version_is_named(soc):
    open_soc(soc).close()
    soc.image[4 * Header.VERSION] += 1
    with pytest.raises(backbeat.AcceleratorError, match="version 2 of the mailbox, this driver 1"):
        open_soc(soc, timeout=0.3)


@pytest.mark.parametrize(("address", "match"), [
    ("", "needs an address"), ("localhost", "litex:udp:HOST of a board.*got 'litex:localhost'"),
    ("localhost:x", "port must be 1...65535, got 'x'"), ("localhost:0", "port must be"),
    ("h:1?timeout=soon", "could not convert"), ("h:1?timeout=0", "number of seconds, got 0.0"),
    ("h:1?color=red", "options are timeout, mailbox and baud, got color"),
])
def test_bad_address_is_named(address, match):
    with pytest.raises(ValueError, match=match):
        backbeat.open(f"litex:{address}")


def test_addresses_are_understood():
    for text, expected in (("soc:1234", ("server", "soc", 1234)),
                           ("udp:10.0.0.1", ("udp", "10.0.0.1", 1234)),
                           ("udp:b:9", ("udp", "b", 9)), ("/dev/ttyUSB1?baud=1e6", ("serial", "", 0)),
                           ("socket://localhost:5?mailbox=0x80000000&timeout=3", ("serial", "", 0))):
        address = link.Address(text)
        assert (address.kind, address.host, address.port) == expected
    assert address.base == 0x8000_0000 and address.timeout == 3
    assert link.Address("/dev/ttyUSB1?baud=1e6").baud == 1_000_000


def test_missing_litex_is_named(monkeypatch):
    for name in ("litex_client", "remote.comm_udp", "remote.comm_uart"):
        monkeypatch.setitem(sys.modules, f"litex.tools.{name}", None)
    for address in ("localhost:1", "udp:localhost", "/dev/null"):
        with pytest.raises(backbeat.ToolError, match=r"pip install 'backbeat\[litex\]'"):
            backbeat.open(f"litex:{address}")


@pytest.fixture
def server(soc):
    """LiteX's own server before the SoC."""
    if not HAVE_LITEX:
        pytest.skip("LiteX is not installed: pip install 'backbeat[litex]'")
    from litex.tools.litex_server import RemoteServer
    comm = mailbox_links.CommUART(soc)
    server = RemoteServer(comm, "localhost", mailbox_links.free_port())
    server.open()
    server.start(4)
    proxy = mailbox_links.Proxy(server.bind_port)
    yield proxy     # the server's threads wait for ever
    proxy.close()


def test_products_through_litex_are_those_of_the_model(server, model):
    with backbeat.open(f"litex:localhost:{server.port}", CONFIG) as acc:
        assert acc.backend == "litex" and acc.memory.size == MEMORY.size
        assert_same(acc.run(products()), model.run(products()))
        tensor = acc.put(A)
        np.testing.assert_array_equal(acc.gemm(tensor, B), model.gemm(A, B))


def test_training_through_litex_is_that_of_the_model(server, model):
    with backbeat.open(f"litex:localhost:{server.port}") as acc:
        np.testing.assert_array_equal(train(acc), train(model))


def test_connection_that_is_cut_is_made_again(server, model):
    with backbeat.open(f"litex:localhost:{server.port}") as acc:
        send, cuts = acc._backend.mailbox.link.write, []

        def write(address, words):
            send(address, words)
            if len(cuts) % 7 == 0:
                server.cut()
            cuts.append(address)

        acc._backend.mailbox.link.write = write
        for product in products()[:4]:
            assert_same(acc.run([product]), model.run([product]))
        assert server.accepted > 5


def test_litex_server_that_does_not_answer_is_an_error(server, model):
    with backbeat.open(f"litex:localhost:{server.port}?timeout=2") as acc:
        server.mute, acc._backend.mailbox.timeout, begun = True, 0.4, time.monotonic()
        with pytest.raises(backbeat.AcceleratorError, match="check that the SoC is powered"):
            acc.gemm(A, B)
        assert time.monotonic() - begun < 20
        server.mute, acc._backend.mailbox.timeout = False, 10
        np.testing.assert_array_equal(acc.gemm(A, B), model.gemm(A, B))
    with pytest.raises(backbeat.AcceleratorError, match="no answer within 0.2 s.*refused"):
        backbeat.open(f"litex:localhost:{mailbox_links.free_port()}?timeout=0.2")


def test_memory_elsewhere_is_found(soc):
    with pytest.raises(backbeat.AcceleratorError, match="no mailbox at 0x40100000; found 00000000"):
        LitexBackend("h:1?mailbox=0x40100000&timeout=0.2", None, replace(MEMORY), link=SocLink(soc))

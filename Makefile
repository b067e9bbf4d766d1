# Everything runs in .venv, made on first use from pyproject.toml and constraints.txt.

PYTHON ?= python3
CONFIG ?= 16x16
BUILD  := build
BIN    := .venv/bin
STAMP  := .venv/.installed
RISCV  := .venv/.riscv

export BACKBEAT_CACHE ?= $(CURDIR)/$(BUILD)/cache

.PHONY: help setup train test sim waves waves-update formal mutate coverage verification faults soak rtl isa bench \
	animate bench-scalesim bench-soc compare \
	numerics synth soc soc-litex serve bitstream load synth-soc pe-netlist cfu-playground lint doctor clean

help:
	@echo "make train           train digits-mlp, every matrix product on the simulated RTL"
	@echo "make test            all tests          make sim T=name [WAVES=1]   one test bench"
	@echo "make animate         build/beat.html: the array cycle by cycle, from its waveform (ARGS='M K N', 3 3 2)"
	@echo "make waves           every cycle of canonical scenarios against tb/golden [T=name]; make waves-update"
	@echo "make rtl CONFIG=8x8  build/rtl/8x8/cfu.v  make synth   resource table (xc7)"
	@echo "make bench           figures: build/bench.json and a table"
	@echo "make bench-scalesim  our cycles beside SCALE-Sim's (TOPOLOGY=file.csv)"
	@echo "make soc             firmware's self-test on a simulated CPU beside the core"
	@echo "make bench-soc       what the core is worth to that CPU, in cycles"
	@echo "make soc-litex       the board's SoC in LiteX's simulation, tested from Python"
	@echo "make serve           the same, for backbeat.open(\"litex:socket://localhost:1234\")   make synth-soc"
	@echo "make bitstream       for a Nexys A7-100T: build/nexys_a7/CONFIG   make load   program the board"
	@echo "make cfu-playground OUT=dir   a project folder for CFU-Playground"
	@echo "make compare         int8 against fp32 at equal seeds (TASK=digits-mlp RECIPES=fp32,int8 SEEDS=5)"
	@echo "make numerics        measures docs/numerics.md anew (ARGS='--only stall')"
	@echo "make formal          proves the RTL's properties (T=name, ARGS=--faults)"
	@echo "make mutate          how many small faults of the Verilog the test benches notice (T=name)"
	@echo "make coverage        what the test benches reach: build/coverage/index.html (ARGS='-k gather', --report)"
	@echo "make verification    docs/verification.md's table from the last runs of these"
	@echo "make soak            thousands more random products (SEED=..., PRODUCTS=...)"
	@echo "make faults          errors, silence, resets, garbage, kills: seen to end well (ARGS='--only reset')"
	@echo "make isa             regenerate docs/isa.md and the C headers"
	@echo "make lint | doctor | clean"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --use-pep517 -c constraints.txt -e '.[dev]'
	@touch $@

# A compiler for firmware: GCC if the machine has it, else the Clang of a large wheel.
$(RISCV): $(STAMP)
	command -v riscv64-unknown-elf-gcc > /dev/null || \
		$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt ziglang
	@touch $@

setup: $(STAMP)

train: setup
	$(BIN)/backbeat train --task digits-mlp --backend verilator --config $(CONFIG) --epochs 10 --out runs/digits-mlp --overwrite $(ARGS)

test: setup $(RISCV)
	$(BIN)/pytest -n 2 --dist worksteal --junitxml=$(BUILD)/tests.xml $(ARGS)

sim: setup
	$(if $(T),,$(error say which test bench: make sim T=pe (see tb/test_*.py)))
	WAVES=$(WAVES) $(BIN)/pytest tb/test_$(T).py $(ARGS)

# Operands and sums on their way through the simulated array: A is M by K, B is K by N.
animate: setup
	$(BIN)/backbeat animate --out $(BUILD)/beat.html $(or $(ARGS),3 3 2)

waves: setup
	$(BIN)/python -m tb.waves $(T) $(ARGS)

waves-update: setup
	$(BIN)/python -m tb.waves --update $(T) $(ARGS)

soak: setup
	$(BIN)/python -m tb.soak --config $(CONFIG) $(if $(SEED),--seed $(SEED)) $(if $(PRODUCTS),--products $(PRODUCTS))

# What goes wrong ends in an error or in the right result, see docs/verification.md.
faults: setup
	$(BIN)/python -m tb.faults $(if $(SEED),--seed $(SEED)) $(ARGS)

rtl: setup
	$(BIN)/backbeat verilog --config $(CONFIG) --out $(BUILD)/rtl/$(CONFIG)/cfu.v $(ARGS)

isa: setup
	$(BIN)/python -m backbeat_rtl.isa_export
	$(BIN)/python -m backbeat.soc.mlp_table

bench: setup
	$(BIN)/backbeat bench --json $(BUILD)/bench.json $(ARGS)

# SCALE-Sim wants an older NumPy than ours, whose wheels are for Python 3.11 and 3.12.
SCALESIM := $(BUILD)/scalesim-venv

$(SCALESIM)/.installed: constraints-scalesim.txt
	$(PYTHON) -m venv $(SCALESIM)
	$(SCALESIM)/bin/pip install --quiet --disable-pip-version-check -c constraints-scalesim.txt scalesim numpy
	@touch $@

bench-scalesim: setup $(SCALESIM)/.installed
	$(BIN)/backbeat bench-scalesim --python $(SCALESIM)/bin/python --folder $(BUILD)/scalesim --config $(CONFIG) \
		--json $(BUILD)/bench-scalesim.json $(if $(TOPOLOGY),--topology $(TOPOLOGY)) $(ARGS)

compare: setup
	$(BIN)/backbeat compare $(if $(TASK),--task $(TASK)) $(if $(RECIPES),--recipes $(RECIPES)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

# Results stay in build/numerics, so that it can go on where it was broken off.
numerics: setup
	$(BIN)/python -m backbeat.evidence $(ARGS)

soc: setup $(RISCV)
	$(BIN)/backbeat soc selftest --config $(CONFIG) $(ARGS)

bench-soc: setup $(RISCV)
	$(BIN)/backbeat bench-soc --json $(BUILD)/bench-soc.json $(ARGS)

# LiteX in an environment of its own: it is large, and only the board and its simulation want it.
LITEX := $(BUILD)/litex-venv
PORT  ?= 1234
BOARD := $(if $(filter command line environment,$(origin CONFIG)),$(CONFIG),32x14)

$(LITEX)/.installed: constraints-litex.txt
	$(PYTHON) -m venv $(LITEX)
	$(LITEX)/bin/pip install --quiet --disable-pip-version-check -r constraints-litex.txt
	@touch $@

soc-litex: setup $(RISCV) $(LITEX)/.installed
	$(BIN)/pytest tb/test_nexys_a7.py tb/test_bitstream.py sw/tests/test_litex.py \
		"tb/test_faults.py::test_campaign_is_without_failures[link]" $(ARGS)

serve: setup $(RISCV) $(LITEX)/.installed
	$(BIN)/python -m fpga.nexys_a7 --simulate --config $(CONFIG) --port $(PORT) $(ARGS)

bitstream: setup $(RISCV) $(LITEX)/.installed
	$(BIN)/python -m fpga.bitstream --config $(BOARD) $(ARGS)

load: setup
	$(BIN)/python -m fpga.bitstream --load --config $(BOARD) $(ARGS)

synth-soc: setup $(RISCV) $(LITEX)/.installed
	$(BIN)/python -m fpga.soc_synth --config $(BOARD) $(ARGS)

synth: setup
	$(BIN)/python -m fpga.synth --json $(BUILD)/synth.json $(ARGS)

# The processing element's netlist against its Verilog: all operands of a step.
pe-netlist: setup
	$(BIN)/python -m fpga.pe_netlist --json $(BUILD)/pe_netlist.json $(ARGS)

# Properties of the RTL by solvers, see docs/verification.md.
formal: setup
	$(BIN)/python -m tb.formal $(T) $(ARGS)

# Small faults of the Verilog, and whether the test benches notice.
mutate: setup
	$(BIN)/python -m tb.mutation $(T) $(ARGS)

# What the benches reach of the Verilog and of the kinds of products, see docs/verification.md.
coverage: setup
	$(BIN)/python -m tb.coverage $(ARGS)

# The table of docs/verification.md, from what the commands above have left in build/.
verification: setup
	$(BIN)/python -m tb.verification

cfu-playground: setup
	$(if $(OUT),,$(error say where to: make cfu-playground OUT=folder))
	$(BIN)/python -m fpga.cfu_playground --out $(OUT) $(ARGS)

lint: setup
	$(BIN)/ruff check .

doctor: setup
	$(BIN)/backbeat doctor

clean:
	rm -rf $(BUILD) runs

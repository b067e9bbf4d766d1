# Everything runs in .venv, made on first use from pyproject.toml and constraints.txt.

PYTHON ?= python3
CONFIG ?= 16x16
BUILD  := build
BIN    := .venv/bin
STAMP  := .venv/.installed

export BACKBEAT_CACHE ?= $(CURDIR)/$(BUILD)/cache

.PHONY: help setup train test sim soak rtl isa waves bench bench-scalesim compare numerics synth lint doctor clean

help:
	@echo "make train           train digits-mlp, every matrix product on the simulated RTL"
	@echo "make test            all tests          make sim T=name [WAVES=1]   one test bench"
	@echo "make rtl CONFIG=8x8  build/rtl/8x8/cfu.v  make synth   resource table (xc7)"
	@echo "make bench           figures: build/bench.json and a table"
	@echo "make bench-scalesim  our cycles beside SCALE-Sim's (TOPOLOGY=file.csv)"
	@echo "make compare         int8 against fp32 at equal seeds (TASK=digits-mlp RECIPES=fp32,int8 SEEDS=5)"
	@echo "make numerics        measures docs/numerics.md anew (ARGS='--only stall')"
	@echo "make soak            thousands more random products (SEED=..., PRODUCTS=...)"
	@echo "make isa             regenerate docs/isa.md and the C header"
	@echo "make lint | doctor | clean"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(STAMP)

train: setup
	$(BIN)/backbeat train --task digits-mlp --backend verilator --config $(CONFIG) --epochs 10 --out runs/digits-mlp --overwrite $(ARGS)

test: setup
	$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

sim: setup
	$(if $(T),,$(error say which test bench: make sim T=pe (see tb/test_*.py)))
	WAVES=$(WAVES) $(BIN)/pytest tb/test_$(T).py $(ARGS)

soak: setup
	$(BIN)/python -m tb.soak --config $(CONFIG) $(if $(SEED),--seed $(SEED)) $(if $(PRODUCTS),--products $(PRODUCTS))

rtl: setup
	$(BIN)/backbeat verilog --config $(CONFIG) --out $(BUILD)/rtl/$(CONFIG)/cfu.v $(ARGS)

isa: setup
	$(BIN)/python -m backbeat_rtl.isa_export

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

synth: setup
	$(BIN)/python -m fpga.synth --json $(BUILD)/synth.json $(ARGS)

lint: setup
	$(BIN)/ruff check .

doctor: setup
	$(BIN)/backbeat doctor

clean:
	rm -rf $(BUILD) runs

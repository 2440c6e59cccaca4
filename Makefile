# Two commands for a newcomer: `make demo` and `make test`. Everything else is listed by `make help`.

PYTHON ?= python3
VENV   ?= .venv
RUN    ?= runs/digits
BIN    := $(VENV)/bin
READY  := $(VENV)/ready
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.DELETE_ON_ERROR:
.PHONY: demo test lint bench figures clean help

demo: $(RUN)/simulation.npz $(RUN)/answers.npz  ## train, quantize, compile, simulate, build, report and classify digits
	@$(BIN)/spikeloom report $(RUN)

$(RUN)/checkpoint.pt: | $(READY)
	@echo "== train: ternary weights, low-bit membranes, on the handwritten digits of scikit-learn"
	@$(BIN)/spikeloom train digits -o $(RUN)
$(RUN)/network.npz: $(RUN)/checkpoint.pt
	@echo "== quantize: the integer network"
	@$(BIN)/spikeloom quantize $<
$(RUN)/program.npz: $(RUN)/network.npz
	@echo "== compile: lanes and update units for the iCE40 UP5K of an iCEBreaker"
	@$(BIN)/spikeloom compile $< --target icebreaker
$(RUN)/program.v: $(RUN)/program.npz
	@echo "== verilog"
	@$(BIN)/spikeloom verilog $<
$(RUN)/simulation.npz: $(RUN)/program.npz $(RUN)/program.v
	@echo "== simulate: the generated Verilog against the golden model, every spike and membrane"
	@$(BIN)/spikeloom simulate $< --backend verilator --samples 450 --work-dir $(RUN)/build/sim -o $@
$(RUN)/build/build.json: $(RUN)/program.npz
	@echo "== build: synthesis, placement, routing, bitstream"
	@$(BIN)/spikeloom build $< --board icebreaker -o $(RUN)/build
$(RUN)/answers.npz: $(RUN)/program.npz $(RUN)/build/build.json
	@echo "== run: the host program, and the board's whole top level behind a pseudo-terminal"
	@$(BIN)/spikeloom run $< --virtual --samples 100 -o $@

test: $(READY)  ## the whole test suite
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(READY)  ## style and likely mistakes
	$(BIN)/ruff check .

bench: $(READY)  ## a benchmark: make bench NAME=core [DATA_DIR=folder]
	@test -f benchmarks/$(NAME).py || { echo "make bench NAME=x, where x is one of: $(patsubst benchmarks/%.py,%,$(filter-out benchmarks/common.py,$(wildcard benchmarks/*.py)))"; exit 2; }
	@case "$(NAME)" in speed|speed-cnn) $(PIP) -q -e '.[peers]';; esac
	$(BIN)/python benchmarks/$(NAME).py $(if $(DATA_DIR),--data-dir $(DATA_DIR))

figures: $(READY)  ## every stored figure
	@$(BIN)/python benchmarks/common.py

$(READY): pyproject.toml constraints.txt
	@echo "== environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[dev]'
	@touch $@

clean:  ## remove what was made, but not the environment
	rm -rf build runs .pytest_cache .hypothesis .ruff_cache

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

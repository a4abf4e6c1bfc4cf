# make demo   toy data, training, test, export, prediction     make test   every test
# make format lint bench clean                                 PYTHON=python3.12 make demo   with another Python
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TEST := pytest -n auto --maxprocesses 8
CONFIG := configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml
OUTPUT := output/STGCN_PlusPlus_toy

.PHONY: demo test test-2.6 lint format bench install install-dev check-python clean

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo "error: $$($(PYTHON) --version): paddlepaddle has wheels for Python 3.10 to 3.12; set PYTHON=python3.12" >&2; exit 2; }

$(BIN)/python: | check-python
	$(PYTHON) -m venv "$(VENV)"

$(VENV)/.installed: requirements.txt requirements-common.txt | $(BIN)/python
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch "$@"

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch "$@"

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

demo: install
	"$(BIN)/python" tools/prepare_data.py toy
	"$(BIN)/python" main.py -c $(CONFIG) --validate
	"$(BIN)/python" main.py -c $(CONFIG) --test --weights $(OUTPUT)/STGCN_PlusPlus_toy_best.pdparams
	"$(BIN)/python" tools/export_model.py -c $(CONFIG) -p $(OUTPUT)/STGCN_PlusPlus_toy_best.pdparams -o $(OUTPUT)
	"$(BIN)/python" tools/predict.py --model $(OUTPUT) --input_file data/toy_2d_sample.pkl --topk 3

test: install-dev
	"$(BIN)/python" -m $(TEST)

# the same on Paddle 2.6.2, the newest with GPU wheels on PyPI, and numpy 1
test-2.6: | check-python
	$(PYTHON) -m venv .venv-2.6
	.venv-2.6/bin/python -m pip install --quiet --disable-pip-version-check \
		"paddlepaddle==2.6.2" "numpy<2" -r requirements-common.txt -r requirements-dev.txt
	.venv-2.6/bin/python -m $(TEST)

lint: install-dev
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .

format: install-dev
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .

bench: install
	"$(BIN)/python" tools/benchmark.py train
	"$(BIN)/python" tools/benchmark.py eval
	"$(BIN)/python" tools/benchmark.py data --samples 10000

clean:
	rm -rf "$(VENV)" output .pytest_cache .ruff_cache

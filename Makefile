# `make demo` and `make test` work on a fresh clone: they set up .venv first, once.
# PYTHON names the interpreter (3.11 or 3.12).

PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
TORCH := torch==2.13.0

.PHONY: demo test check web clean demo-model painter-model upscaler-model

demo: $(READY)
	$(BIN)/python run.py animate --upscale 2

# Two files at a time: half of a test's time goes into starting processes, which one core does.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/basedpyright

# The page, at http://127.0.0.1:7860/: jobs lie in out/jobs.
web: $(READY)
	$(BIN)/python run.py web

# Remakes the weights that are shipped in stages/demo: hours on a CPU.
demo-model: $(READY)
	$(BIN)/python run.py train vae --config configs/train/demo_vae.yaml
	$(BIN)/python run.py train vae --config configs/train/demo_decoder.yaml
	$(BIN)/python run.py train image-encoder --config configs/train/demo_encoder.yaml
	$(BIN)/python run.py train --config configs/train/demo_image.yaml
	$(BIN)/python run.py train --config configs/train/demo_video.yaml
	$(BIN)/python run.py train --config configs/train/demo_finish.yaml
	$(BIN)/python run.py train --config configs/train/demo_large.yaml
	rm -rf stages/demo && cp -r out/demo/large/model stages/demo

# Remakes the weights that are shipped in stages/painter and stages/upscaler: from stages/demo, about half an hour each.
painter-model: $(READY)
	$(BIN)/python run.py train words --config configs/train/painter_words.yaml
	$(BIN)/python run.py train image --config configs/train/painter.yaml
	rm -rf stages/painter && cp -r out/painter/model stages/painter
	$(BIN)/python run.py train image --config configs/train/painter_canny.yaml
	cp -r out/painter_canny/model stages/painter/canny

upscaler-model: $(READY)
	$(BIN)/python run.py train image --config configs/train/upscaler.yaml
	rm -rf stages/upscaler && cp -r out/upscaler/model stages/upscaler

clean:
	rm -rf .venv build *.egg-info

# torch brings the CUDA libraries of its own build; all else comes from the lock exactly as written.
$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "posedance needs Python 3.11 or 3.12: install one, or name it with make PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock "$(TORCH)"
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

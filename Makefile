# Works with GNU make 3.81 (macOS) and later. `make` alone lists the targets.
PORT ?= 8000
BUDGET ?= 165s
VENV ?= .venv
PY    = $(VENV)/bin/python
PIP   = $(PY) 01_env/install.py
QUICK = 05_full_run/runs/quick/card.md
BASE  = 05_full_run/runs/published
TUNED = 05_full_run/runs/published-sft
READY = 05_full_run/published
DIALOGUE = messages:05_full_run/data/corpora/dialogue.jsonl.xz

STEP ?=

.PHONY: help setup learn check test test-slow lint web demo weights have-weights site clean 01 02 03 04 05 06 07

help:
	@echo "begin here:"
	@echo "  make web         install, train the quick model (3 minutes), chat in the browser"
	@test ! -f $(READY)/card.md || \
	  echo "  make demo        install, chat with the published weights, no training"
	@echo "  make 01 ... 07   run one step: 01 env, 02 tokenizer, 03 attention, 04 training,"
	@echo "                   05 full run, 06 chat, 07 web"
	@echo "  make learn       write it yourself: one exercise after another, graded as you save"
	@echo "  make check       grade all exercises once; make check STEP=03 those of one step"
	@echo "and then:"
	@echo "  make site        the quick model as files that chat without a server, and as one file"
	@echo "  make weights     train the published weights anew (hours; it names the text it needs)"
	@echo "  make setup       only install, into $(VENV)"
	@echo "  make test        install what tests need and run all of them (under 5 minutes)"
	@echo "  make test-slow   the longer tests"
	@echo "  make clean       remove $(VENV) and caches; trained runs stay"
	@echo "if it does not go as it should:"
	@echo "  PORT=8001 make web    where another program has port 8000"
	@echo "  SITTING=9m make weights   nine minutes of it; the same command goes on"
	@echo "  BUDGET=12m make web   where the processor has no bfloat16 (make 01 says so)"

setup: $(VENV)/.installed

$(VENV)/bin/python:
	@python=""; \
	for p in python3 python python3.13 python3.12 python3.11 python3.14; do \
	  if $$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	  then python=$$p; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "error: no Python 3.11 or later with venv was found: install one (python.org; Debian," \
	    "Ubuntu: apt install python3 python3-venv), then run make again" >&2; exit 2; \
	fi; \
	$$python 01_env/install.py --only-venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "installing what tests need ..."
	@$(PIP) --editable '.[test]'
	@touch $@

learn: setup
	@$(PY) 01_env/course/learn.py

check: setup
	@$(PY) 01_env/course/learn.py --check $(STEP)

test: $(VENV)/.installed-test
	$(PY) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-slow: $(VENV)/.installed-test
	$(PY) -m pytest -m slow

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(QUICK): | $(VENV)/.installed
	@echo "no trained model yet: training the quick one for $(BUDGET)"
	$(PY) 05_full_run/full_run.py --config quick --budget '$(BUDGET)' --resume

web: setup $(QUICK)
	@$(PY) 07_web/serve.py --port $(PORT) $(if $(wildcard $(READY)/card.md),--beside $(READY))

demo: have-weights setup
	@$(PY) 07_web/serve.py --checkpoint $(READY) --port $(PORT) --open \
	  $(if $(wildcard $(QUICK)),--beside 05_full_run/runs/quick)

have-weights:
	@test -f $(READY)/card.md || { echo "error: no published weights in this checkout:" \
	  "make web trains a model of your own in three minutes, make weights trains these" >&2; exit 2; }

# Each line of it ends with a file, so the same command goes on where it was interrupted.
weights: setup $(READY)/card.md

finished = test -f $@ || { echo "not finished yet: the same command goes on" >&2; exit 2; }
sitting  = $(if $(SITTING),--stop-after $(SITTING))

$(BASE)/card.md: | $(VENV)/.installed
	$(PY) 05_full_run/published_texts.py
	$(PY) 05_full_run/full_run.py --config published --resume $(sitting)
	@$(finished)

$(TUNED)/card.md: $(BASE)/card.md
	$(PY) 06_chat/finetune.py --stage sft --from $(BASE) --data drills:150000=0.62 --data primer=0.18 \
	  --data $(DIALOGUE)=0.2 --rate 1e-3 --budget '2000 steps' --out $(TUNED) --resume $(sitting)
	@$(finished)

$(TUNED)/held_out.md: $(TUNED)/card.md
	$(PY) 05_full_run/held_out.py $(TUNED) --out $(TUNED)

$(TUNED)/ledger.md: $(TUNED)/card.md
	$(PY) 06_chat/exam.py $(TUNED)

$(TUNED)/samples.md: $(TUNED)/card.md
	$(PY) 06_chat/samples.py $(TUNED) --out $(TUNED)

$(READY)/card.md: $(TUNED)/held_out.md $(TUNED)/ledger.md $(TUNED)/samples.md
	$(PY) 07_web/publish_weights.py --base $(BASE) --tuned $(TUNED) --out $(READY)

site: setup $(QUICK)
	$(PY) 07_web/static_site.py --out site
	@$(PY) -m webbrowser "file://$(CURDIR)/site/chat.html"

01: setup
	$(PY) 01_env/check_env.py

02: setup
	$(PY) 02_tokenizer/text_to_batches.py

03: setup
	$(PY) 03_attention/attention.py

04: setup
	$(PY) 04_training/overfit.py

05: setup
	$(PY) 05_full_run/full_run.py --config quick --resume

06: setup $(QUICK)
	$(PY) 06_chat/generate.py
	$(PY) 06_chat/chat.py

07: web

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

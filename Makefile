# Everything is done by .ci/bootstrap.py, which needs only python3: `python3 .ci/bootstrap.py demo` is `make demo`.
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help demo run test test-all check bench rehearsals lab venv lock

help demo run test test-all check rehearsals lab venv lock:
	@$(PYTHON) .ci/bootstrap.py $@

bench:
	@$(PYTHON) .ci/bootstrap.py bench $(NAME)

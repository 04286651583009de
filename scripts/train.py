"""Train, evaluate and compare: the one entrypoint. `python scripts/train.py --help` says what can be chosen."""

from __future__ import annotations

from warmup.__main__ import main  # has @hydra.main, for which completion in zsh and fish looks in this file

if __name__ == "__main__":
    main()

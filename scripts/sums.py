"""Make the study of sums: a task, and a small Llama whose pretraining holds the steps that it needs (docs/study.md).

    python scripts/sums.py outputs/sums                                # two minutes on one core
    SUMS=outputs/sums python scripts/train.py -m experiment=study_sums

FOLDER gets train.jsonl, validation.jsonl, test.jsonl (`source`, `target`) and model/. What pretraining reads is in
warmup/studies/sums/problems.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from warmup.errors import UserError
from warmup.files import check_writable
from warmup.studies.sums.pretraining import pretrain, write_splits


def main() -> None:
    """Write the files, train and save the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the task and its model go")
    parser.add_argument("--steps", type=int, default=1500, help="of pretraining, 64 documents each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.steps <= 0:
        parser.error("--steps must be at least 1")
    try:
        check_writable(options.folder / "train.jsonl")
        pretrain(options.folder / "model", write_splits(options.folder, options.seed), options.steps, options.seed)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

"""What a training step costs next to plain fine-tuning: counted operations, seconds, tokens per second, peak memory.

    python scripts/benchmark.py                                       # the standard set (make bench)
    python scripts/benchmark.py --model t5_base --source 512 --target 32 --samples 4 8 --count
    python scripts/benchmark.py --model llama_3_2_1b --source 256 --target 4 --batch 32 --precision bfloat16
    python scripts/benchmark.py --model FOLDER                        # of any known type; only config.json is read

Every number is a ratio to SFT in the same run: operations of matrix products on meta tensors (no weights needed),
wall-clock and processor time as the median of runs that take turns, memory as the peak of a step above the weights (and
the optimiser). The JSON file has the numbers themselves and the machine.

A step is forward and backward, without dropout and without an optimiser; --as-trained has the model's own dropout (T5:
0.1), gradient clipping and AdamW, and the standard set has one workload of that kind.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from warmup.errors import UserError, one_line
from warmup.studies.benchmark.workloads import ON_GPU, SIZES, STANDARD, Shape, Workload

SHAPE = {"source": 512, "target": 32, "warmup": 16, "batch": 4}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        raise UserError(f"{message}; --help lists what there is")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help=f"{', '.join(SIZES)}, a folder with a config.json, or a hub name")
    for part, default in SHAPE.items():
        unit = "inputs" if part == "batch" else f"tokens of a {part}"
        parser.add_argument(f"--{part}", type=_positive, metavar="N", help=f"{unit} ({default})")
    parser.add_argument(
        "--samples", type=_positive, nargs="+", metavar="K", help="warmups of an input, one or more (4)"
    )
    parser.add_argument("--count", action="store_true", help="count operations only; no weights are made")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="cuda where there is one")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"], help="bfloat16: autocast")
    parser.add_argument("--as-trained", action="store_true", help="time steps with dropout, clipping and AdamW")
    parser.add_argument("--repeats", type=_positive, default=5, metavar="N", help="timed rounds of all ways (5)")
    parser.add_argument("--json", type=Path, default=Path("outputs/benchmark.json"), help="where the figures go")
    options = parser.parse_args(words)
    given = [name for name in (*SHAPE, "samples") if getattr(options, name) is not None]
    if given and options.model is None:
        parser.error(f"--{given[0]} goes with --model: the standard set has shapes of its own")
    if options.as_trained and (options.model is None or options.count):
        parser.error("--as-trained goes with --model, and not with --count: operations are those of the products alone")
    return options


def _workloads(options: argparse.Namespace) -> list[Workload]:
    """What was asked for: one model, or the standard set."""
    if options.model is None:
        chosen = [*STANDARD, *(ON_GPU if options.device == "cuda" else [])]
        return [work for work in chosen if work.counted] if options.count else chosen
    shape = Shape(**{part: getattr(options, part) or default for part, default in SHAPE.items()})
    samples = sorted(set(options.samples or [4]))
    folder = Path(options.model).expanduser()
    name = folder.resolve().name if folder.is_dir() else options.model
    timed = not options.count
    return [Workload(name, options.model, shape, samples, True, timed, options.precision, options.as_trained)]


def _benchmark(options: argparse.Namespace) -> None:
    """Measure what was asked for, and print the table.

    Raises:
        UserError: no such model or device, or the figures cannot be written.
    """
    import torch  # the heavy imports are here, so that --help and a wrong option need not wait for them
    from rich.console import Console

    from warmup.studies.benchmark.measurements import measure_workloads
    from warmup.studies.benchmark.table import print_table

    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device is cuda; allowed: cpu: this machine has no usable CUDA device")
    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    results = measure_workloads(_workloads(options), options.device, options.repeats, options.json, sys.argv[1:])
    print_table(results, Console(width=120))
    print(f"written: {options.json}")


def main() -> int:
    """The exit status; an error is one line on standard error."""
    try:
        _benchmark(_parse(None))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

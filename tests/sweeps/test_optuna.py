"""A search goes on where it was: what was tried counts, what was under way comes first, nothing is asked twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.trial import TrialState

from tests.sweeps.planning import planned
from warmup.errors import UserError
from warmup.runs.file_names import RunFile
from warmup.runs.records import RunConfiguration
from warmup.sweeps.jobs import SweptJob
from warmup.sweeps.optuna_search import OptunaSweeper, Search, _distribution, import_optuna
from warmup.training.results import TrainingHistory

pytestmark = pytest.mark.usefixtures("hydra")

RATE = "trainer.learning_rate"


class Runner:
    """Finishes each job with the dev score that is 1 less its learning rate; `breaks` fail."""

    def __init__(self, breaks: Sequence[float] = ()) -> None:
        self.failed: dict[SweptJob, str] = {}
        self.breaks, self.rates = breaks, list[float]()

    def run(self, jobs: Sequence[SweptJob]) -> None:
        for job in jobs:
            rate = job.config.trainer.learning_rate
            self.rates.append(rate)
            if rate in self.breaks:
                self.failed[job] = "broken"
                continue
            job.folder.mkdir(parents=True)
            RunConfiguration.of(job.composed).write(job.folder)
            TrainingHistory([{"step": 1, "eval_bleu": 1 - rate}, {"step": 2, "eval_bleu": -rate}]).write(job.folder)
            (job.folder / RunFile.METRICS).write_text("{}")


def search(folder: Path, runner: Any) -> Search:
    storage = f"sqlite:///{folder}/optuna.db"
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize", load_if_exists=True)
    study.sampler = optuna.samplers.RandomSampler(seed=len(study.trials))
    return Search(study, runner, lambda words: planned(*words, f"hydra.sweep.dir={folder}")[0], folder)


def space(text: str) -> dict[str, Any]:
    return {RATE: _distribution(OverridesParser.create().parse_override(f"{RATE}={text}"))}


def test_a_longer_search_adds_trials_to_those_there_are(tmp_path: Path) -> None:
    range_ = space("interval(0.001,0.1)")
    first, second = Runner(), Runner()
    search(tmp_path, first).run(2, 2, range_)
    longer = search(tmp_path, second)
    longer.run(3, 1, range_)
    assert len(first.rates) == 2 and len(second.rates) == 1 and longer.tried == 3
    assert len({*first.rates, *second.rates}) == 3 and len(longer.jobs) == 3
    best = longer.study.best_trial
    assert best.value == pytest.approx(1 - min(first.rates + second.rates)) and best.params[RATE] == min(
        first.rates + second.rates
    )
    search(tmp_path, second).run(3, 1, range_)
    assert len(second.rates) == 1


def test_what_was_under_way_or_failed_comes_first(tmp_path: Path) -> None:
    range_ = space("interval(0.001,0.1)")
    killed = search(tmp_path, Runner()).study.ask(dict(range_)).params[RATE]
    failing = Runner(breaks=[killed])
    search(tmp_path, failing).run(2, 1, range_)
    assert failing.rates[0] == killed and len(failing.rates) == 2 and len(failing.failed) == 1
    mended = Runner()
    again = search(tmp_path, mended)
    again.run(2, 1, range_)
    assert mended.rates == [killed]
    states = [trial.state for trial in again.study.trials]
    assert states.count(TrialState.COMPLETE) == 2 and TrialState.RUNNING not in states


def test_values_that_are_proposed_twice_are_one_job(tmp_path: Path) -> None:
    runner = Runner()
    found = search(tmp_path, runner)
    found.run(6, 3, space("choice(0.1,0.01)"))
    assert sorted(runner.rates) == [0.01, 0.1] and found.tried == 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(0.1,0.5)", optuna.distributions.FloatDistribution(0.1, 0.5)),
        ("tag(log,interval(1e-5,1e-3))", optuna.distributions.FloatDistribution(1e-5, 1e-3, log=True)),
        ("int(interval(1,8))", optuna.distributions.IntDistribution(1, 8)),
        ("range(2,9,3)", optuna.distributions.IntDistribution(2, 8, step=3)),
        ("adamw,adafactor", optuna.distributions.CategoricalDistribution(["adamw", "adafactor"])),
    ],
)
def test_hydras_ranges_are_optunas(text: str, expected: Any) -> None:
    assert space(text) == {RATE: expected}


def test_what_is_wrong_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="hydra.sweeper.trials is 'many'; allowed: a whole number, at least 1"):
        OptunaSweeper(None, "many", 1, seed=1)  # type: ignore[arg-type]
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(UserError, match="optuna, which is not installed: pip install"):
        import_optuna()

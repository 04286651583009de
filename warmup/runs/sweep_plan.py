"""`jobs.json` in a sweep's folder: the jobs that its last command was about, so that those not begun are known too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from warmup.files import write_json
from warmup.runs.records import plain_line, read_json_object

PLAN_FILE = "jobs.json"


@dataclass(frozen=True)
class SweepPlan:
    """Each job's folder, below the sweep's, and what was asked for, as `key=value key=value`."""

    jobs: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write them."""
        write_json(folder / PLAN_FILE, self.jobs)

    @classmethod
    def read(cls, folder: Path) -> SweepPlan:
        """What is in `folder`; empty where no sweep was begun.

        Raises:
            UserError: the file holds something else.
        """
        return cls({str(job): plain_line(words) for job, words in read_json_object(folder / PLAN_FILE).items()})

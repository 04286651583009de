"""The figures are read back: as pictures, and as the lines that were drawn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from tests.reporting.conftest import Write
from warmup.errors import UserError
from warmup.reporting.figures import curves, drawing, histories, style
from warmup.reporting.tables.layout import report_on
from warmup.runs.finding import find_runs

BLUE, VERMILLION = style.SFT_STYLE["color"], style.COLOURS[0]


def made_up_history(method: str, start: float = 3.0, steps: int = 50) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = []
    for step in range(10, steps + 1, 10):
        entry = {"step": step, "epoch": step / steps, "loss": 3.0, "target_nll": start * math.exp(-step / steps)}
        if method == "warmup":
            entry |= {"warmup/token_entropy": start / step, "warmup/gain": 0.1, "warmup/my_own_gauge": start}
        history += [entry, {"step": step, "eval_bleu": start + step, "eval_chrf": 1.0, "eval_runtime": 9.0}]
    return [*history, {"step": steps, "train_runtime": 12.0}]


def draw(folder: Path) -> list[str]:
    """Draw all runs below `folder` into it; the names of the files, and the notes, in one list."""
    found = find_runs([folder])
    files, notes = drawing.write_figures(found.runs, report_on(found).tables, folder)
    return [*(path.name for path in files), *notes]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures by name, caught before they become pictures."""
    caught: dict[str, Figure] = {}

    def catch(figure: Figure, path: Path) -> list[Path]:
        caught[path.name] = figure
        return []

    monkeypatch.setattr(drawing, "write_figure", catch)
    return caught


def lines(axes: Any) -> dict[str, tuple[list[float], ...]]:
    return {str(line.get_label()): tuple(np.asarray(line.get_xydata()).T.tolist()) for line in axes.get_lines()}


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def shows(path: Path, colour: str) -> bool:
    picture = imread(path)[:, :, :3]
    return bool((np.abs(picture - np.array(to_rgb(colour))).max(axis=2) < 0.01).sum() > 100)


def test_every_figure_is_written_twice_and_nothing_else_is_left(write_answers: Write, tmp_path: Path) -> None:
    for seed in (1, 2):
        write_answers("sft", 5 + seed, seed=seed, history=made_up_history("sft", seed))
        for samples in ("2", "4"):
            overrides = {"method.num_samples": samples}
            history = made_up_history("warmup", seed)
            write_answers("warmup", 15, seed=seed, overrides=overrides, history=history, training_seconds=40.0)
    written = draw(tmp_path)
    names = ["learning_curves", "differences", "quality_against_samples", "quality_against_cost", "warmup_gauges"]
    assert written == [name + suffix for name in names for suffix in (".png", ".svg")]
    assert {path.name for path in tmp_path.iterdir()} == {"runs", *written}
    for name in names:
        assert shows(tmp_path / f"{name}.png", VERMILLION)
        assert shows(tmp_path / f"{name}.png", BLUE) == (name not in ("warmup_gauges", "differences"))
        height, width = imread(tmp_path / f"{name}.png").shape[:2]
        assert width == 990 and height < 9 * 300  # one column of a page at 300 dots per inch
        svg = (tmp_path / f"{name}.svg").read_text()
        assert svg.startswith("<?xml") and "<dc:date>" not in svg and str(tmp_path) not in svg
    before = {name: (tmp_path / name).read_bytes() for name in written}
    draw(tmp_path)
    assert before == {name: (tmp_path / name).read_bytes() for name in written}


def test_curves_are_means_over_seeds_with_a_band(write_run: Write, tmp_path: Path, figures: dict[str, Figure]) -> None:
    write_run("sft", 1, history=made_up_history("sft", 3.0))
    write_run("warmup", 1, history=made_up_history("warmup", 4.0))
    write_run("warmup", 2, history=made_up_history("warmup", 6.0, steps=30))  # stopped early: the mean ends with it
    draw(tmp_path)
    score, likelihood = figures["learning_curves"].axes
    assert score.get_ylabel() == "dev BLEU" and score.get_xlabel() == "optimiser step"
    assert "nats per token" in likelihood.get_ylabel()
    assert lines(score) == {
        "SFT": ([10, 20, 30, 40, 50], [13, 23, 33, 43, 53]),
        "warmup": ([10, 20, 30], [15, 25, 35]),
    }
    (band,) = score.collections
    edge = band.get_paths()[0].vertices
    assert edge[:, 1].min() == pytest.approx(15 - 2**0.5) and edge[:, 1].max() == pytest.approx(35 + 2**0.5)
    assert legend(figures["learning_curves"]) == ["SFT", "warmup"]
    assert "standard deviation over seeds" in figures["learning_curves"].legends[0].get_title().get_text()
    titles = [axes.get_title() for axes in figures["warmup_gauges"].axes]
    assert titles == ["token entropy (nats)", "gain by warmups (nats)", "my own gauge"]


def test_the_target_after_three_warmups_is_a_panel_and_its_differences_another(
    write_run: Write, tmp_path: Path, figures: dict[str, Figure]
) -> None:
    keys = ("warmup/target_nll_own", "warmup/target_nll_shuffled", "target_nll_empty")
    for seed, more in ((1, 0.0), (2, 4.0)):  # the values of a key, a step and a seed are like no other's
        entries = [{"step": at, **{key: i + at + more for i, key in enumerate(keys)}} for at in (10, 20)]
        write_run("warmup", seed, history=[*entries, {"step": 20, "warmup/length": 7.0}])
    draw(tmp_path)
    panel, differences, other = figures["warmup_gauges"].axes
    assert lines(panel) == {
        "own": ([10, 20], [12, 22]),
        "another's": ([10, 20], [13, 23]),
        "none": ([10, 20], [14, 24]),
    }
    level = {name: line for name, line in lines(differences).items() if "own" in name}
    assert level == {"another's − own": ([10, 20], [1, 1]), "none − own": ([10, 20], [2, 2])}
    styles = {line.get_label(): line.get_linestyle() for line in panel.get_lines()}
    assert styles == {"own": "-", "another's": "--", "none": ":"}
    assert len({to_rgb(line.get_color()) for line in panel.get_lines()}) == 3
    assert len({line.get_marker() for line in panel.get_lines()}) == 3
    assert "NLL" in panel.get_title() and [text.get_text() for text in panel.get_legend().get_texts()] == [
        *lines(panel)
    ]
    assert other.get_title() == "warmup length (tokens)" and len(other.get_lines()) == 1


def test_experiments_and_variants_are_told_apart(write_run: Write, tmp_path: Path, figures: dict[str, Figure]) -> None:
    tasks = ["logiqa", "summarization", "translation de-en", "translation en-de", "translation en-fr", "translation fr"]
    for task in tasks:
        write_run("sft", task=task, history=made_up_history("sft"))
        for samples in ("16", "4"):
            overrides = {"method.num_samples": samples}
            write_run("warmup", task=task, overrides=overrides, history=made_up_history("warmup"))
    draw(tmp_path)
    pages = [figures["learning_curves"], figures["learning_curves_2"]]
    titles = [part.get_suptitle() for page in pages for part in page.subfigs]
    assert titles == [f"{task}, tiny_t5" for task in tasks]
    assert len(pages[0].subfigs) == curves.MOST_EXPERIMENTS
    assert legend(pages[1]) == ["SFT", "warmup, num_samples 4", "warmup, num_samples 16"]
    assert sum(name.startswith("warmup_gauges") for name in figures) == len(tasks)


def test_the_stated_selection_metric_is_drawn(write_run: Write, tmp_path: Path, figures: dict[str, Figure]) -> None:
    write_run("sft", selection_metric="chrf", history=made_up_history("sft"))
    draw(tmp_path)
    axes = figures["learning_curves"].axes[0]
    assert axes.get_ylabel() == "dev chrF++" and lines(axes)["SFT"][1] == [1.0] * 5
    assert set(figures) == {"learning_curves"}  # one method: nothing to compare


def test_long_histories_are_averaged_over_spans(write_run: Write, tmp_path: Path, figures: dict[str, Figure]) -> None:
    write_run("sft", history=made_up_history("sft", steps=10_000))
    draw(tmp_path)
    steps, values = lines(figures["learning_curves"].axes[1])["SFT"]
    assert len(steps) == histories.MOST_POINTS and steps[-1] == 10_000
    first = [3.0 * math.exp(-step / 10_000) for step in range(10, 101, 10)]
    assert values[0] == pytest.approx(sum(first) / 10)


def test_values_that_are_no_numbers_are_left_out(write_run: Write, tmp_path: Path, figures: dict[str, Figure]) -> None:
    broken: list[dict[str, Any]] = [{"step": 10, "target_nll": None}, {"step": 20, "target_nll": math.inf}, {"x": 1}]
    write_run("sft", history=[*broken, {"step": "30", "target_nll": 1.0}, {"step": 30, "target_nll": 2.0}])
    draw(tmp_path)
    (axes,) = figures["learning_curves"].axes
    assert lines(axes)["SFT"] == ([30], [2.0])


def test_seeds_that_share_no_step_are_drawn_one_by_one(
    write_run: Write, tmp_path: Path, figures: dict[str, Figure]
) -> None:
    write_run("sft", 1, history=[{"step": 10, "target_nll": 1.0}])
    write_run("sft", 2, history=[{"step": 15, "target_nll": 2.0}])
    draw(tmp_path)
    drawn = figures["learning_curves"].axes[0].get_lines()
    assert [line.get_xydata().tolist() for line in drawn] == [[[10, 1]], [[15, 2]]]


def test_differences_have_their_intervals(write_answers: Write, tmp_path: Path, figures: dict[str, Figure]) -> None:
    write_answers("sft", 5)
    write_answers("warmup", 15)
    write_answers("sft", 5, model="other")
    write_answers("warmup", 5, model="other")
    draw(tmp_path)
    first, second = figures["differences"].axes
    assert first.get_title(loc="left") == "logiqa, other" and second.get_title(loc="left") == "logiqa, tiny_t5"
    assert [label.get_text() for label in first.get_yticklabels()] == ["accuracy"]
    _, bar, dot = second.get_lines()
    test = report_on(find_runs([tmp_path])).tables[0].lines[1].row.test
    assert test and list(bar.get_xdata()) == [test.low, test.high] and list(dot.get_xdata()) == [50.0]
    assert legend(figures["differences"]) == ["not significant", "significant"]


def test_quality_against_samples_and_cost(write_run: Write, tmp_path: Path, figures: dict[str, Figure]) -> None:
    for seed in (1, 2):
        write_run("sft", seed, 10.0 + seed, training_seconds=600)
        for samples in (2, 4):
            config = {"method": {"num_samples": samples}}  # the default is no override
            overrides = {} if samples == 4 else {"method.num_samples": "2"}
            seconds = 600 * samples
            write_run(
                "warmup", seed, 10.0 + samples * seed, overrides=overrides, config=config, training_seconds=seconds
            )
    draw(tmp_path)
    (axes,) = figures["quality_against_samples"].axes
    assert axes.get_ylabel() == "test BLEU" and "K" in axes.get_xlabel()
    sft, warmup = axes.get_lines()[:2]
    assert sft.get_ydata() == [11.5, 11.5] and warmup.get_xydata().tolist() == [[2, 13], [4, 16]]
    (axes,) = figures["quality_against_cost"].axes
    assert axes.get_xlabel() == "training time (min)"
    points = [container.lines[0].get_xydata().tolist()[0] for container in axes.containers]
    assert points == [[10, 11.5], [20, 13], [40, 16]]
    assert legend(figures["quality_against_cost"]) == ["SFT", "warmup, num_samples 2", "warmup, num_samples 4"]


def test_a_score_where_smaller_is_better_says_so(write_run: Write, tmp_path: Path, figures: dict[str, Figure]) -> None:
    for method, value in (("sft", 60.0), ("warmup", 55.0)):
        write_run(method, scores={"ter": {"value": value, "signature": "s"}}, selection_metric="ter")
    draw(tmp_path)
    assert [axes.get_ylabel() for axes in figures["quality_against_cost"].axes] == ["test TER ↓"]
    assert [label.get_text() for label in figures["differences"].axes[0].get_yticklabels()] == ["TER ↓"]


def ends(axes: Any) -> tuple[float, float]:
    return axes.get_ylim()


def test_axes_end_where_values_can(write_run: Write, tmp_path: Path, figures: dict[str, Figure]) -> None:
    gauges = {"distinct": 4.0, "effective_sample_size": 3.99, "distinct_inputs": 1.0, "forced_separators": 1.0}
    logged = {f"warmup/{name}": value for name, value in (gauges | {"length": 8.0, "gain": 0.0}).items()}
    config = {"method": {"name": "warmup", "num_samples": 4, "max_warmup_tokens": 8}}
    for seed, score in ((1, 100.0), (2, 97.0)):
        history = [{"step": at, "eval_rouge1": score - at, **logged} for at in (0, 97)]
        scores = {"rouge1": {"value": score, "signature": "s"}}
        write_run("warmup", seed, config=config, history=history, scores=scores, selection_metric="rouge1")
        write_run("sft", seed, history=history, scores=scores, selection_metric="rouge1", config={"method": {}})
    draw(tmp_path)
    assert ends(figures["learning_curves"].axes[0]) == (0, 100)  # a band of one deviation would reach beyond
    assert ends(figures["quality_against_cost"].axes[0])[1] == 100
    found = {axes.get_title().replace("\n", " "): ends(axes) for axes in figures["warmup_gauges"].axes}
    assert found.pop("gain by warmups (nats)")[0] == 0
    assert found == {
        "distinct warmups of K": (1, 4),
        "inputs with a warmup of their own (share)": (0, 1),
        "effective sample size": (1, 4),
        "warmup length (tokens)": (0, 8),
        "forced separators (share)": (0, 1),
    }


def test_what_is_constant_to_three_digits_is_drawn_level(
    write_run: Write, tmp_path: Path, figures: dict[str, Figure]
) -> None:
    write_run("sft", history=[{"step": 10 * at, "target_nll": 3.0 + 0.001 * (at % 2)} for at in range(9)])
    draw(tmp_path)
    bottom, top = ends(figures["learning_curves"].axes[0])
    assert top - bottom > 0.3


def test_the_sft_phase_of_a_warmup_run_is_shaded_and_named(
    write_run: Write, tmp_path: Path, figures: dict[str, Figure]
) -> None:
    history: list[dict[str, Any]] = [{"step": at, "target_nll": 5.0 - at / 100} for at in (10, 20, 30, 40)]
    for entry in history[2:]:
        entry["warmup/length"] = 4.0
    history += [{"step": 20, "eval_bleu": 0.0}, {"step": 40, "eval_bleu": 12.0}]
    write_run("warmup", history=history)
    write_run("sft", history=made_up_history("sft"))
    draw(tmp_path)
    score, likelihood = figures["learning_curves"].axes
    assert lines(score)["warmup"] == ([40], [12])  # at 20 it was made to write warmups that it had not learnt
    assert lines(likelihood)["warmup"][0] == [10, 20, 30, 40]
    for axes in (score, likelihood, *figures["warmup_gauges"].axes):
        assert [text.get_text() for text in axes.texts] == ["SFT phase"]
        assert max(patch.get_x() + patch.get_width() for patch in axes.patches) == 20


def test_gauges_stand_in_groups(write_run: Write, tmp_path: Path, figures: dict[str, Figure]) -> None:
    names = ("token_entropy", "length", "gain", "distinct", "my_own_gauge")
    write_run("warmup", history=[{"step": 10, **{f"warmup/{name}": 1.0 for name in names}}])
    draw(tmp_path)
    groups = {
        part.get_suptitle().split("\n")[-1]: [axes.get_title() for axes in part.axes]
        for part in figures["warmup_gauges"].subfigs
    }
    assert groups == {
        "How much warmups differ": ["token entropy (nats)", "distinct warmups of K"],
        "What they are worth": ["gain by warmups (nats)"],
        "Their form": ["warmup length (tokens)"],
        "Other gauges": ["my own gauge"],
    }


@pytest.mark.parametrize(
    ("text", "letters", "expected"),
    [
        ("translation de-en, tiny_t5", 20, "translation de-en,\ntiny_t5"),
        ("a_very_long_name_of_a_run", 12, "a_very_long_\nname_of_a_ru…"[:24] + "…"),
        ("one two three four five", 9, "one two\nthree…"),
        ("unbreakableword", 8, "unbreak…"),
    ],
)
def test_titles_are_broken_between_words_and_after_underscores(text: str, letters: int, expected: str) -> None:
    found = style.wrapped(text, letters)
    assert found.count("\n") <= 1 and all(len(line) <= letters for line in found.split("\n"))
    first, _, rest = found.partition("\n")
    assert text.startswith(first.rstrip("…")) and (not rest or first[-1] in " _,-/" or text[len(first)] == " ")
    assert found == expected or "_" in text


def test_the_letters_of_a_figure_are_explained_below_it(
    write_run: Write, tmp_path: Path, figures: dict[str, Figure]
) -> None:
    for rate, size in (("0.1", "2"), ("0.01", "4")):
        overrides = {"trainer.learning_rate": rate, "trainer.batch_size": size}
        write_run("sft", overrides=overrides, history=made_up_history("sft"))
    draw(tmp_path)
    figure = figures["learning_curves"]
    assert [part.get_suptitle() for part in figure.subfigs] == [f"translation de-en, tiny_t5, {x}" for x in "AB"]
    assert figure.get_supxlabel() == "A: batch_size 2, learning_rate 0.1\nB: batch_size 4, learning_rate 0.01"


def test_nothing_is_cut_off(write_run: Write, tmp_path: Path) -> None:
    """Titles, labels and legends of very long names leave a white frame around every picture."""
    names = {"task": "custom " + "long_name_without_a_space" * 4, "model": "some organisation/and its model " * 3}
    for method in ("sft", "warmup"):
        for rate in ("0.1", "0.01"):
            overrides = {"trainer.learning_rate": rate, f"method.{'x' * 70}": rate}
            write_run(method, bleu=10.0, **names, overrides=overrides, history=made_up_history(method))
    written = [name for name in draw(tmp_path) if name.endswith(".png")]
    assert len(written) == 5  # two pages of gauges
    for name in written:
        picture = imread(tmp_path / name)[:, :, :3]
        for edge in (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]):
            assert edge.min() == 1.0, name


def test_without_a_history_nothing_is_drawn(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", history=[])
    write_run("sft", 2)
    assert draw(tmp_path) == []


def test_a_broken_history_costs_a_line_and_not_the_figures(write_run: Write, tmp_path: Path) -> None:
    for seed, text in enumerate(("{", '{"step": 1}'), start=1):
        (write_run("sft", seed, folder=f"broken{seed}") / "history.json").write_text(text)
    write_run("warmup", history=made_up_history("warmup"))
    written = draw(tmp_path)
    assert "learning_curves.png" in written
    for seed in (1, 2):
        assert sum(f"broken{seed}" in line for line in written) == 1


def test_a_folder_that_cannot_be_written_is_said(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", history=made_up_history("sft"))
    (tmp_path / "learning_curves.png").mkdir()
    with pytest.raises(UserError, match="cannot write .*learning_curves.png"):
        draw(tmp_path)
    assert not list(tmp_path.glob(".learning*"))


def test_a_letter_that_the_font_lacks_is_no_warning(
    write_run: Write, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    write_run("sft", task="中文 $x^{", history=made_up_history("sft"))
    assert "learning_curves.svg" in draw(tmp_path)
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]

"""Values at the edge of what is allowed, on both sides of it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.config.composing import configured, refusal


def test_fractions_must_leave_training_data(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}\n")
    words = ["data=local", "task=summarization", f"data.train={tmp_path}/train.jsonl", "data.validation_fraction=0.5"]
    assert "data.validation_fraction + data.test_fraction is 1.0" in refusal(*words, "data.test_fraction=0.5")
    assert configured(*words, "data.test_fraction=0.49")
    assert configured(*words, "data.test_fraction=0.5", f"data.test={tmp_path}/train.jsonl")


def test_a_folder_in_a_files_place_is_called_one(tmp_path: Path) -> None:
    assert "a file, and this is a folder" in refusal("data=local", "task=summarization", f"data.train={tmp_path}")


@pytest.mark.parametrize("run", ["all", "train", "evaluate", "score"])
def test_inputs_belong_to_predict_and_checkpoints_to_no_training(run: str) -> None:
    assert "inputs is 'a.txt'; allowed: with run=predict only" in refusal(f"run={run}", "inputs=a.txt")
    if run in ("all", "train"):
        assert "with run=evaluate or run=predict only" in refusal(f"run={run}", "checkpoint=outputs/a/model")


def test_what_wandb_would_refuse_is_refused_before() -> None:
    assert configured(f"logger.project={'p' * 128}", f"logger.tags=[{'t' * 64}]")
    assert "1 to 128 letters" in refusal(f"logger.project={'p' * 129}")
    assert "tags of 1 to 64 letters" in refusal(f"logger.tags=[{'t' * 65}]")


def test_candidates_are_of_models_without_warmups_or_as_many_as_warmups() -> None:
    key = "evaluation.num_candidates"
    for method in ("sft", "pause"):
        assert configured(f"method={method}", f"{key}=4")
    both = [f"{key}=4", "evaluation.num_warmups=4"]
    assert configured("method=sft", *both) and configured("method=warmup", *both)
    for run in ("all", "train"):
        found = refusal("method=warmup", f"run={run}", f"{key}=4")
        assert f"{key} is 4; allowed: 1 for a model that writes warmups, or the same number as" in found
    words = ["run=evaluate", "checkpoint=outputs/a/model", f"{key}=4"]  # the checkpoint says which it is
    assert configured("method=warmup", *words)
    unequal = refusal("method=sft", f"{key}=4", "evaluation.num_warmups=8")
    assert f"{key} is 4; allowed: 1, or evaluation.num_warmups=8" in unequal
    beams = refusal("method=sft", f"{key}=4", "evaluation.num_beams=5")
    assert f"{key}=4 draws targets, evaluation.num_beams=5 searches" in beams
    assert f"{key} is 0; allowed: 1 to 256" in refusal("method=sft", f"{key}=0")


def test_the_substituted_examples_may_be_all_or_none() -> None:
    for number in (0, 10_000_000):
        assert configured(f"evaluation.substituted_examples={number}")
    found = refusal("evaluation.substituted_examples=-1")
    assert "evaluation.substituted_examples is -1; allowed: at least 0" in found


def test_pauses_have_their_own_key() -> None:
    assert configured("method=pause").method.num_tokens == 8
    assert "method.num_tokens is 0; allowed: 1 to 1024" in refusal("method=pause", "method.num_tokens=0")
    assert "it belongs to method=pause" in refusal("method=sft", "method.num_tokens=4")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("objective=vimco baseline=none", "method.baseline is 'none'"),
        ("objective=elbo sampler=recognition", "method.sampler is 'recognition'"),
        ("objective=vimco sampler=without_replacement", "method.sampler is 'without_replacement'"),
        ("objective=resample sampler=adaptive", "method.sampler is 'adaptive'"),
        ("objective=resample sampler=recognition", "method.sampler is 'recognition'"),
        ("objective=elbo sampling_temperature=0.7", "method.sampling_temperature is 0.7"),
        ("sampler=adaptive sampling_top_p=0.9", "method.sampling_top_p is 0.9"),
        ("sampler=recognition warmup_top_p=0.9", "method.warmup_top_p is 0.9; allowed: 1.0 with method.sampler=recog"),
        ("warmup_top_p=0", "method.warmup_top_p is 0.0; allowed: above 0, up to 1.0"),
        ("warmup_top_p=1.01", "method.warmup_top_p is 1.01; allowed: above 0, up to 1.0"),
        ("warmup_top_p=nan", "method.warmup_top_p is nan; allowed: above 0, up to 1.0"),
        ("warmup_temperature=0", "method.warmup_temperature is 0.0; allowed: 0.05 to 20.0"),
        ("warmup_temperature=20.5", "method.warmup_temperature is 20.5; allowed: 0.05 to 20.0"),
        ("sampler=adaptive num_samples=2", "method.num_samples is 2; allowed: at least 3"),
    ],
)
def test_estimators_that_do_not_go_together(words: str, part: str) -> None:
    assert part in refusal(*(f"method.{word}" for word in words.split()))


@pytest.mark.parametrize(
    "words",
    [
        "sampler=adaptive num_samples=3",
        "objective=resample sampler=without_replacement",
        "objective=resample sampling_top_p=0.9",
        "objective=vimco sampler=adaptive",
        "baseline=none",
        "sampler=recognition warmup_temperature=0.05",
        "objective=vimco sampler=adaptive warmup_temperature=20 warmup_top_p=0.001",
        "sampling_top_p=0.9 warmup_top_p=0.9",
    ],
)
def test_estimators_that_do(words: str) -> None:
    assert configured(*(f"method.{word}" for word in words.split()))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("task=yes_no task.options.labels=null", "task.options.field and task.options.labels are both null"),
        ("task=yes_no task.options.labels=[yes]", "task.options.labels is ['yes']; allowed: 2 to 26"),
        ("task=yes_no 'task.options.labels=[yes,yes]'", "2 to 26 different texts"),
        ("task=yes_no 'task.options.labels=[\" \",b]'", "2 to 26 different texts"),
        ("task=logiqa task.options.answer=anwser", "task.options.answer is 'anwser'"),
        ("task=logiqa task.options.field=answer", "another field than task.options.answer"),
        ("task=logiqa \"task.options.template='{label}'\"", "a text with {label} and {text} in it"),
        ("task=yes_no task.options.answer_with=text", "label where task.options.field is null"),
        ("task=summarization evaluation.answer_by=likelihood", "generation for a task without options"),
        ("task=logiqa evaluation.answer_by=likelyhood", "did you mean 'likelihood'?"),
        ("task=logiqa task.metrics=[bleu]", "for logiqa: accuracy, macro_f1"),
        ("task=logiqa task.name=logica", "did you mean 'logiqa'?"),
        ("task=custom task.options.field=options", "task.options.field is set without task.options.answer"),
        ("task=custom task.options.answr=target", "did you mean 'task.options.answer'?"),
    ],
)
def test_options_that_tell_nothing_apart(words: str, part: str) -> None:
    line = refusal(*shlex.split(words))
    assert part in line and "\n" not in line


def test_a_custom_task_may_have_options() -> None:
    words = ["task=custom", "task.options={field: source, answer: target}", "task.metrics=[accuracy]"]
    assert configured(*words, "task.selection_metric=accuracy").task.options.labels is None
    assert "for custom: accuracy, macro_f1" in refusal(*words[:2])


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2"])
def test_dropout_is_refused_where_a_model_has_none(architecture: str) -> None:
    assert configured(f"model.architecture={architecture}", "model.dropout=0.0")
    line = refusal(f"model.architecture={architecture}", "model.dropout=0.1")
    assert f"model.dropout is 0.1; allowed: 0 with model.architecture={architecture}" in line
    assert "model.dropout is 0.2" in refusal("model=llama_3_2_1b", "model.dropout=0.2")
    for name in ("t5", "bart"):
        assert configured(f"model.architecture={name}", "model.dropout=0.1")
    assert "did you mean 'llama'?" in refusal("model.architecture=lama")


@pytest.mark.parametrize("value", ["-0.1", "1", "1.5", "nan"])
def test_smoothing_leaves_something_of_the_labels(value: str) -> None:
    line = refusal("method=sft", f"method.label_smoothing={value}")
    assert line == f"method.label_smoothing is {float(value)}; allowed: at least 0.0 and below 1.0"
    assert configured("method=sft", "method.label_smoothing=0.999")


def test_smoothing_belongs_to_sft() -> None:
    assert "it belongs to method=sft" in refusal("method=warmup", "method.label_smoothing=0.1")


@pytest.mark.parametrize(
    ("words", "most"),
    [
        ("max_steps=600 evaluate_every=200", "3, the number of evaluations"),
        ("max_steps=601 evaluate_every=200", "4, the number of evaluations"),
        ("max_steps=-1 epochs=2.5 evaluate_by=epoch", "3, the number of evaluations"),
        ("max_steps=600 evaluate_every=100 early_stopping_patience=2", "3: trainer.early_stopping_patience=2 may end"),
    ],
)
def test_no_more_checkpoints_are_averaged_than_there_are(words: str, most: str) -> None:
    settings = [f"trainer.{word}" for word in words.split()]
    count = int(most[0])
    assert configured(*settings, f"trainer.average_checkpoints={count}")
    line = refusal(*settings, f"trainer.average_checkpoints={count + 1}")
    assert line.startswith(f"trainer.average_checkpoints is {count + 1}; allowed: 1 to {most}") and "\n" not in line

"""Training through the Hugging Face Trainer: it learns, accumulates exactly, resumes to the same numbers."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, set_seed

from tests.conftest import ARCHITECTURES
from tests.saved_model import SETTINGS
from tests.training.tiny_fit import SFT, WARMUP, copy_task, job_of, train
from warmup.config.schema import MethodConfig, SftMethod, TrainerConfig, WarmupMethod
from warmup.errors import UserError
from warmup.models.checkpoint_settings import CheckpointSettings
from warmup.models.encoding import Collator
from warmup.training.batches import ShuffledSampler
from warmup.training.checkpoints import last_checkpoint
from warmup.training.fit import fit
from warmup.training.method_model import MethodModel


@pytest.mark.parametrize("method", [SFT, WARMUP], ids=["sft", "warmup"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_falls(make_backbone, tmp_path: Path, architecture: str, method: MethodConfig) -> None:
    _, result = train(
        make_backbone, tmp_path, method, architecture, max_steps=30, learning_rate=3e-3, evaluate_every=30
    )
    losses = [entry["target_nll"] for entry in result.history if "target_nll" in entry]
    assert sum(losses[-5:]) / 5 < 0.85 * sum(losses[:5]) / 5
    written = json.loads((tmp_path / "history.json").read_text())
    assert written == result.history and all(list(entry) == sorted(entry) for entry in written)


def test_gauges_are_logged_with_every_step(make_backbone, tmp_path: Path) -> None:
    _, result = train(make_backbone, tmp_path, WARMUP)
    step = next(entry for entry in result.history if "loss" in entry)
    names = ["token_entropy", "distinct", "effective_sample_size", "length", "forced_separators", "gain"]
    assert all(f"warmup/{name}" in step for name in names)
    assert step["loss"] == pytest.approx(step["target_nll"], rel=0.02)  # the entropy bonus makes the difference


def test_warm_start_steps_are_plain_sft(make_backbone, tmp_path: Path) -> None:
    warm = WarmupMethod(num_samples=2, max_warmup_tokens=2, sft_steps=4)
    _, started = train(make_backbone, tmp_path / "a", warm)
    _, plain = train(make_backbone, tmp_path / "b", SFT)
    losses = [[entry["loss"] for entry in run.history if "loss" in entry] for run in (started, plain)]
    assert losses[0][:4] == losses[1][:4]
    assert losses[0][4:] != losses[1][4:]
    with_gauges = [entry["step"] for entry in started.history if "warmup/length" in entry]
    assert with_gauges == [5, 6, 7, 8]


@pytest.mark.parametrize(("fresh", "first"), [(True, 5), (False, 1)])
def test_a_fresh_model_is_warm_started_for_half_of_the_steps(
    make_backbone, tmp_path: Path, fresh: bool, first: int
) -> None:
    _, result = train(make_backbone, tmp_path, WARMUP, fresh=fresh)
    assert min(entry["step"] for entry in result.history if "warmup/length" in entry) == first


def test_accumulated_steps_equal_one_large_batch(make_backbone, tmp_path: Path) -> None:
    """Even though the parts hold different numbers of target tokens."""
    one_step = {"max_steps": 1, "evaluate_every": 1, "max_grad_norm": 0.0}
    train(make_backbone, tmp_path / "a", SFT, batch_size=8, **one_step)
    train(make_backbone, tmp_path / "b", SFT, batch_size=2, gradient_accumulation_steps=4, **one_step)
    large, parts = (gradients_of_one_step(tmp_path / name) for name in "ab")
    assert len(large) == len(parts) > 20
    for one, other in zip(large, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_a_job_in_bfloat16_leaves_the_next_one_of_the_process_alone(make_backbone, tmp_path: Path) -> None:
    """As a multirun's jobs are: one process after another trains them."""
    one_step = {"max_steps": 1, "evaluate_every": 1}
    for name, precision in (("a", "float32"), ("b", "bfloat16"), ("c", "float32")):
        train(make_backbone, tmp_path / name, SFT, precision=precision, **one_step)
    first, narrow, again = (gradients_of_one_step(tmp_path / name) for name in "abc")
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(first, narrow, strict=True))


def gradients_of_one_step(folder: Path) -> list[torch.Tensor]:
    """AdamW's first moment behind one step is 0.1 of the gradient. The weights tell less: they moved by its sign."""
    state = torch.load(folder / "checkpoints" / "checkpoint-1" / "optimizer.pt")["state"]
    return [10 * moments["exp_avg"] for moments in state.values()]


def test_the_loss_is_per_target_token_of_the_whole_batch(make_backbone) -> None:
    backbone = make_backbone("t5")
    batch = Collator(backbone)([copy_task(backbone)[index] for index in range(4)])
    model = MethodModel(backbone, SFT)
    alone = model(**batch)["loss"]
    halved = model(**batch, num_items_in_batch=16)["loss"]
    assert alone.item() == pytest.approx(2 * halved.item())
    expected = backbone.model(**{k: v for k, v in batch.items()}).loss
    assert alone.item() == pytest.approx(expected.item(), rel=1e-5)


def test_labels_are_smoothed_in_training_and_the_gauge_is_not(make_backbone) -> None:
    backbone = make_backbone("t5")
    batch = Collator(backbone)([copy_task(backbone)[index] for index in range(4)])
    model = MethodModel(backbone, SftMethod(label_smoothing=0.2))
    logits = backbone.model(**batch).logits.flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, batch["labels"].flatten(), label_smoothing=0.2)
    assert model(**batch)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    plain = torch.nn.functional.cross_entropy(logits, batch["labels"].flatten())
    assert model.progress.gauges["target_nll"] == [pytest.approx(plain.item(), rel=1e-5), 1]


def test_checkpoints_are_plain_models(make_backbone, tmp_path: Path) -> None:
    backbone, _ = train(make_backbone, tmp_path, WARMUP, max_steps=2, evaluate_every=2)
    checkpoint = last_checkpoint(tmp_path / "checkpoints")
    plain = AutoModelForSeq2SeqLM.from_pretrained(checkpoint)
    assert all(torch.equal(v, backbone.model.state_dict()[k]) for k, v in plain.state_dict().items())
    assert CheckpointSettings.read(str(checkpoint)) == SETTINGS


@pytest.mark.parametrize("larger_is_better", [True, False])
def test_the_best_checkpoint_is_what_remains(make_backbone, tmp_path: Path, larger_is_better: bool) -> None:
    set_seed(1)
    backbone = make_backbone("t5")
    sign = 1 if larger_is_better else -1
    scores = iter([{"dev": sign * 1.0}, {"dev": sign * 9.0}, {"dev": sign * 3.0}])
    kept: list[torch.Tensor] = []

    def score() -> dict[str, float]:
        kept.append(backbone.model.get_input_embeddings().weight.detach().clone())
        return next(scores)

    config = TrainerConfig(max_steps=6, batch_size=4, evaluate_by="steps", evaluate_every=2)
    job = replace(job_of(backbone, tmp_path, SFT, config), selection_metric="dev", larger_is_better=larger_is_better)
    fit(job, score)
    assert torch.equal(backbone.model.get_input_embeddings().weight, kept[1])
    assert not torch.equal(kept[1], kept[2])


def test_early_stopping_ends_a_run_that_gets_no_better(make_backbone, tmp_path: Path) -> None:
    backbone = make_backbone("t5")
    config = TrainerConfig(max_steps=40, batch_size=4, evaluate_by="steps", evaluate_every=2, early_stopping_patience=2)
    result = fit(job_of(backbone, tmp_path, SFT, config), lambda: {"accuracy": 1.0})
    assert result.steps == 6


def test_the_last_step_is_evaluated_even_between_intervals(make_backbone, tmp_path: Path) -> None:
    _, result = train(make_backbone, tmp_path, SFT, max_steps=5, evaluate_every=4)
    assert [entry["step"] for entry in result.history if "eval_accuracy" in entry] == [4, 5]


def test_a_loss_that_is_no_number_ends_the_run_with_advice(make_backbone, tmp_path: Path) -> None:
    backbone = make_backbone("t5")
    with torch.no_grad():
        backbone.model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"2 steps in a row had a loss .*: try a lower trainer.learning_rate"):
        fit(job_of(backbone, tmp_path, SFT, TrainerConfig(max_steps=2)), dict)


def test_epochs_differ_and_repeat_with_the_seed() -> None:
    lengths = [1 + index % 7 for index in range(50)]
    sampler = ShuffledSampler(lengths, 4, True, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(50))
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first
    spread = [
        max(lengths[i] for i in first[s : s + 4]) - min(lengths[i] for i in first[s : s + 4]) for s in range(4, 48, 4)
    ]
    assert sum(spread) / len(spread) < 2  # batches hold sentences of about one length


def test_a_collapse_is_said_once_with_what_helps(make_backbone, tmp_path: Path, caplog) -> None:
    backbone = make_backbone("t5")
    with torch.no_grad():  # an output layer so sharp that every draw is the same
        backbone.model.get_output_embeddings().weight.mul_(300)
    config = TrainerConfig(max_steps=4, batch_size=4, evaluate_by="steps", evaluate_every=4, logging_steps=1)
    method = WarmupMethod(num_samples=2, max_warmup_tokens=2, sft_steps=0)
    with caplog.at_level(logging.WARNING):
        fit(job_of(backbone, tmp_path, method, config), lambda: {"accuracy": 1.0})
    said = [message for message in caplog.messages if "collapsed" in message]
    assert len(said) == 1 and "method.entropy_coef" in said[0] and "method.baseline=mean" in said[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(make_backbone, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write"):
        train(make_backbone, tmp_path, SFT)


def test_nothing_is_said_on_standard_output_but_by_logging(make_backbone, tmp_path: Path, capsys, caplog) -> None:
    with caplog.at_level(logging.INFO):
        train(make_backbone, tmp_path, SFT, max_steps=2, evaluate_every=2)
    assert "{'loss'" not in capsys.readouterr().out
    assert any("step 2/2" in message and "loss" in message for message in caplog.messages)

"""`trainer.arguments`: the lists against Hugging Face's own, what is refused, and that what is passed on arrives."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from operator import attrgetter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from tests.config.composing import configured, refusal
from tests.training.test_guard import spoil, times
from tests.training.tiny_fit import SFT, WARMUP, train
from warmup.config.further_arguments import REASONS, REFUSED, SET_BY_KEYS, FurtherArguments
from warmup.config.neutral_keys import digest_of_numbers
from warmup.config.schema import MethodConfig, SftMethod
from warmup.errors import UserError
from warmup.models.liger import use_liger_kernels
from warmup.training.batches import FILLER, READ, EncodedExamples, WithIndices

PASSED_ON = {field.name for field in dataclasses.fields(FurtherArguments)}


def test_every_argument_of_the_trainer_is_passed_on_or_refused_for_a_reason() -> None:
    theirs = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert {*PASSED_ON, *REFUSED} == theirs
    assert not PASSED_ON & REFUSED.keys()
    assert len(REFUSED) == len(SET_BY_KEYS) + sum(len(names.split()) for names in REASONS.values())


def test_the_keys_that_are_named_instead_exist() -> None:
    config = configured()
    for key in set(SET_BY_KEYS.values()) - {"hydra.run.dir"}:
        attrgetter(key)(config)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{learning_rate: 0.1}", ["trainer.arguments.learning_rate", "set trainer.learning_rate instead"]),
        ("{load_best_model_at_end: false}", ["trainer.arguments.load_best_model_at_end", "best checkpoint"]),
        ("{neftune_noise_alpha: 5}", ["noise that differs between an input's warmups"]),
        ("{adam_eps: 0.9}", ["no key 'trainer.arguments.adam_eps'", "did you mean 'trainer.arguments.adam_epsilon'?"]),
        ("{adam_beta1: high}", ["trainer.arguments.adam_beta1 is 'high'", "a number"]),
        ("{adam_beta1: 1.0}", ["trainer.arguments.adam_beta1 is 1.0", "0.0 to 0.999999"]),
        ("{dataloader_num_workers: 1.5}", ["trainer.arguments.dataloader_num_workers is 1.5", "a whole number"]),
        ("{dataloader_prefetch_factor: 2}", ["dataloader_num_workers above 0"]),
        ("{torch_compile_mode: fast}", ["torch_compile_mode is 'fast'", "max-autotune"]),
        ("{torch_compile_mode: default}", ["torch_compile=true"]),
        ("{lr_scheduler_kwargs: {num_cycles: 2}}", ["lr_scheduler_kwargs", "null with trainer.schedule=linear"]),
        ("{label_smoothing_factor: 0.1}", ["null or 0 with method=warmup"]),
        ("7", ["trainer.arguments is 7", "a mapping"]),
    ],
)
def test_what_is_wrong_is_said_in_a_line(given: str, words: list[str]) -> None:
    line = refusal(f"trainer.arguments={given}")
    assert "\n" not in line
    for word in words:
        assert word in line


def test_what_another_key_leaves_without_effect_is_refused() -> None:
    assert "null with trainer.optimizer=adafactor" in refusal(
        "trainer.arguments={adam_beta2: 0.9}", "trainer.optimizer=adafactor"
    )


def test_a_package_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmup.config.further_arguments.find_spec", lambda name: None)
    assert "pip install liger-kernel" in refusal("trainer.arguments={use_liger_kernel: true}")
    assert "pip install deepspeed" in refusal(f"trainer.arguments={{deepspeed: {tmp_path}/zero.json}}")


def test_a_deepspeed_file_is_read_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmup.config.further_arguments.find_spec", lambda name: object())
    file = tmp_path / "zero.json"
    key = f"trainer.arguments={{deepspeed: {file}}}"
    assert "trainer.arguments.deepspeed" in refusal(key)
    file.write_text("[1]")
    assert "a JSON object" in refusal(key)
    file.write_text("{")
    assert str(file) in refusal(key)
    file.write_text(json.dumps({"zero_optimization": {"stage": 2}}))
    assert configured(key).trainer.arguments.given == {"deepspeed": str(file)}


def test_label_smoothing_has_one_meaning_under_both_names() -> None:
    method = configured("method=sft", "trainer.arguments={label_smoothing_factor: 0.2}").method
    assert isinstance(method, SftMethod) and method.label_smoothing == 0.2
    both = refusal("method=sft", "method.label_smoothing=0.1", "trainer.arguments={label_smoothing_factor: 0.1}")
    assert "null beside method.label_smoothing=0.1" in both
    assert "method=pause" in refusal("method=pause", "trainer.arguments={label_smoothing_factor: 0.1}")


def test_numbers_tell_runs_apart_and_workers_do_not() -> None:
    def digest(**arguments: Any) -> str:
        none = dict.fromkeys(PASSED_ON)
        return digest_of_numbers({"trainer": {"arguments": {**none, **arguments}}})

    assert digest(dataloader_num_workers=4, ddp_timeout=60) == digest()
    assert len({digest(), digest(adam_beta2=0.98), digest(torch_compile=True), digest(deepspeed="a.json")}) == 4


def test_adam_takes_its_settings(make_backbone, tmp_path: Path) -> None:
    """A first step of AdamW is lr * m / (sqrt(v) + eps), with m and v corrected: eps alone changes it."""
    plain, _ = train(make_backbone, tmp_path / "plain", SFT, max_steps=1, evaluate_every=1)
    small = FurtherArguments(adam_epsilon=1.0)
    damped, _ = train(make_backbone, tmp_path / "damped", SFT, max_steps=1, evaluate_every=1, arguments=small)
    start = make_backbone("t5").model.state_dict()
    moved = [
        max((backbone.model.state_dict()[name] - start[name]).abs().max().item() for name in start)
        for backbone in (plain, damped)
    ]
    assert moved[0] > 0.9e-3 > 5e-4 > moved[1] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        FurtherArguments(dataloader_num_workers=2, dataloader_prefetch_factor=3, dataloader_persistent_workers=True),
        FurtherArguments(torch_compile=True, torch_compile_backend="eager"),
    ],
    ids=["workers", "compiled"],
)
@pytest.mark.parametrize("method", [SFT, WARMUP], ids=["sft", "warmup"])
def test_the_same_steps_are_taken(
    make_backbone, tmp_path: Path, method: MethodConfig, arguments: FurtherArguments
) -> None:
    plain, _ = train(make_backbone, tmp_path / "plain", method, max_steps=7)
    other, _ = train(make_backbone, tmp_path / "other", method, max_steps=7, arguments=arguments)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(other.model.state_dict()[name], value, rtol=0, atol=1e-6)


def test_workers_read_ahead_and_the_record_of_a_bad_step_names_its_own_examples(
    make_backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without workers: examples 0, 1, ... are in the steps in which they are computed."""
    recorded = {}
    for name, arguments in (
        ("none", FurtherArguments()),
        ("two", FurtherArguments(dataloader_num_workers=2)),
    ):
        spoil(monkeypatch, {step: times(math.nan) for step in range(3, 100)})
        with pytest.raises(UserError, match="not finite"):
            train(make_backbone, tmp_path / name, SFT, max_steps=20, arguments=arguments)
        recorded[name] = json.loads((tmp_path / name / "skipped_steps.json").read_text())
    examples = [[step["examples"] for step in steps] for steps in recorded.values()]
    assert examples[0] == examples[1] and all(len(step) == 4 for step in examples[0])


def test_the_settings_of_one_job_are_not_left_for_the_next(make_backbone, tmp_path: Path) -> None:
    compiled = FurtherArguments(torch_compile=True, torch_compile_backend="eager")
    train(make_backbone, tmp_path / "first", SFT, max_steps=1, evaluate_every=1, arguments=compiled)
    monitored: list[str] = []

    def seen(model: Any, *arguments: Any, **keywords: Any) -> Any:
        monitored.append("compiled")
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", seen)
        train(make_backbone, tmp_path / "second", SFT, max_steps=1, evaluate_every=1)
    assert not monitored


def test_what_only_the_machine_can_tell_is_a_line_too(make_backbone, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has TF32")
    with pytest.raises(UserError, match="trainer.arguments is {'tf32': True}"):
        train(make_backbone, tmp_path, SFT, arguments=FurtherArguments(tf32=True))


def test_liger_s_kernels_are_asked_for_what_the_loss_does_not_need(
    make_backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the package, whose kernels no CPU runs; other models of the process keep their classes."""
    model = make_backbone("llama").model
    modeling = sys.modules[type(model).__module__]
    norm, asked = modeling.LlamaRMSNorm, {}

    def apply(model: Any, **which: bool) -> None:
        asked.update(which)
        modeling.LlamaRMSNorm = None  # type: ignore[attr-defined]

    patching = SimpleNamespace(MODEL_TYPE_TO_APPLY_LIGER_FN={"llama": None}, _apply_liger_kernel_to_instance=apply)
    package, inner = ModuleType("liger_kernel"), ModuleType("liger_kernel.transformers")
    inner.monkey_patch = patching  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "liger_kernel", package)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", inner)
    with pytest.raises(UserError, match="null for a llama on cpu"):
        use_liger_kernels(model)
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    use_liger_kernels(model)
    assert asked == {"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False}
    assert modeling.LlamaRMSNorm is norm
    with pytest.raises(UserError, match="null for a t5"):
        use_liger_kernels(make_backbone("t5").model)


def test_a_filler_is_no_example() -> None:
    data = EncodedExamples([[1]], [[2]])
    batch = WithIndices(lambda rows: {"labels": len(rows)})([data[0], data[FILLER]])
    assert batch == {"labels": 2, READ: [0]}

"""`trainer.arguments`: what else of Hugging Face's TrainingArguments may be set, and why the rest may not.

Stated without transformers, which takes seconds to import; a test holds both lists against TrainingArguments itself.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from warmup.config.fields import choice, number
from warmup.errors import UserError, wrong_value
from warmup.files import check_file, read_json

KEY = "trainer.arguments"
ARGUMENT_PACKAGES = {"deepspeed": "deepspeed", "use_liger_kernel": "liger_kernel"}  # argument -> the module it needs
SCHEDULE_SETTINGS = {"cosine": "num_cycles", "inverse_sqrt": "timescale"}  # trainer.schedule -> what it can be told
JUST_BELOW_ONE = 0.999999


@dataclass
class FurtherArguments:
    """Passed on to the Trainer under the same names; null leaves what it would have."""

    adam_beta1: float | None = number(None, 0.0, JUST_BELOW_ONE)
    adam_beta2: float | None = number(None, 0.0, JUST_BELOW_ONE)
    adam_epsilon: float | None = number(None, 1e-20, 1.0)
    lr_scheduler_kwargs: Any = None  # a mapping; not a typed one, to which OmegaConf would let nobody add a name
    label_smoothing_factor: float | None = number(None, 0.0, JUST_BELOW_ONE)  # of SFT, as method.label_smoothing
    full_determinism: bool | None = None
    tf32: bool | None = None
    torch_compile: bool | None = None
    torch_compile_backend: str | None = choice(None, "inductor", "aot_eager", "cudagraphs", "eager")
    torch_compile_mode: str | None = choice(
        None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"
    )
    use_liger_kernel: bool | None = None
    deepspeed: str | None = None  # a file
    torch_empty_cache_steps: int | None = number(None, 1, 10**9)
    dataloader_num_workers: int | None = number(None, 0, 1024)
    dataloader_prefetch_factor: int | None = number(None, 1, 1024)
    dataloader_persistent_workers: bool | None = None
    dataloader_pin_memory: bool | None = None
    ddp_backend: str | None = choice(None, "gloo", "nccl", "mpi")
    ddp_bucket_cap_mb: int | None = number(None, 1, 10**6)
    ddp_broadcast_buffers: bool | None = None
    ddp_find_unused_parameters: bool | None = None
    ddp_timeout: int | None = number(None, 1, 10**7)

    @property
    def given(self) -> dict[str, Any]:
        """Those that are set, but for label smoothing, which is the method's."""
        found = {own.name: getattr(self, own.name) for own in fields(self) if own.name != "label_smoothing_factor"}
        return {name: value for name, value in found.items() if value is not None}

    def check(self, optimizer: str, schedule: str) -> None:
        """See that each has an effect, and that what it needs is there.

        Raises:
            UserError: naming the key, or the package that is not there.
        """
        for name, module in ARGUMENT_PACKAGES.items():
            if getattr(self, name) and find_spec(module) is None:
                package = module.replace("_", "-")
                raise UserError(f"{KEY}.{name} needs a package that is not installed: pip install {package}")
        for name in ("adam_beta1", "adam_beta2", "adam_epsilon"):
            if getattr(self, name) is not None and optimizer != "adamw":
                raise wrong_value(f"{KEY}.{name}", getattr(self, name), f"null with trainer.optimizer={optimizer}")
        self._check_schedule(schedule)
        for name in ("dataloader_prefetch_factor", "dataloader_persistent_workers"):
            if getattr(self, name) and not self.dataloader_num_workers:
                raise wrong_value(f"{KEY}.{name}", getattr(self, name), f"with {KEY}.dataloader_num_workers above 0")
        for name in ("torch_compile_backend", "torch_compile_mode"):
            if getattr(self, name) and not self.torch_compile:
                raise wrong_value(f"{KEY}.{name}", getattr(self, name), f"with {KEY}.torch_compile=true")
        if self.deepspeed:
            check_file(self.deepspeed, f"{KEY}.deepspeed")
            if not isinstance(read_json(Path(self.deepspeed).expanduser()), dict):
                raise wrong_value(f"{KEY}.deepspeed", self.deepspeed, "a file that holds a JSON object")

    def _check_schedule(self, schedule: str) -> None:
        given, known = self.lr_scheduler_kwargs, SCHEDULE_SETTINGS.get(schedule)
        if given is None:
            return
        numbers = isinstance(given, dict) and all(type(value) in (int, float) for value in given.values())
        if not numbers or set(given) - {known} or any(value <= 0 for value in given.values()):
            allowed = f"{{{known}: NUMBER}}, above 0," if known else "null"
            raise wrong_value(f"{KEY}.lr_scheduler_kwargs", given, f"{allowed} with trainer.schedule={schedule}")


# What a key of this program sets: argument -> key.
SET_BY_KEYS = {
    "output_dir": "hydra.run.dir",
    "per_device_train_batch_size": "trainer.batch_size",
    "per_gpu_train_batch_size": "trainer.batch_size",
    "per_device_eval_batch_size": "evaluation.batch_size",
    "per_gpu_eval_batch_size": "evaluation.batch_size",
    "gradient_accumulation_steps": "trainer.gradient_accumulation_steps",
    "learning_rate": "trainer.learning_rate",
    "weight_decay": "trainer.weight_decay",
    "max_grad_norm": "trainer.max_grad_norm",
    "num_train_epochs": "trainer.epochs",
    "max_steps": "trainer.max_steps",
    "lr_scheduler_type": "trainer.schedule",
    "warmup_ratio": "trainer.lr_warmup_steps",
    "warmup_steps": "trainer.lr_warmup_steps",
    "optim": "trainer.optimizer",
    "adafactor": "trainer.optimizer",
    "bf16": "trainer.precision",
    "bf16_full_eval": "trainer.precision",
    "eval_strategy": "trainer.evaluate_by",
    "eval_steps": "trainer.evaluate_every",
    "save_strategy": "trainer.evaluate_by",
    "save_steps": "trainer.evaluate_every",
    "save_total_limit": "trainer.keep_checkpoints",
    "logging_strategy": "trainer.logging_steps",
    "logging_steps": "trainer.logging_steps",
    "metric_for_best_model": "task.selection_metric",
    "greater_is_better": "task.selection_metric",
    "group_by_length": "trainer.group_by_length",
    "gradient_checkpointing": "trainer.gradient_checkpointing",
    "seed": "seed",
    "data_seed": "seed",
    "use_cpu": "device",
    "no_cuda": "device",
    "do_train": "run",
    "do_eval": "run",
    "do_predict": "run",
    "resume_from_checkpoint": "hydra.run.dir",
    "report_to": "logger",
    "logging_dir": "logger",
    "project": "logger.project",
    "run_name": "logger.project",
    "push_to_hub": "push_to_hub",
    "hub_model_id": "push_to_hub",
    "push_to_hub_model_id": "push_to_hub",
    "push_to_hub_organization": "push_to_hub",
    "torchdynamo": f"{KEY}.torch_compile_backend",
}
# What would break something that the program promises, or do nothing in it: reason -> arguments.
REASONS = {
    "the best checkpoint is what is saved and scored, and a run resumes from its last one, so it writes them itself": (
        "load_best_model_at_end save_safetensors save_on_each_node save_only_model ignore_data_skip "
        "restore_callback_states_from_checkpoint overwrite_output_dir"
    ),
    "the dev score is of decoded answers, at every checkpoint": (
        "prediction_loss_only eval_accumulation_steps eval_delay eval_on_start eval_do_concat_batches "
        "eval_use_gather_object batch_eval_metrics include_inputs_for_metrics include_for_metrics jit_mode_eval "
        "use_legacy_prediction_loop past_index"
    ),
    "batches are made so that a resumed run, and any number of processes, sees the same examples": (
        "dataloader_drop_last accelerator_config remove_unused_columns length_column_name label_names "
        "auto_find_batch_size average_tokens_across_devices"
    ),
    "the program logs this itself, in its own words": (
        "log_level log_level_replica log_on_each_node logging_first_step logging_nan_inf_filter disable_tqdm debug "
        "skip_memory_metrics include_tokens_per_second include_num_input_tokens_seen trackio_space_id"
    ),
    "float16 needs its losses scaled, and warmups are weighed by theirs: trainer.precision=bfloat16 is narrow too": (
        "fp16 fp16_opt_level fp16_backend half_precision_backend fp16_full_eval"
    ),
    "noise that differs between an input's warmups would be taken for a difference between them": "neftune_noise_alpha",
    "trainer.gradient_checkpointing recomputes with the same noise, which this would not": (
        "gradient_checkpointing_kwargs"
    ),
    "it belongs to optimizers that trainer.optimizer does not have": "optim_args optim_target_modules",
    "the loss is the program's own, in chunks": "liger_kernel_config",
    "processes are started by torchrun or accelerate launch, whose options say this": (
        "fsdp fsdp_min_num_params fsdp_config fsdp_transformer_layer_cls_to_wrap parallelism_config local_rank "
        "mp_parameters _n_gpu ray_scope"
    ),
    "device is cpu or cuda": "use_mps_device tpu_num_cores tpu_metrics_debug",
    "push_to_hub=NAME sends the model after its evaluation; the token comes from HF_TOKEN or `hf auth login`": (
        "hub_strategy hub_token hub_private_repo hub_always_push hub_revision push_to_hub_token"
    ),
}
REFUSED = {name: f"set {key} instead" for name, key in SET_BY_KEYS.items()} | {
    name: reason for reason, names in REASONS.items() for name in names.split()
}

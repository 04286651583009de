"""The typed schema of every configuration value; ranges and choices stand beside the types.

Hydra checks names and types when it composes a configuration; `warmup.config.checks` then reads the
`metadata` written here, so that a range is stated once, next to the value it bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

# What a fresh model may be: the rows of `warmup.models.model_types`.
ARCHITECTURES = ("t5", "mt5", "bart", "mbart", "llama", "mistral", "qwen2")


def number(default: Any, low: float | None = None, high: float | None = None) -> Any:
    """A numeric value in the closed range [low, high]; None leaves a side open."""
    return field(default=default, metadata={"low": low, "high": high})


def choice(default: Any, *allowed: str) -> Any:
    """A value out of a fixed list."""
    return field(default=default, metadata={"choices": allowed})


def mapping() -> Any:
    """A mapping of names, or null. Not a typed dict: OmegaConf would let nobody add a name to an empty one."""
    return field(default=None, metadata={"mapping": True})


def folders(default: str) -> Any:
    """A folder, a list of folders, or globs. Not typed here: OmegaConf has no union of text and list."""
    return field(default=default, metadata={"folders": True})


@dataclass
class HubSplit:
    """One split of a Hugging Face data set, and where its columns hold the task's fields."""

    path: str | None = None  # hub name, or a local folder of the same layout
    name: str | None = None  # configuration of the data set
    split: str = "train"
    fields: Any = mapping()  # task field -> column, dots reach into structs


@dataclass
class HubSplits:
    """The three splits of a task on the hub."""

    train: HubSplit = field(default_factory=HubSplit)
    validation: HubSplit = field(default_factory=HubSplit)
    test: HubSplit = field(default_factory=HubSplit)


@dataclass
class TaskConfig:
    """What the examples look like to the model, and how its answers are scored."""

    name: str = choice(MISSING, "translation", "summarization", "logiqa", "custom")
    source_template: str = MISSING
    target_template: str = MISSING
    metrics: list[str] = MISSING
    selection_metric: str = MISSING  # the dev score that picks the best checkpoint
    max_source_tokens: int = number(MISSING, 4, 1_000_000)
    max_target_tokens: int = number(MISSING, 2, 1_000_000)
    source_language: str | None = None  # codes or names; a translation needs both
    target_language: str | None = None
    hub: HubSplits = field(default_factory=HubSplits)


@dataclass
class DataConfig:
    """What every source of examples has in common."""

    kind: str = choice(MISSING, "toy", "local", "hub")
    max_train_examples: int | None = number(None, 1)
    max_validation_examples: int | None = number(None, 1)
    max_test_examples: int | None = number(None, 1)


@dataclass
class ToyData(DataConfig):
    """Examples made up by `warmup.data.toy`, seeded."""

    kind: str = choice("toy", "toy")
    train_size: int = number(2000, 1, 1_000_000)
    validation_size: int = number(100, 1, 100_000)
    test_size: int = number(200, 1, 100_000)
    seed: int = number(0, 0, 2**31 - 1)


@dataclass
class LocalData(DataConfig):
    """Files: each split is one table (`train`) or two parallel text files (`train_source`, `train_target`)."""

    kind: str = choice("local", "local")
    train: str | None = None
    train_source: str | None = None
    train_target: str | None = None
    validation: str | None = None
    validation_source: str | None = None
    validation_target: str | None = None
    test: str | None = None
    test_source: str | None = None
    test_target: str | None = None
    fields: Any = mapping()  # task field -> column of the file
    validation_fraction: float = number(0.1, 0.0, 0.9)  # split off the training file where no file is named
    test_fraction: float = number(0.1, 0.0, 0.9)
    split_seed: int = number(0, 0, 2**31 - 1)


@dataclass
class HubData(DataConfig):
    """Data sets of the Hugging Face hub; the names come from the task and each can be overridden."""

    kind: str = choice("hub", "hub")
    train: HubSplit = field(default_factory=HubSplit)
    validation: HubSplit = field(default_factory=HubSplit)
    test: HubSplit = field(default_factory=HubSplit)


@dataclass
class ModelConfig:
    """Which model is trained: weights from the hub or a folder, or a fresh one of the given size."""

    name: str = MISSING  # the label in tables
    pretrained: str | None = None  # hub name or folder; None builds a fresh model from the values below
    revision: str | None = None
    architecture: str = choice("t5", *ARCHITECTURES)
    vocabulary_size: int = number(2000, 64, 1_000_000)  # of the tokenizer trained on the training split
    width: int = number(64, 8, 65536)
    layers: int = number(2, 1, 256)  # of the encoder and of the decoder each, or of the causal LM
    heads: int = number(4, 1, 256)
    feed_forward: int = number(128, 8, 262144)
    dropout: float = number(0.1, 0.0, 0.9)  # of encoder-decoders; the others have none


@dataclass
class MethodConfig:
    """How the model is trained and answers."""

    name: str = choice(MISSING, "sft", "warmup")


@dataclass
class SftMethod(MethodConfig):
    """Supervised fine-tuning: the target straight from the source."""

    name: str = choice("sft", "sft")


@dataclass
class WarmupMethod(MethodConfig):
    """A latent warmup before the target (design, section 1)."""

    name: str = choice("warmup", "warmup")
    num_samples: int = number(4, 1, 256)  # K
    max_warmup_tokens: int = number(8, 1, 1024)
    objective: str = choice("marginal", "marginal", "vimco", "elbo", "resample")
    baseline: str = choice("mean", "mean", "loo", "none")  # of marginal and resample; the others bring their own
    sampler: str = choice("iid", "iid", "without_replacement", "adaptive", "recognition")
    sampling_temperature: float = number(1.0, 0.05, 20.0)  # of sampler=iid; other than 1 gets importance weights
    sampling_top_p: float = number(1.0, 0.01, 1.0)  # of sampler=iid; below 1 the likelihood is a lower bound
    posterior_temperature: float = number(1.0, 1e-3, 1e3)
    entropy_coef: float = number(0.001, 0.0, 100.0)
    # Optimiser steps of plain SFT before the first warmup is sampled. None: half of all for a model built fresh,
    # whose first warmups would be noise, and none for a pretrained one.
    sft_steps: int | None = number(None, 0)


@dataclass
class TrainerConfig:
    """Optimisation, passed to the Hugging Face Trainer."""

    max_steps: int = number(-1, -1)  # -1: as many as `epochs` needs
    epochs: float | None = number(None, 1e-6, 1e6)
    batch_size: int = number(16, 1, 65536)  # per device
    gradient_accumulation_steps: int = number(1, 1, 65536)
    learning_rate: float = number(1e-3, 1e-9, 10.0)
    optimizer: str = choice("adamw", "adamw", "adafactor")
    weight_decay: float = number(0.0, 0.0, 1.0)
    schedule: str = choice("linear", "linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt")
    lr_warmup_steps: int = number(0, 0)
    max_grad_norm: float = number(1.0, 0.0, 1e6)  # 0 switches clipping off
    precision: str = choice("auto", "auto", "float32", "bfloat16")  # auto: bfloat16 on CUDA where it has it
    gradient_checkpointing: bool = False
    group_by_length: bool = True
    evaluate_by: str = choice("epoch", "epoch", "steps")
    evaluate_every: int = number(100, 1)  # steps, when evaluate_by=steps
    early_stopping_patience: int = number(0, 0)  # evaluations without a better dev score; 0 never stops early
    keep_checkpoints: int = number(1, 1, 1000)  # beside the best one
    logging_steps: int = number(10, 1)


@dataclass
class EvaluationConfig:
    """Two-phase decoding: the warmup, then the target; and the models of the neural metrics."""

    batch_size: int = number(64, 1, 65536)  # inputs decoded at a time, and examples that a neural metric scores
    num_beams: int = number(1, 1, 64)  # of the target; 1 is greedy
    warmup_num_beams: int = number(1, 1, 64)
    sample_warmup: bool = False  # drawn instead of greedy or by beam
    num_warmups: int = number(1, 1, 256)  # M; above 1 they are drawn, and their marginal likelihood picks the answer
    length_penalty: float = number(1.0, -10.0, 10.0)
    comet_model: str = "Unbabel/wmt22-comet-da"  # hub name, model.ckpt, or the folder that holds checkpoints/model.ckpt
    bertscore_model: str = "roberta-large"  # hub name or folder
    bertscore_layer: int | None = number(None, 0, 1000)  # None: bert_score's recommendation, else the last
    bertscore_rescale: bool = False  # with bert_score's own baseline for the model and the target language


@dataclass
class LoggerConfig:
    """Where training curves go besides the run folder."""

    name: str = choice("none", "none", "wandb")
    project: str = "warmup-generations"
    entity: str | None = None
    mode: str = choice("online", "online", "offline", "disabled")
    tags: list[str] = field(default_factory=list)  # beside task, data, model, method and seed
    log_model: bool = False  # as artifacts
    log_predictions: bool = False


@dataclass
class Config:
    """The whole experiment."""

    run: str = choice("all", "all", "train", "evaluate", "predict", "score", "tables", "wandb_report")
    seed: int = number(1, 0, 2**31 - 1)
    device: str = choice("auto", "auto", "cpu", "cuda")
    checkpoint: str | None = None  # a trained model, for run=evaluate and run=predict
    inputs: str | None = None  # a file of sources without references, for run=predict
    predictions: str | None = None  # for run=score: answers made by anything, JSON lines or plain text
    references: str | None = None  # for run=score: their references, where the predictions file has none
    sources: str | None = None  # for run=score: their sources, which COMET reads
    runs: Any = folders("outputs")  # whose runs run=tables compares
    task: TaskConfig = MISSING
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    method: MethodConfig = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)


def register() -> None:
    """Make the schema known to Hydra; each YAML file in `conf` starts from one of these."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    groups: dict[str, list[type]] = {
        "task": [TaskConfig],
        "data": [ToyData, LocalData, HubData],
        "model": [ModelConfig],
        "method": [SftMethod, WarmupMethod],
        "trainer": [TrainerConfig],
        "evaluation": [EvaluationConfig],
        "logger": [LoggerConfig],
    }
    for group, nodes in groups.items():
        for node in nodes:
            store.store(group=f"schema/{group}", name=node.__name__, node=node, package=group)

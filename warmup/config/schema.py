"""The typed schema of every configuration value, as Hydra composes it; each section checks itself in its own file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from warmup.config.data import DataConfig, HubData, LocalData, ToyData
from warmup.config.environment import register_environment
from warmup.config.evaluation import EvaluationConfig
from warmup.config.fields import choice, folders, number
from warmup.config.hub_splits import HubSplit, HubSplits
from warmup.config.logger import LoggerConfig
from warmup.config.lora import LoraConfig
from warmup.config.method import MethodConfig, PauseMethod, SftMethod, WarmupMethod
from warmup.config.model import ModelConfig
from warmup.config.task import OptionsConfig, TaskConfig
from warmup.config.trainer import TrainerConfig

__all__ = [
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "HubData",
    "HubSplit",
    "HubSplits",
    "LocalData",
    "LoggerConfig",
    "LoraConfig",
    "MethodConfig",
    "ModelConfig",
    "OptionsConfig",
    "PauseMethod",
    "SftMethod",
    "TaskConfig",
    "ToyData",
    "TrainerConfig",
    "WarmupMethod",
    "register",
]


@dataclass
class Config:
    """The whole experiment."""

    run: str = choice("all", "all", "train", "evaluate", "predict", "score", "tables", "status", "wandb_report")
    seed: int = number(1, 0, 2**31 - 1)
    device: str = choice("auto", "auto", "cpu", "cuda")
    checkpoint: str | None = None  # a trained model, for run=evaluate and run=predict
    inputs: str | None = None  # a file of sources without references, for run=predict
    predictions: str | None = None  # for run=score: answers made by anything, JSON lines or plain text
    references: str | None = None  # for run=score: their references, where the predictions file has none
    sources: str | None = None  # for run=score: their sources, which COMET reads
    push_to_hub: str | None = None  # where on the Hugging Face hub the model and its card go when all is done
    runs: Any = folders("outputs")  # whose runs run=tables compares and run=status shows
    task: TaskConfig = MISSING
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    method: MethodConfig = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)


def register() -> None:
    """Make the schema known to Hydra; the YAML files of most groups start from one of these."""
    register_environment()
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    groups: dict[str, list[type]] = {
        "task": [TaskConfig],
        "data": [ToyData, LocalData, HubData],
        "model": [ModelConfig],
        "method": [SftMethod, PauseMethod, WarmupMethod],
        "trainer": [TrainerConfig],
        "evaluation": [EvaluationConfig],
    }
    for group, nodes in groups.items():
        for node in nodes:
            store.store(group=f"schema/{group}", name=node.__name__, node=node, package=group)

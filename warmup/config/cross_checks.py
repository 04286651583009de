"""What sections of the configuration must agree on, and what each stage needs."""

from __future__ import annotations

import glob
import logging
from pathlib import Path

from warmup.config.data import HubData
from warmup.config.facts import Facts
from warmup.config.languages import TOY, language_code, resolve_language
from warmup.config.method import SftMethod, WarmupMethod
from warmup.config.schema import Config
from warmup.config.templates import check_option_template
from warmup.errors import UserError, nearest, wrong_value
from warmup.files import check_file

log = logging.getLogger(__name__)


def check_sections(config: Config, facts: Facts) -> None:
    """Hold the sections, each good by itself, against each other.

    Raises:
        UserError: naming the key, what it was and what is allowed.
    """
    _check_steps(config)
    _check_stream(config)
    _check_averaged_adapters(config)
    _check_ranked_options(config)
    _take_label_smoothing(config)
    most, fewest = config.task.max_target_tokens, config.evaluation.min_new_tokens
    if fewest >= most:
        raise wrong_value("evaluation.min_new_tokens", fewest, f"below task.max_target_tokens={most}")
    if config.run in ("all", "train"):
        config.evaluation.check_candidates(isinstance(config.method, WarmupMethod))
    for key in facts.model_keys(config.task.metrics):
        config.evaluation.check_metric_model(key)
    _check_device(config.device)
    _check_stage(config)


def check_toy_language(config: Config) -> None:
    """The toy data's language is made up, so it is nobody else's.

    Raises:
        UserError: a translation of other data keeps it.
    """
    task = config.task
    if (
        task.name == "translation"
        and config.data.kind != "toy"
        and config.run in ("all", "train", "evaluate")
        and resolve_language("task.target_language", str(task.target_language)) == TOY
    ):
        raise wrong_value(
            "task.target_language",
            task.target_language,
            f"the language of your data (data={config.data.kind}), as task.source_language=de task.target_language=en, "
            "or a preset such as task=translation_de_en",
        )


def warn_of_made_up_language(config: Config) -> None:
    """Scores of the toy translation are of a language that nobody speaks."""
    task = config.task
    if config.data.kind == "toy" and task.name == "translation" and language_code(task.target_language) != TOY.code:
        log.warning("data=toy makes up a language of its own: these are not %s scores", task.target_language)


def _check_steps(config: Config) -> None:
    steps, method = config.trainer.max_steps, config.method
    if isinstance(method, WarmupMethod) and 0 < steps <= (method.sft_steps or 0):
        raise wrong_value("method.sft_steps", method.sft_steps, f"below trainer.max_steps={steps}")


def _check_stream(config: Config) -> None:
    """What needs all training examples at once, or their number, is not there in a stream."""
    if not isinstance(config.data, HubData) or not config.data.endless or config.run not in ("all", "train"):
        return
    else_whole = "or data.max_train_examples=N, which trains on the first N"
    if not config.model.pretrained:
        why = "the tokenizer of a fresh model is trained on all examples"
        raise UserError(f"data.streaming=true needs model.pretrained=NAME, since {why}; {else_whole}")
    if config.trainer.max_steps < 0:
        raise wrong_value("trainer.epochs", config.trainer.epochs, f"trainer.max_steps=N for a stream, {else_whole}")
    if config.trainer.evaluate_by == "epoch":
        raise wrong_value("trainer.evaluate_by", "epoch", f"steps for a stream, {else_whole}")


def _check_averaged_adapters(config: Config) -> None:
    averaged = config.trainer.average_checkpoints
    if config.model.lora.rank and averaged > 1:
        reason = "the mean of B and the mean of A do not make the mean of B A"
        raise wrong_value("trainer.average_checkpoints", averaged, f"1 with model.lora.rank: {reason}")


def _take_label_smoothing(config: Config) -> None:
    """Hugging Face's spelling is the method's own: the Trainer's smoother knows nothing of our loss."""
    key, method = "trainer.arguments.label_smoothing_factor", config.method
    value = config.trainer.arguments.label_smoothing_factor
    if not value:
        return
    if not isinstance(method, SftMethod):
        reason = (
            "warmups are weighed by the likelihood of the target as it is" if method.name == "warmup" else "it is SFT's"
        )
        raise wrong_value(key, value, f"null or 0 with method={method.name}: {reason}")
    if method.label_smoothing:
        raise wrong_value(key, value, f"null beside method.label_smoothing={method.label_smoothing}, which is the same")
    method.label_smoothing = value


def _check_ranked_options(config: Config) -> None:
    answer = config.task.options.answer
    if answer is None and config.evaluation.answer_by == "likelihood" and config.run in ("all", "train", "evaluate"):
        raise wrong_value("evaluation.answer_by", "likelihood", "generation for a task without options, as this one is")
    if answer is not None and config.evaluation.ranks and config.run in ("all", "evaluate"):
        check_option_template(config.task.target_template, answer)


def _check_device(device: str) -> None:
    if device == "cuda":
        import torch  # here, since it takes seconds that a typing mistake or --help need not wait for

        if not torch.cuda.is_available():
            raise wrong_value("device", "cuda", "auto or cpu: this machine has no usable CUDA device")


def _check_stage(config: Config) -> None:
    if config.checkpoint and config.run in ("all", "train"):
        raise wrong_value(
            "checkpoint",
            config.checkpoint,
            f"with run=evaluate or run=predict only; to train on from a model, model.pretrained={config.checkpoint}",
        )
    if config.checkpoint and config.run not in ("evaluate", "predict"):
        raise wrong_value("checkpoint", config.checkpoint, "with run=evaluate or run=predict only")
    if config.run == "wandb_report" and config.logger.mode != "online":
        raise wrong_value("logger.mode", config.logger.mode, "online: run=wandb_report asks wandb's server for a view")
    if config.push_to_hub:
        _check_hub_name(config.push_to_hub, config.run)
    for key in ("predictions", "references", "sources"):
        if getattr(config, key) and config.run != "score":
            raise wrong_value(key, getattr(config, key), "with run=score only")
    if config.inputs and config.run != "predict":
        raise wrong_value("inputs", config.inputs, "with run=predict only")
    if config.run in ("evaluate", "predict") and not config.checkpoint and not config.model.pretrained:
        raise UserError(
            f"checkpoint is not set: run={config.run} needs a trained model, checkpoint=outputs/RUN/model or a hub name"
        )
    if config.run == "predict":
        if not config.inputs:
            raise UserError("inputs is not set: run=predict answers a file of sources, inputs=FILE")
        check_file(config.inputs, "inputs")
    if config.run == "score":
        if not config.predictions:
            raise UserError("predictions is not set: run=score scores a file of answers, predictions=FILE")
        for key in ("predictions", "references", "sources"):
            if path := getattr(config, key):
                check_file(path, key)
    if config.run in ("tables", "status"):
        run_folders(config.runs)


def _check_hub_name(name: str, stage: str) -> None:
    from huggingface_hub.errors import HFValidationError  # here, so that --help need not wait for it
    from huggingface_hub.utils import validate_repo_id

    if stage not in ("all", "train"):
        raise wrong_value("push_to_hub", name, "with run=all or run=train, which train a model")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise wrong_value("push_to_hub", name, "NAME or USER/NAME: letters, digits, - _ and ., 96 at most") from error


def run_folders(runs: str | list[str]) -> list[Path]:
    """The folders that `runs` names: one or a list, each a path or a glob such as outputs/2026-*.

    Raises:
        UserError: one of them matches no folder.
    """
    found = []
    for name in [runs] if isinstance(runs, str) else runs:
        path = Path(name).expanduser()
        matches = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)))
        folders = [match for match in matches if match.is_dir()]
        if not folders:
            beside = [str(entry) for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            raise wrong_value("runs", name, "a folder that holds runs, a list [a,b] or a glob", nearest(path, beside))
        found += folders
    return found

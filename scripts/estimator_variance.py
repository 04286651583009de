"""Bias and variance of every gradient estimator at equal K, on models so small that all warmups can be listed.

    python scripts/estimator_variance.py                               # the tables of docs/estimators.md, minutes
    python scripts/estimator_variance.py --draws 60 --json found.json  # a rough look; JSON has every figure

A warmup holds at most two of three tokens, so there are 13 of them, and the exact gradient of log p(y|x) is known.
Warmups are drawn and scored by the engine (`warmup_step`). An estimate is a sum of the warmups' gradients, weighed as
the objective says, so its error needs no backward pass of its own.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cosine_similarity, one_hot, pad
from tqdm import tqdm
from transformers import T5Config, T5ForConditionalGeneration

from warmup.config.schema import WarmupMethod
from warmup.errors import UserError
from warmup.files import check_writable, write_json
from warmup.methods.noise import Noise
from warmup.methods.objective import baseline_weights, coefficients, effective_sample_size, posterior_weights, resampled
from warmup.methods.recognition import shown_target
from warmup.methods.sampling import Warmups, as_written
from warmup.methods.scoring import read_warmups, weigh_read
from warmup.methods.warmup import warmup_step
from warmup.models.encoding import IGNORED_LABEL, source_batch
from warmup.models.loading import Backbone
from warmup.models.t5 import T5
from warmup.studies.naive import naive_scores

LIMIT = 2  # tokens of a warmup
PAD, END, SEPARATOR, *WARMUP_TOKENS = range(6)
WARMUPS = 13  # of those three tokens: one of none, three of one, nine of two
WORDS = 18  # 6 to 9 stand in targets, 10 to 17 in sources
INPUTS = 16
SAMPLES = (2, 4, 8)  # K
SHOWN = 4  # the K of the tables' last columns
STEPS = {"fresh": 0, "trained": 50}  # of training, for each model
GROUPS = 20  # of draws, for the jackknife's standard errors
SAMPLERS: dict[str, dict[str, Any]] = {
    "iid": {},
    "iid, temperature 2": {"sampling_temperature": 2.0},
    "iid, top-p 0.9": {"sampling_top_p": 0.9},
    "without_replacement": {"sampler": "without_replacement"},
    "adaptive": {"sampler": "adaptive"},
    "recognition": {"sampler": "recognition"},
}
BASELINES = ("mean", "loo", "none")
# the last two bring their own baseline
OBJECTIVES = [*itertools.product(("marginal", "resample"), BASELINES), ("vimco", "mean"), ("elbo", "mean")]


@dataclass(frozen=True)
class Problem:
    """A batch of I inputs and targets; gradients are vectors [D] in an orthonormal basis of all that may occur."""

    backbone: Backbone
    ids: Tensor  # [I, S]
    mask: Tensor  # [I, S]
    labels: Tensor  # [I, T]
    of_target: Tensor  # [I * WARMUPS, D] gradients of log p(y|x,c)
    of_warmup: Tensor  # [I * WARMUPS, D] gradients of log p(c|x)
    exact_target: Tensor  # [D] the target term of the gradient of log p(y|x), summed over the batch
    exact_warmup: Tensor  # [D] its warmup term


def every_warmup() -> Warmups:
    """[1, WARMUPS, LIMIT] all warmups that there are."""
    rows = [list(row) for length in range(LIMIT + 1) for row in itertools.product(WARMUP_TOKENS, repeat=length)]
    return as_written([rows], LIMIT, PAD)


def build() -> Backbone:
    """A tiny T5 with random weights, without dropout, in float64."""
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
    config = T5Config(vocab_size=WORDS, pad_token_id=PAD, eos_token_id=END, decoder_start_token_id=PAD, **sizes)
    tokenizer = SimpleNamespace(pad_token_id=PAD, eos_token_id=END)
    model = T5ForConditionalGeneration(config).double().eval()
    backbone = Backbone(model, tokenizer, T5(), SEPARATOR)  # type: ignore[arg-type]
    never = torch.ones(WORDS, dtype=torch.bool)
    never[[SEPARATOR, *WARMUP_TOKENS]] = False
    backbone.__dict__["never_in_warmup"] = never
    return backbone


def source_of(number: int) -> list[int]:
    """The source of an input, without `</s>`."""
    return [10 + number // 4, 14 + number % 4]


def target_of(number: int, warmup: list[int]) -> list[int]:
    """The target, without `</s>`: of every other input it spells the warmup, of the others it is one and the same."""
    spelled = [6 + WARMUP_TOKENS.index(token) for token in warmup] + [9] * LIMIT
    return spelled[:LIMIT] if number % 2 == 0 else [6 + number % 3, 6 + number // 2 % 3]


def train(backbone: Backbone, steps: int) -> None:
    """Teach p(c|x) to be even, p(y|x,c) as `target_of` says, and the recognition proposal q(c|x,y)."""
    everything = every_warmup()
    inputs = torch.arange(INPUTS).repeat_interleave(WARMUPS)
    places = torch.arange(WARMUPS).repeat(INPUTS)[:, None]
    warmups = everything.select(places, torch.zeros_like(inputs))
    written = [row[:length] for row, length in zip(warmups.tokens[:, 0].tolist(), warmups.lengths[:, 0], strict=True)]
    labels = torch.tensor([[*target_of(*pair), END] for pair in zip(inputs.tolist(), written, strict=True)])
    batch = source_batch(backbone, [[*source_of(number), END] for number in inputs.tolist()])
    nothing = torch.full_like(labels, IGNORED_LABEL)
    optimizer = torch.optim.Adam(backbone.model.parameters(), lr=5e-3)
    for _ in tqdm(range(steps), desc="training", unit="step", leave=False):
        encoded = backbone.family.encode(backbone.model, batch["input_ids"], batch["attention_mask"])
        shown = shown_target(backbone, encoded, labels)
        reads = (read_warmups(backbone, encoded, warmups, labels), read_warmups(backbone, shown, warmups, nothing))
        for read in reads:
            value, _ = weigh_read(
                backbone, read, lambda found, _: -(found.target_logprob + found.warmup_logprob).mean(-1)
            )
            (value / len(inputs)).backward()
        optimizer.step()
        optimizer.zero_grad()


def solve(backbone: Backbone) -> Problem:
    """Each input with one target; the gradients of all its warmups, one by one, and the exact one."""
    everything = every_warmup()
    batch = source_batch(backbone, [[*source_of(number), END] for number in range(INPUTS)])
    ids, mask = batch["input_ids"], batch["attention_mask"]
    two_tokens = everything.tokens[0, everything.lengths[0] == LIMIT].tolist()
    labels = torch.tensor([[*target_of(number, two_tokens[number // 2]), END] for number in range(INPUTS)])
    parameters = list(backbone.model.parameters())
    gradients, posterior = [], []
    for number in tqdm(range(INPUTS), desc="exact gradients", unit="input", leave=False):
        one = slice(number, number + 1)
        scores = naive_scores(backbone, ids[one], mask[one], everything, labels[one])
        posterior.append((scores.target_logprob + scores.warmup_logprob)[0].detach().softmax(-1))
        for value in torch.cat([scores.target_logprob[0], scores.warmup_logprob[0]]):
            parts = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
            gradients.append(torch.cat([part.flatten() for part in parts]))
    triangle = torch.linalg.qr(torch.stack(gradients, dim=1), mode="r").R  # inner products are those of its columns
    basis = triangle.T.view(INPUTS, 2, WARMUPS, -1)
    of_target, of_warmup = basis[:, 0].flatten(0, 1), basis[:, 1].flatten(0, 1)
    weights = torch.cat(posterior)
    return Problem(backbone, ids, mask, labels, of_target, of_warmup, weights @ of_target, weights @ of_warmup)


@dataclass(frozen=True)
class Drawn:
    """K warmups of each input, R times: N = R * I."""

    places: Tensor  # [N, K] which of all warmups of the batch
    target_logprob: Tensor  # [N, K]
    log_prior_weight: Tensor  # [N, K]
    uniform: Tensor  # [N, 2] for `resample`


@torch.no_grad()
def draw(problem: Problem, method: WarmupMethod, draws: int, seed: int) -> Drawn:
    """Warmups of a sampler, drawn and scored by the engine; batches do not matter but for `adaptive`."""
    backbone = problem.backbone
    index = {tuple(row): place for place, row in enumerate(every_warmup().tokens[0].tolist())}
    encoded = backbone.family.encode(backbone.model, problem.ids, problem.mask)
    at_once = 1 if method.sampler == "adaptive" else 50
    parts = []
    for start in range(0, draws, at_once):
        inputs = torch.arange(INPUTS).repeat(min(at_once, draws - start))
        noise = Noise(torch.arange(len(inputs)) + start * INPUTS + seed * 10**9)
        step = warmup_step(backbone, method, encoded.select(inputs), problem.labels[inputs], noise)
        rows = step.warmups.tokens.flatten(0, 1).tolist()
        # an empty slot may hold anything, and weighs nothing
        places = torch.tensor([index.get(tuple(row), 0) for row in rows]).view(len(inputs), -1)
        empty = (0, INPUTS * method.num_samples - places.shape[1])  # `adaptive` may spend all on one input
        places = pad(places + WARMUPS * inputs[:, None], empty)
        weight = pad(step.log_prior_weight, empty, value=float("-inf"))
        parts.append((places, pad(step.target_logprob, empty), weight, noise.uniform(2)))
    places, target_logprob, weight, uniform = (torch.cat(values) for values in zip(*parts, strict=True))
    used = slice(0, int((weight > float("-inf")).any(0).sum()))
    return Drawn(places[:, used], target_logprob[:, used], weight[:, used], uniform)


def estimates(problem: Problem, drawn: Drawn, objective: str, baseline: str) -> tuple[Tensor, Tensor]:
    """[R, D] the estimated gradients of the batch: their target terms, and their warmup terms."""
    scores, weight = drawn.target_logprob, drawn.log_prior_weight
    if objective == "resample":
        compared = baseline_weights(scores, weight, baseline)
        chosen, other, factor = resampled(posterior_weights(scores, weight), compared, drawn.uniform)
        target = one_hot(chosen, scores.shape[1]).double()
        warmup = target - factor[:, None] * one_hot(other, scores.shape[1])
    else:
        parts = coefficients(objective, scores, weight, baseline)
        target, warmup = parts.target, parts.warmup
    draws = len(scores) // INPUTS
    found = []
    for factors, gradients in ((target, problem.of_target), (warmup, problem.of_warmup)):
        spread = torch.zeros(draws, len(gradients), dtype=torch.float64)
        spread.scatter_add_(1, drawn.places.reshape(draws, -1), factors.double().reshape(draws, -1))
        found.append(spread @ gradients)
    return found[0], found[1]


def measure(target: Tensor, warmup: Tensor, problem: Problem) -> dict[str, float]:
    """Figures of estimated gradients, given as their target and warmup terms [R, D]: of the whole and of each term.

    bias: |E g - exact|^2 and variance: E|g - E g|^2, both relative to |exact|^2. cosine: of one estimate with the exact
    gradient, on average. cosine_of_mean: of E g with it. NAME_error: standard error, by the jackknife over groups.
    """
    # row 0 averages over all groups of draws, each further row leaves one group out
    weights = torch.cat([torch.ones(1, GROUPS), 1 - torch.eye(GROUPS)]).to(target)
    count = weights.sum(-1) * (len(target) // GROUPS)
    weights = weights / weights.sum(-1, keepdim=True)

    def average(values: Tensor) -> Tensor:
        return weights @ values.unflatten(0, (GROUPS, -1)).mean(1)

    parts = {"": (target + warmup, problem.exact_target + problem.exact_warmup)}
    parts |= {"target_": (target, problem.exact_target), "warmup_": (warmup, problem.exact_warmup)}
    found = {}
    for part, (values, exact) in parts.items():
        mean, norm = average(values), exact.square().sum()
        spread = (average(values.square().sum(-1)) - mean.square().sum(-1)) * count / (count - 1)
        found[f"{part}bias"] = ((mean - exact).square().sum(-1) - spread / count) / norm  # less what chance adds to it
        found[f"{part}variance"] = spread / norm
        found[f"{part}cosine"] = average(cosine_similarity(values, exact[None]))
        found[f"{part}cosine_of_mean"] = cosine_similarity(mean, exact[None])
    errors = {f"{name}_error": (value[1:].var(correction=0) * (GROUPS - 1)).sqrt() for name, value in found.items()}
    return {name: value.flatten()[0].item() for name, value in (found | errors).items()}


def method_of(objective: str, baseline: str, sampler: str, count: int) -> WarmupMethod | None:
    """The method's settings; None where the configuration refuses the combination."""
    choices = {"objective": objective, "baseline": baseline, "num_samples": count, **SAMPLERS[sampler]}
    method = WarmupMethod(max_warmup_tokens=LIMIT, entropy_coef=0.0, **choices)
    try:
        method.check()
    except UserError:
        return None
    return method


def describe(drawn: Drawn) -> str:
    """How much warmups matter: to inputs whose target depends on the warmup, and to the others."""
    weights = posterior_weights(drawn.target_logprob, drawn.log_prior_weight)
    spread, size = (part.view(-1, 2).mean(0) for part in (drawn.target_logprob.std(-1), effective_sample_size(weights)))
    return (
        f"where the target depends on the warmup, log p(y|x,c) of {SHOWN} draws deviates by {spread[0]:.2f} nats, "
        f"effective sample size {size[0]:.1f}; elsewhere {spread[1]:.2f} and {size[1]:.1f}"
    )


def run(model: str, problem: Problem, draws: int, progress: tqdm) -> tuple[list[dict[str, Any]], str]:
    """Every estimator on one model, and what the model is like."""
    results, likeness = [], ""
    for sampler, count in itertools.product(SAMPLERS, SAMPLES):
        progress.set_postfix_str(f"{model}, {sampler}, K={count}")
        method = method_of("marginal", "mean", sampler, count)
        if method:
            drawn = draw(problem, method, draws, seed=count)
            likeness = describe(drawn) if (sampler, count) == ("iid", SHOWN) else likeness
            for objective, baseline in OBJECTIVES:
                if method_of(objective, baseline, sampler, count):
                    found = measure(*estimates(problem, drawn, objective, baseline), problem)
                    names = {"model": model, "objective": objective, "baseline": baseline, "sampler": sampler}
                    results.append({**names, "samples": count, **found})
        progress.update()
    return results, likeness


def table_of(results: list[dict[str, Any]], model: str) -> Table:
    """In Markdown: bias and variance of each objective and sampler at each K, with the default baseline."""
    table = Table(box=box.MARKDOWN)
    for name in ("objective", "sampler"):
        table.add_column(name)
    names = [f"{name}, K={count}" for name in ("bias²", "variance") for count in SAMPLES]
    for name in [*names, f"cosine, K={SHOWN}", *(f"warmup term, {kind}" for kind in BASELINES)]:
        table.add_column(name, justify="right")
    rows = {
        (row["objective"], row["sampler"], row["baseline"], row["samples"]): row
        for row in results
        if row["model"] == model
    }
    for objective, sampler in itertools.product(dict(OBJECTIVES), SAMPLERS):
        found = [rows.get((objective, sampler, "mean", count)) for count in SAMPLES]
        if any(found):
            cells = [_cell(row, name) for name in ("bias", "variance") for row in found]
            cells.append(_cell(rows[objective, sampler, "mean", SHOWN], "cosine"))
            cells += [_cell(rows.get((objective, sampler, kind, SHOWN)), "warmup_variance") for kind in BASELINES]
            table.add_row(objective, sampler, *cells)
    return table


def _cell(row: dict[str, Any] | None, name: str) -> str:
    """Two significant figures; an upper limit where a bias is lost in its error."""
    if row is None:
        return "—"
    value, error = row[name], row[f"{name}_error"]
    if name == "bias" and value < 2 * error:
        return f"<{_decimal(max(value, 0) + 2 * error, 1)}"
    return _decimal(value, 2)


def _decimal(value: float, figures: int) -> str:
    scientific = f"{value:.{figures - 1}e}"
    places = figures - 1 - int(scientific.partition("e")[2])
    return scientific if value < 1e-4 else f"{float(scientific):.{max(0, places)}f}"


def main() -> None:
    """Both models; print the tables and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20 * GROUPS, help=f"of every estimator, a multiple of {GROUPS}")
    parser.add_argument("--json", type=Path, help="where every figure and its standard error go")
    options = parser.parse_args()
    if options.draws <= 0 or options.draws % GROUPS:
        parser.error(f"--draws must be a multiple of {GROUPS}")
    try:
        if options.json:
            check_writable(options.json)  # now, not after minutes
    except UserError as error:
        parser.error(str(error))
    console, results = Console(width=220), []
    with tqdm(total=2 * len(SAMPLERS) * len(SAMPLES), unit="sampler") as progress:
        for model, steps in STEPS.items():
            backbone = build()
            train(backbone, steps)
            found, likeness = run(model, solve(backbone), options.draws, progress)
            results += found
            worst = max(row["variance_error"] / row["variance"] for row in found)
            progress.clear()
            console.print(f"\n{model}: {likeness}")
            console.print(table_of(results, model))
            console.print(f"standard errors of variances: at most {100 * worst:.0f}%\n")
    if options.json:
        write_json(options.json, results)


if __name__ == "__main__":
    main()

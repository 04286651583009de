"""Every configuration composes and passes its checks; every wrong value is named in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from tests.config.composing import configured, refusal
from warmup.command_line import prepare
from warmup.config.explain import explain_composition
from warmup.config.groups import CONF, config_groups

GROUPS = config_groups()
CHOICES = [(group, name) for group, names in GROUPS.items() for name in names]


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes_and_passes(
    group: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = []
    if (group, name) == ("data", "local"):
        (tmp_path / "pairs.jsonl").write_text("{}\n")
        extra = [f"data.train={tmp_path}/pairs.jsonl", "task.target_language=de"]
    if (group, name) == ("data", "hub"):
        extra = ["task=summarization"]
    files = {"babi": "qa16_{}.jsonl.gz", "study_babi": "qa15_{}.jsonl.gz", "study_quotations": "qa16_{}.jsonl.gz"}
    files |= dict.fromkeys(("svamp", "study_svamp", "study_sums"), "{}.jsonl")
    if group == "experiment" and name in files:
        monkeypatch.setenv("BABI" if name == "study_quotations" else name.removeprefix("study_").upper(), str(tmp_path))
        for split in ("train", "validation", "test"):
            (tmp_path / files[name].format(split)).touch()
    if name.removeprefix("study_").startswith("multi30k"):
        monkeypatch.setenv("MULTI30K", str(tmp_path))
        for stem in ("train", "val", "test_2016_flickr"):
            for language in ("de", "en"):
                (tmp_path / f"{stem}.{language}.gz").touch()
    assert configured(f"{group}={name}", *extra)


def test_the_groups_are_those_that_users_were_promised() -> None:
    searched = {"experiment", "hparams_search", "paper", "debug"}
    assert {"task", "data", "model", "method", "trainer", "evaluation", "logger", *searched} == set(GROUPS)
    assert {"toy", "local", "hub"} == set(GROUPS["data"])
    assert {"sft", "warmup", "warmup_quoting", "warmup_calculating", "warmup_facts", "pause"} == set(GROUPS["method"])
    assert len([name for name in GROUPS["task"] if name.startswith("translation_")]) == 8


def test_help_names_every_choice() -> None:
    template = (CONF / "hydra/help/warmup.yaml").read_text()
    for group, name in CHOICES:
        short = name.removeprefix("translation") if group == "task" and name != "translation" else name
        assert group == "paper" or short in template, f"{group}={name}"


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("methd=sft", ["methd", "did you mean 'method'?"]),
        ("model=tiny_t6", ["model is 'tiny_t6'", "tiny_mt5", "did you mean 'tiny_t5'?"]),
        ("method.num_sample=3", ["method.num_sample", "did you mean 'method.num_samples'?"]),
        ("method.num_samples=abc", ["method.num_samples is 'abc'", "a whole number, 1 to 256"]),
        ("method.num_samples=0", ["method.num_samples is 0", "1 to 256"]),
        ("method.num_samples=2.5", ["method.num_samples is 2.5", "a whole number"]),
        ("method.objective=margnal", ["method.objective", "did you mean 'marginal'?"]),
        ("trainer.learning_rate=fast", ["trainer.learning_rate is 'fast'", "a number"]),
        ("trainer.learning_rate=-1", ["trainer.learning_rate is -1", "1e-09 to 10"]),
        ("trainer.learning_rate=nan", ["trainer.learning_rate is nan"]),
        ("trainer.gradient_checkpointing=maybe", ["trainer.gradient_checkpointing", "true or false"]),
        ("trainer.max_steps=0", ["trainer.max_steps is 0", "at least 1"]),
        ("trainer.optimizer=adamm", ["did you mean 'adamw'?"]),
        ("run=trian", ["run is 'trian'", "did you mean 'train'?"]),
        ("task.metrics=bleu", ["task.metrics is 'bleu'", "a list"]),
        ("task.metrics=[]", ["task.metrics is []"]),
        ("task.metrics=[blue]", ["task.metrics is 'blue'", "did you mean 'bleu'?"]),
        ("task.selection_metric=rougeL", ["task.selection_metric", "bleu, chrf"]),
        ("model.heads=5", ["model.width is 64", "multiple of model.heads=5"]),
        ("run=evaluate", ["checkpoint is not set"]),
        ("data=local", ["task.target_language is 'qtz'"]),
        ("task.source_language=null", ["task.source_language is None"]),
        ("task.target_language=zn", ["task.target_language is 'zn'", "did you mean 'zh'?"]),
        ("task.source_language=Klingonese", ["task.source_language is 'Klingonese'", "did you mean 'Klingon'?"]),
        ("~method.num_samples", ["cannot be deleted"]),
        ("seed=1,2", ["seed is '1,2'", "add -m"]),
        ("task.source_template=a b: {c", ["cannot read"]),
        ("~seed", ["seed was taken away"]),
        ("model=null", ["model is None", "tiny_t5"]),
        ("+model=tiny_t5", ["without the +"]),
        ("trainer.num_samples=3", ["did you mean 'method.num_samples'?"]),
        ("data.train=a.jsonl", ["it belongs to data=hub or data=local"]),
        ("trainer.epochs=3", ["trainer.epochs=3 and trainer.max_steps=600 are both set"]),
        ("trainer.max_steps=-1", ["trainer.epochs is not set"]),
        ("task.metrics=[bleu,bleu]", ["names bleu twice"]),
        ("task.metrics=[comet]", ["task.metrics is ['comet']", "bleu, chrf"]),
        ("task.target_template=fixed", ["task.target_template is 'fixed'", "a field of the records"]),
        ("model.pretrained=", ["model.pretrained is ''"]),
        ("checkpoint=outputs/a/model", ["with run=evaluate or run=predict only", "model.pretrained=outputs/a/model"]),
        ("inputs=a.txt", ["with run=predict only"]),
        ("evaluation.num_warmups=0", ["evaluation.num_warmups is 0", "1 to 256"]),
        ("evaluation.num_warmup=2", ["did you mean 'evaluation.num_warmups'?"]),
        ("evaluation.sample_warmup=often", ["evaluation.sample_warmup", "true or false"]),
        ("+method.nmu_samples=3", ["method.nmu_samples", "did you mean 'num_samples'?"]),
    ],
)
def test_a_wrong_override_is_one_line_with_the_cure(override: str, parts: list[str]) -> None:
    line = refusal(override)
    assert "\n" not in line
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("method.num_sample=3", "did you mean 'method.num_samples'?"),
        ("trainer.batch_size=x", "trainer.batch_size is 'x'; allowed: a whole number"),
        ("task=min", "did you mean 'mine'?"),
    ],
)
def test_choices_of_the_users_own_are_known_where_another_value_is_wrong(
    override: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "with space/task").mkdir(parents=True)
    (tmp_path / "with space/task/mine.yaml").write_text("defaults: [translation]\n")
    folder = tmp_path / "with space"
    words = ["task=mine", override]
    assert said in str(explain_composition(words, False, ValueError(), str(folder)))
    words.append(f"hydra.searchpath=['file://{folder}']")
    assert said in str(explain_composition(words, False, ValueError()))


@pytest.mark.parametrize("run", ["all", "train", "evaluate", "predict", "score", "tables"])
def test_every_stage_refuses_what_is_no_language(run: str) -> None:
    assert "task.target_language is 'zn'" in refusal(f"run={run}", "task.target_language=zn")
    assert "task.target_language is 'zn'" in refusal(f"run={run}", "task=summarization", "task.target_language=zn")


def test_the_toy_language_is_refused_with_other_data_under_each_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").touch()
    for name in ("qtz", "Toyish"):
        local = ["data=local", f"data.train={tmp_path}/train.jsonl", f"task.target_language={name}"]
        assert f"task.target_language is '{name}'; allowed: the language of your data" in refusal(*local)


def test_contradictions_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}\n")
    local = ["data=local", "task=summarization", f"data.train={tmp_path}/train.jsonl"]
    assert "for summarization: rouge, chrf, bertscore" in refusal("task=summarization", "task.metrics=[comet]")
    assert "both set" in refusal(*local, "data.train_source=a", "data.train_target=b")
    assert "in pairs" in refusal(*local, "data.test_source=a")
    assert "did you mean" in refusal("data=local", "task=summarization", f"data.train={tmp_path}/trian.jsonl")
    assert "is a folder" not in refusal(*local, "data.validation_fraction=0.6", "data.test_fraction=0.6")
    assert "below 1" in refusal(*local, "data.validation_fraction=0.6", "data.test_fraction=0.6")
    assert "data.train is not set" in refusal("data=local", "task=summarization")
    assert "below trainer.max_steps=5" in refusal("trainer.max_steps=5", "method.sft_steps=5")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "needs model.pretrained=NAME"),
        (["model.pretrained=google-t5/t5-small", "trainer.max_steps=-1", "trainer.epochs=2"], "trainer.epochs"),
        (["model.pretrained=google-t5/t5-small", "trainer.evaluate_by=epoch"], "trainer.evaluate_by"),
        (["data.max_train_examples=9", "data.train.split='train[:10%]'"], "data.train.split"),
    ],
)
def test_what_a_stream_cannot_do_is_refused(overrides: list[str], said: str) -> None:
    stream = ["task=translation_de_en", "data=hub", "data.streaming=true"]
    configured(*stream, "data.max_train_examples=9")
    configured(*stream, "model.pretrained=google-t5/t5-small")
    configured(*stream, "run=evaluate", "checkpoint=x")
    assert said in refusal(*stream, *overrides)
    assert "data.train.path is not set" in refusal("data=hub", "task=custom")
    assert "inputs is not set" in refusal("run=predict", "checkpoint=somewhere")
    assert "an existing file" in refusal("run=predict", "checkpoint=somewhere", "inputs=nowhere.txt")
    beams = "evaluation.warmup_num_beams=4"
    assert f"evaluation.num_warmups=2 draws warmups, {beams}" in refusal("evaluation.num_warmups=2", beams)
    assert f"evaluation.sample_warmup=true draws warmups, {beams}" in refusal("evaluation.sample_warmup=true", beams)
    words = ["task=logiqa", "evaluation.num_warmups=2", "task.target_template='{answer} {text}'"]
    assert "a text with {answer} as its only field" in refusal(*words)
    assert "it belongs to method=warmup" in refusal("method=sft", "method.num_samples=4")


def test_a_free_mapping_may_get_new_entries(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}\n")
    config = configured(
        "data=local", "task=summarization", f"data.train={tmp_path}/train.jsonl", "data.fields={document: text}"
    )
    assert config.data.fields == {"document": "text"}  # type: ignore[attr-defined]
    hub = configured("data=hub", "task=summarization", "data.train.fields={document: body, summary: gist}")
    assert hub.data.train.fields == {"document": "body", "summary": "gist"}  # type: ignore[attr-defined]
    assert "a mapping of names" in refusal("data=hub", "task=summarization", "data.train.fields=[a,b]")


def test_the_grid_of_the_paper_holds_every_row_method_and_seed() -> None:
    grid = OmegaConf.load(CONF / "experiment/paper_grid.yaml").hydra.sweeper.params
    assert sorted(grid.paper.split(",")) == GROUPS["paper"]
    assert grid.method == "sft,warmup"
    assert len(grid.seed.split(",")) >= 3


@pytest.mark.parametrize("pair", ["de_en", "en_de", "fr_en", "en_fr", "ru_en", "en_ru", "zh_en", "en_zh"])
def test_each_pair_of_the_paper_reads_its_own_languages(pair: str) -> None:
    source, target = pair.split("_")
    config = configured(f"paper=translation_{pair}")
    assert (config.task.source_language, config.task.target_language) == (source, target)
    assert config.model.pretrained == "google/mt5-base"
    train, test = config.data.train, config.data.test  # type: ignore[attr-defined]
    assert train.fields == {"source": f"translation.{source}", "target": f"translation.{target}"}
    assert test.fields == {"source": f"{source}-{target}.{source}", "target": f"{source}-{target}.{target}"}


def test_a_metric_model_that_is_a_path_must_exist_where_its_metric_is_asked_for(tmp_path: Path) -> None:
    for path in ("/no/model.ckpt", "./no", "~/no", "a/b/c"):
        assert "evaluation.comet_model" in refusal("task=translation_de_en", f"evaluation.comet_model={path}")
    assert configured("evaluation.comet_model=/no/model.ckpt").task.metrics == ["bleu", "chrf"]
    config = configured("task=translation_de_en", f"evaluation.comet_model={tmp_path}", "evaluation.bertscore_layer=17")
    assert config.evaluation.bertscore_layer == 17
    assert configured("task=translation_de_en", "evaluation.comet_model=Unbabel/XCOMET-XL").evaluation.batch_size == 64
    assert "evaluation.bertscore_layer" in refusal("evaluation.bertscore_layer=-1")
    assert "predictions is not set" in refusal("run=score")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["method=sft", "seed=3"], "translation_tiny_t5_sft_seed3"),
        (["run=train", "task=logiqa", "model=tiny_llama"], "logiqa_tiny_llama_warmup_seed1"),
        (["run=evaluate", "task=summarization"], "evaluate_summarization"),
        (["run=score", "task=translation_de_en"], "score_translation_de_en"),
        (["run=tables"], "tables"),
        (["run=predict"], "predict"),
        (["run=../../x"], r"\.\._\.\._x"),
        (["model.name=a/b"], "translation_a_b_warmup_seed1"),
    ],
)
def test_a_folder_is_named_after_what_is_done_in_it(words: list[str], name: str) -> None:
    prepare()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", words, return_hydra_config=True)
    with open_dict(config):
        config.hydra.job.num = 2
    HydraConfig.instance().set_config(config)  # what ${hydra:...} is read from
    assert re.fullmatch(rf"outputs/[\d_-]+_{name}", config.hydra.run.dir)
    assert re.fullmatch(f"{name}_[0-9a-f]{{8}}", config.hydra.sweep.subdir)

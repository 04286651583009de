"""report.html: nothing in the data becomes markup, nothing is fetched, and the example browser works in a browser."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.reporting.browser import CHROMIUM, Browser, drive
from tests.reporting.conftest import Write, write_predictions
from warmup.reporting.overview import write_overview
from warmup.reporting.page.browser import browser_data
from warmup.reporting.page.findings import findings
from warmup.reporting.tables.layout import report_on
from warmup.runs.finding import find_runs
from warmup.runs.paired_examples import pair_examples

HOSTILE = "</script><script>window.hacked=1</script><!-- <img src=x onerror=window.hacked=1> & \u2028 'q' \"d\" \x00"
needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed")


@pytest.fixture
def report(write_run: Write, tmp_path: Path) -> Path:
    """60 examples answered by SFT and warmup; example 7 is the best of warmup, 3 its worst; texts are hostile."""
    count = 60
    history = [{"step": step, "target_nll": 3.0 - step / 10, "warmup/length": 4.0} for step in (1, 2, 3)]
    config = {"method": {"name": "sft"}, "trainer": {"max_steps": 5}}
    sft = write_run(
        "sft",
        1,
        10.0,
        "a_sft",
        examples=count,
        model=HOSTILE,
        config=config,
        selection_metric="accuracy",
        history=history,
    )
    config = {"method": {"name": "warmup", "num_samples": 4}, "trainer": {"max_steps": 5}}
    ours = write_run(
        "warmup",
        1,
        11.0,
        "b_warmup",
        examples=count,
        model=HOSTILE,
        config=config,
        selection_metric="accuracy",
        history=history,
    )
    sources = [f"source {i} {HOSTILE if i == 5 else ''}" for i in range(1, count + 1)]
    right = [f"Die Katze {i} schläft" for i in range(1, count + 1)]
    theirs = [text if i == 3 else "wrong" for i, text in enumerate(right, start=1)]
    mine = [text if i == 7 else "bad" for i, text in enumerate(right, start=1)]
    write_predictions(sft, [(s, None, p, r) for s, p, r in zip(sources, theirs, right, strict=True)])
    warmups = ["katze, Hund 猫"] * count
    write_predictions(ours, list(zip(sources, warmups, mine, right, strict=True)))
    (tmp_path / "out").mkdir()
    write_overview([tmp_path / "runs"], tmp_path / "out")
    return tmp_path / "out" / "report.html"


class Elements(HTMLParser):
    """Counts elements, and collects every address that a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str | None] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "script":
            self.scripts.append(found.get("type"))
        assert not [name for name in found if name.startswith("on")]
        self.addresses += [found[name] or "" for name in ("src", "href", "srcset") if name in found]


def test_no_text_becomes_markup_and_nothing_is_loaded(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    elements = Elements()
    elements.feed(text)
    assert elements.scripts.count(None) == 1 and set(elements.scripts) == {None, "application/json"}
    assert all(address.startswith(("data:", "#")) for address in elements.addresses)
    assert "<script>window" not in text and "<!--" not in text and "\u2028" not in text and "\x00" not in text
    assert "&lt;script&gt;window.hacked=1&lt;/<wbr>script&gt;" in text.replace(
        "_<wbr>", "_"
    )  # the model's name, shown in the table
    assert "default-src 'none'" in html.unescape(text)


def test_the_page_has_every_part(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    for title in ("Tables", "Figures", "Warmup analysis", "Configuration", "Examples"):
        assert re.search(rf"<h2[^>]*>{title}</h2>", text), title
    figures = text.split(">Figures</h2>")[1].split("<h2")[0]
    assert len(re.findall(r'<img [^>]*src="data:image/', figures)) == len(re.findall("<figcaption", figures)) == 4
    assert '<th scope="row">method.num_<wbr>samples</th><td>—</td><td>4</td>' in text
    assert "trainer.max_<wbr>steps" in text.split("What all runs share")[1].split("</details>")[0]
    data = [json.loads(part) for part in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S)]
    sources = next(part["sources"] for part in data if "sources" in part)
    assert sources[4] == f"source 5 {HOSTILE}"  # a NUL survives as JSON's escape
    gains = next(part["gains"] for part in data if "gains" in part)
    assert [i for i, gain in enumerate(gains, start=1) if gain] == [3, 7] and (gains[2], gains[6]) == (-100, 100)


@pytest.mark.parametrize(
    ("right", "of", "sentence"),
    [
        (15, 20, "logiqa: warmup has 75.00 accuracy, SFT 25.00: +50.00, 95% CI [30.00, 70.00], significantly better."),
        (
            6,
            20,
            "logiqa: warmup has 30.00 accuracy, SFT 25.00: +5.00, 95% CI [0.00, 15.00], no further off than chance.",
        ),
    ],
)
def test_the_top_says_what_the_comparison_shows(
    write_answers: Write, write_run: Write, tmp_path: Path, right: int, of: int, sentence: str
) -> None:
    write_answers("sft", 5, of)
    write_answers("warmup", right, of)
    write_run("warmup", 1, 10.0)
    found = findings(report_on(find_runs([tmp_path / "runs"])))
    assert found == [
        sentence,
        "translation de-en: nothing to compare, only warmup was run.",
    ]


def test_many_comparisons_of_a_task_are_counted_in_one_sentence(write_answers: Write, tmp_path: Path) -> None:
    for model, right in (("a", 20), ("b", 0), ("c", 11), ("d", 10)):
        write_answers("sft", 10, model=model)
        write_answers("warmup", right, model=model)
    (sentence,) = findings(report_on(find_runs([tmp_path / "runs"])))
    assert sentence == (
        "logiqa: against SFT, warmup's accuracy is significantly better in 1 of 4 comparisons, "
        "significantly worse in 1, no further off than chance in 2; differences -50.00 to +50.00."
    )


def test_the_browser_opens_where_warmups_differ_most(write_run: Write, tmp_path: Path) -> None:
    for task, warmups in (("logiqa", "aaaa"), ("summarization", "abca"), ("svamp", "abca"), ("translation", "abab")):
        run = write_run("warmup", 1, 10.0, task=task, examples=4)
        write_predictions(run, [("s", warmup, "p", "r") for warmup in warmups])
    pairs = [pair_examples(run, None) for run in find_runs([tmp_path / "runs"]).runs]
    menu = browser_data(pairs)["menu"]
    assert menu["runs"][menu["first"]]["label"].startswith("summarization")


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_it_works_in_a_browser(report: Path, tmp_path: Path, width: int) -> None:
    async def steps(browser: Browser) -> None:
        run = browser.run

        async def first() -> str:
            return await run("document.querySelector('article h3').textContent")

        async def choose(control: str, value: str) -> None:
            event = "input" if control == "search" else "change"
            await run(
                f"(() => {{ const e = document.getElementById('{control}'); e.value = {json.dumps(value)};"
                f"e.dispatchEvent(new Event('{event}', {{bubbles: true}})); }})()"
            )
            await run("new Promise((done) => setTimeout(done, 250))")

        assert (await first()).startswith("Example 1 ")
        await choose("sort", "best")
        assert (await first()).startswith("Example 7 · gain +100.00 accuracy")
        await choose("sort", "worst")
        assert (await first()).startswith("Example 3 · gain -100.00 accuracy")
        await choose("sort", "order")
        marks = "[...document.querySelector('article').querySelectorAll('mark')].map((mark) => mark.textContent)"
        assert await run(marks) == ["katze", "Katze"]
        await run("document.getElementById('next').click()")
        assert (await first()).startswith("Example 26 ")
        assert "26" not in await run("document.getElementById('count').textContent")
        await choose("search", "KATZE 42 ")
        assert await run("document.getElementById('count').textContent") == "1 of 60 examples, page 1 of 1"
        await choose("search", "<script>window.hacked")
        source = await run("document.querySelector('[data-part=source]').textContent")
        assert source == f"source 5 {HOSTILE}"
        assert await run("window.hacked === undefined")
        await choose("search", "nowhere to be found")
        assert await run("document.querySelectorAll('article').length") == 0
        table = "document.querySelector('.scroll')"
        goes_on = await run(f"{table}.scrollWidth > {table}.clientWidth")
        assert goes_on == (width == 390)
        assert (await run(f"getComputedStyle({table}).backgroundAttachment")).count(
            "local"
        ) == 2  # a shadow at its side
        name = "[...document.querySelectorAll('.settings thead th')].find((cell) => cell.textContent === 'b_warmup')"
        assert await run(f"{name}.querySelectorAll('wbr').length") == 1  # where the name may go on in a second line
        overflow = await run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, "the page is wider than the screen"

    browser = drive(report, tmp_path / "profile", width, steps)
    assert browser.complaints == []
    assert all(url.startswith(("file:", "data:")) for url in browser.requests)


def test_a_run_without_answers_still_gets_its_page(write_run: Write, tmp_path: Path) -> None:
    write_run("sft", 1, 10.0)
    (tmp_path / "out").mkdir()
    write_overview([tmp_path / "runs"], tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "10.00" in text and 'id="menu"' not in text
    assert not (tmp_path / "out" / "analysis.json").exists()

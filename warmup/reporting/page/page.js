"use strict";
// The example browser. Texts only ever become text nodes; a run's data is parsed when it is first chosen.
(() => {
  const element = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(element(id).textContent);
  if (!element("menu")) return;
  const menu = read("menu");
  const word = new RegExp(menu.word, "gu");
  const SIZE = 25;
  const cache = new Map();
  let rows = [], shown = [], page = 0;

  const wordsOf = (text) => new Set((text.match(word) || []).map((found) => found.toLowerCase()));

  function load(run) {
    if (!cache.has(run.data)) {
      const texts = read(run.texts), data = read(run.data);
      cache.set(run.data, data.predictions.map((prediction, i) => ({
        number: i + 1, source: texts.sources[i], reference: texts.references[i], prediction,
        warmup: data.warmups[i], sft: data.sft[i], gain: data.gains[i], overlap: data.overlaps[i], text: null,
      })));
    }
    return cache.get(run.data);
  }

  function matches(row, query) {
    if (row.text === null) {
      row.text = [row.source, row.warmup, row.prediction, row.sft, row.reference].join("\n").toLowerCase();
    }
    return row.text.includes(query);
  }

  const last = (value, sign) => (value === null ? -Infinity : sign * value);
  const orders = {
    order: (a, b) => a.number - b.number,
    best: (a, b) => last(b.gain, 1) - last(a.gain, 1) || a.number - b.number,
    worst: (a, b) => last(b.gain, -1) - last(a.gain, -1) || a.number - b.number,
    overlap: (a, b) => last(b.overlap, 1) - last(a.overlap, 1) || a.number - b.number,
  };

  function choose() {
    rows = load(menu.runs[Number(element("run").value)]);
    select();
  }

  function select() {
    const query = element("search").value.trim().toLowerCase();
    const compare = orders[element("sort").value];
    shown = rows.filter((row) => !query || matches(row, query));
    // -Infinity less -Infinity is no number: rows without a value keep the test set's order
    shown.sort((a, b) => { const d = compare(a, b); return Number.isNaN(d) ? a.number - b.number : d; });
    page = 0;
    draw();
  }

  function marked(text, known) {
    const cell = document.createElement("dd");
    let end = 0;
    for (const found of text.matchAll(word)) {
      if (!known.has(found[0].toLowerCase())) continue;
      cell.append(text.slice(end, found.index));
      const mark = document.createElement("mark");
      mark.textContent = found[0];
      cell.append(mark);
      end = found.index + found[0].length;
    }
    cell.append(text.slice(end) || (end ? "" : "(empty)"));
    return cell;
  }

  function card(row, run) {
    const article = document.createElement("article"), title = document.createElement("h3");
    title.textContent = `Example ${row.number}`;
    if (row.gain !== null) {
      const gain = document.createElement("span");
      gain.className = row.gain > 0 ? "up" : row.gain < 0 ? "down" : "soft";
      gain.textContent = ` · gain ${row.gain > 0 ? "+" : ""}${row.gain.toFixed(2)} ${run.score}`;
      title.append(gain);
    }
    const list = document.createElement("dl");
    const nothing = new Set(), answer = wordsOf(row.reference), warmup = wordsOf(row.warmup || "");
    for (const [name, text, known] of [
      ["source", row.source, nothing], ["warmup", row.warmup, answer], ["prediction", row.prediction, nothing],
      ["SFT's prediction", row.sft, nothing], ["reference", row.reference, warmup],
    ]) {
      if (text === null) continue;
      const label = document.createElement("dt"), cell = marked(text, known);
      label.textContent = name;
      cell.dataset.part = name;
      if (text.length > 900) { cell.tabIndex = 0; cell.setAttribute("aria-label", name); cell.setAttribute("role", "group"); }
      list.append(label, cell);
    }
    article.append(title, list);
    return article;
  }

  function draw() {
    const run = menu.runs[Number(element("run").value)];
    const pages = Math.max(1, Math.ceil(shown.length / SIZE));
    page = Math.min(Math.max(page, 0), pages - 1);
    element("examples").replaceChildren(...shown.slice(page * SIZE, (page + 1) * SIZE).map((row) => card(row, run)));
    element("count").textContent = `${shown.length} of ${rows.length} examples, page ${page + 1} of ${pages}`;
    element("previous").disabled = page === 0;
    element("next").disabled = page === pages - 1;
  }

  function turn(by) {
    page += by;
    draw();
    element("browser").scrollIntoView();
  }

  menu.runs.forEach((run, i) => element("run").add(new Option(run.label, String(i))));
  element("run").value = String(menu.first);
  let waiting = 0;
  element("run").addEventListener("change", choose);
  element("sort").addEventListener("change", select);
  element("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(select, 150); });
  element("previous").addEventListener("click", () => turn(-1));
  element("next").addEventListener("click", () => turn(1));
  choose();
})();

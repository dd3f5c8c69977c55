"use strict";
/* Recurrences written out: what each token takes from each earlier one, how the state fades and grows. */

views.push({
  id: "recurrences",
  title: "Recurrences",
  says: "A recurrence keeps a state of fixed size instead of all tokens. Written out, it is a matrix like attention's: what each token takes from each earlier one.",
  present: () => seen.recurrences.length > 0,

  build(section) {
    this.heading = el("h3", {});
    this.words = el("p", { class: "note" });
    this.canvas = el("canvas", { role: "img", class: "big" });
    this.marker = el("div", { class: "row-marker" });
    this.rows = el("div", { class: "axis rows-axis", "aria-hidden": "true" });
    this.columns = el("div", { class: "axis columns", "aria-hidden": "true" });
    this.lines = el("div", { class: "halves" });
    this.grid = el("div", { class: "scroll" });
    section.append(this.heading, this.words, el("div", { class: "enlarged" }, this.rows, el("div", { class: "picture" }, this.canvas, this.marker), this.columns), this.lines,
      el("h3", {}, "All heads"), el("p", { class: "note" }, "A row for each recurrent layer. Blue takes, orange takes with the opposite sign."), this.grid);
    this.cells = seen.recurrences.map((layer) => Array.from({ length: layer.shown }, (_, head) => {
      const cell = el("button", { type: "button", class: "head", tabindex: -1, "aria-label": `Layer ${layer.layer}, ${this.name(layer, head)}` }, el("canvas", { "aria-hidden": "true" }));
      cell.addEventListener("click", () => choose({ layer: layer.layer, head }));
      return hinted(cell, () => `Layer ${layer.layer}, ${this.name(layer, head)}`);
    }));
    this.grid.append(...seen.recurrences.map((layer, y) => el("div", { class: "heads" }, el("span", { class: "heads-name" }, String(layer.layer)), this.cells[y])));
    gridKeys(this.grid, this.cells, (y, x) => choose({ layer: seen.recurrences[y].layer, head: x }));
    const at = (event) => cellAt(event, this.canvas, storedPositions(), seen.tokens.length);
    hinted(this.canvas, (event) => {
      const [row, s] = at(event);
      const t = seen.first + row;
      if (s > t) return `${tokenLabel(tokenText(t))} cannot see what comes later.`;
      return `${tokenLabel(tokenText(t))} (${t}) ← ${tokenLabel(tokenText(s))} (${s})\n≈ ${number(this.value(t, s))}`;
    });
    this.canvas.addEventListener("click", (event) => choose({ token: seen.first + at(event)[0] + 1 }));
  },

  layer() {
    return nearestLayer(seen.recurrences);
  },

  head() {
    return Math.min(chosen.head, this.layer().shown - 1);
  },

  name(layer, head) {
    if (layer.shown === layer.heads) return `head ${head}`;
    const share = layer.heads / layer.shown;
    return `mean of ${share} heads or channels, ${head * share} to ${(head + 1) * share - 1}`;
  },

  value(t, s) {
    const { layer } = this.layer();
    const row = mixingRow(layer, this.head(), t);
    return decoded(row.codes[s]) * row.scale;
  },

  update(changed) {
    if (changed.has("theme")) seen.recurrences.forEach((layer, y) => this.cells[y].forEach((cell, head) => paintMixing(cell.firstChild, layer.layer, head)));
    if (!["token", "layer", "head", "theme"].some((name) => changed.has(name))) return;
    const layer = this.layer();
    const head = this.head();
    const p = position();
    const positions = storedPositions();
    const T = seen.tokens.length;
    this.cells.forEach((cells, y) => cells.forEach((cell, x) => {
      const here = seen.recurrences[y] === layer && x === head;
      cell.classList.toggle("is-chosen", here);
      cell.setAttribute("tabindex", here ? 0 : -1);
    }));
    this.heading.textContent = `Layer ${layer.layer}, ${this.name(layer, head)}`;
    fill(this.words, `${seen.model.layers[layer.layer].mixer}. The state has ${layer.size.map(count).join(" × ")} = ${count(layer.numbers)} numbers, ${sizeOf(layer.nbytes)} with the convolution's, whatever the length of the text.`);
    paintMixing(this.canvas, layer.layer, head);
    this.canvas.setAttribute("aria-label", `${this.heading.textContent}: what each token takes from each earlier one`);
    const size = Math.max(seen.images.length ? 1 : 5, Math.min(22, Math.floor(roomFor(480) / T)));
    this.canvas.style.width = `${size * T}px`;
    this.canvas.style.height = `${size * positions}px`;
    markRow(this.marker);
    labelRows(this.rows, size);
    labelColumns(this.columns, size, T, Math.ceil(11 / size), (s) => tokenLabel(tokenText(s), 12));
    const decay = arrayOf(`recurrence.${layer.layer}.decay`);
    const kept = Array.from({ length: positions }, (_, i) => decay[head * positions + i] / 255);
    const norms = [...arrayOf(`recurrence.${layer.layer}.norms`)];
    fill(this.lines,
      el("div", {}, el("h3", {}, "What is left of the state when a token comes"), lineChart(kept, 1, p - seen.first, (x) => percent(x))),
      el("div", {}, el("h3", {}, "How large the state is after each token"), lineChart(norms, Math.max(...norms), p - seen.first, number)));
  },
});

function mixingRow(layer, head, t) {
  const codes = arrayOf(`recurrence.${layer}`);
  const [, positions, S] = codes.shape;
  const row = head * positions + t - seen.first;
  return { codes: codes.subarray(row * S, (row + 1) * S), scale: arrayOf(`recurrence.${layer}.scale`)[row] };
}

/** Draw a head's matrix: all rows on one scale. */
function paintMixing(canvas, layer, head) {
  const positions = storedPositions();
  const rows = Array.from({ length: positions }, (_, i) => mixingRow(layer, head, seen.first + i));
  const most = Math.max(...rows.map((row) => row.scale), 1e-30);
  paint(canvas, positions, seen.tokens.length, (y, x) => (x > seen.first + y ? null : (decoded(rows[y].codes[x]) * rows[y].scale) / most),
    (value) => (value === null ? palette.wash : signedColour(value)));
}

/** A line over the tokens, with the chosen one marked. */
function lineChart(values, most, marked, words) {
  const width = 400;
  const height = 90;
  const x = (i) => (values.length > 1 ? (i * (width - 8)) / (values.length - 1) + 4 : width / 2);
  const y = (value) => height - 4 - ((height - 10) * (Number.isFinite(value) ? value : 0)) / (most || 1);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": `from ${words(values[0])} to ${words(values[values.length - 1])}` },
    svg("line", { x1: 0, x2: width, y1: height - 4, y2: height - 4, class: "base" }),
    svg("polyline", { points: values.map((value, i) => `${x(i)},${y(value)}`).join(" "), class: "line" }),
    svg("circle", { cx: x(marked), cy: y(values[marked]), r: 4, class: "spot" }));
  hinted(chart, (event) => {
    const box = chart.getBoundingClientRect();
    const i = Math.min(values.length - 1, Math.max(0, Math.round(((event.clientX - box.left) / box.width) * (values.length - 1))));
    return `${tokenLabel(tokenText(seen.first + i))} (${seen.first + i}): ${words(values[i])}`;
  });
  return el("figure", { class: "line-chart" }, chart, el("figcaption", { class: "note" }, `${words(values[marked])} at the chosen position`));
}

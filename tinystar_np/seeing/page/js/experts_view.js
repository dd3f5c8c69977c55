"use strict";
/* Experts: which of them each token was sent to, and how much each was used. */

views.push({
  id: "experts",
  title: "Experts",
  says: "A router gives every expert a score for each token; only the best few compute, weighted by their scores.",
  present: () => seen.experts.length > 0,

  build(section) {
    this.words = el("p", { class: "note" });
    this.canvas = el("canvas", { role: "img", class: "big" });
    this.marker = el("div", { class: "row-marker" });
    this.rows = el("div", { class: "axis rows-axis", "aria-hidden": "true" });
    this.columns = el("div", { class: "axis columns short", "aria-hidden": "true" });
    this.load = el("div", { class: "scroll" });
    section.append(el("h3", {}, this.heading = el("span")), this.words,
      el("div", { class: "enlarged" }, this.rows, el("div", { class: "picture" }, this.canvas, this.marker), this.columns),
      el("h3", {}, "Load: how many of these tokens went to each expert"), this.load);
    hinted(this.canvas, (event) => {
      const { layer, experts } = this.layer();
      const [row, e] = cellAt(event, this.canvas, storedPositions(), experts);
      const weight = this.weightOf(layer, row, e);
      const share = arrayOf(`experts.${layer}.router`)[row * experts + e] / 255;
      return `${tokenLabel(tokenText(seen.first + row))} → expert ${e}\nsoftmax of the scores ≈ ${percent(share)}${weight === null ? "\nnot chosen" : `\nchosen, weight ${number(weight)}`}`;
    });
    this.canvas.addEventListener("click", (event) => choose({ token: seen.first + cellAt(event, this.canvas, storedPositions(), this.layer().experts)[0] + 1 }));
  },

  layer() {
    return nearestLayer(seen.experts);
  },

  /** The weight of an expert at a stored row; null where it was not chosen. */
  weightOf(layer, row, expert) {
    const chosenOnes = arrayOf(`experts.${layer}.chosen`);
    const k = chosenOnes.shape[1];
    for (let i = 0; i < k; i++) if (chosenOnes[row * k + i] === expert) return arrayOf(`experts.${layer}.weights`)[row * k + i];
    return null;
  },

  update(changed) {
    if (!["token", "layer", "theme"].some((name) => changed.has(name))) return;
    const { layer, experts, chosen: k } = this.layer();
    const positions = storedPositions();
    const p = position();
    this.heading.textContent = `Layer ${layer}`;
    paint(this.canvas, positions, experts, (row, e) => {
      const weight = this.weightOf(layer, row, e);
      return weight === null ? 0.5 * Math.sqrt(arrayOf(`experts.${layer}.router`)[row * experts + e] / 255) * 0.6 : 0.35 + 0.65 * Math.min(1, Math.abs(weight));
    }, shareColour);
    const size = Math.max(6, Math.min(22, Math.floor(roomFor(600) / Math.max(experts, positions))));
    this.canvas.style.width = `${size * experts}px`;
    this.canvas.style.height = `${size * positions}px`;
    markRow(this.marker);
    labelRows(this.rows, size);
    labelColumns(this.columns, size, experts, Math.ceil(14 / size), String);
    const row = p - seen.first;
    const own = [...arrayOf(`experts.${layer}.chosen`).subarray(row * k, (row + 1) * k)];
    fill(this.words, "At ", tokenInWords(tokenText(p)), ` the router chose ${own.map((e) => `expert ${e} (weight ${number(this.weightOf(layer, row, e))})`).join(", ")}. Dark cells are chosen experts, pale ones the scores of the others.`);
    const loads = new Array(experts).fill(0);
    for (const e of arrayOf(`experts.${layer}.chosen`)) loads[e] += 1;
    const most = Math.max(...loads, 1);
    fill(this.load, el("div", { class: "loads" }, loads.map((load, e) => hinted(el("span", { class: own.includes(e) ? "load is-chosen" : "load" }, (() => {
      const inner = el("i");
      inner.style.height = `${(100 * load) / most}%`;
      return inner;
    })(), el("b", {}, String(e))), () => `expert ${e}: ${load} of ${positions} tokens`))));
  },
});

"use strict";
/* Cost: what the model read and computed for one token, and how long each part took. */

views.push({
  id: "cost",
  title: "Cost",
  says: "To write one token the model reads all its weights once, and what it keeps of the text. On a processor this reading takes the time, not the arithmetic.",
  present: () => seen.cost !== null,

  build(section) {
    this.words = el("p", { class: "sum" });
    this.table = el("div", { class: "scroll tall" });
    section.append(this.words, this.table);
  },

  update(changed) {
    if (!["token", "layer", "theme"].some((name) => changed.has(name))) return;
    const { parts, weights, cache, flops, seconds } = seen.cost;
    const p = position();
    const sum = (values) => values.reduce((a, b) => a + b, 0);
    // The first pass reads the prompt as a whole; each later one reads the token that was written last.
    const pass = p - (seen.prompt_length - 1);
    const took = pass >= 0 && pass < seconds.length ? seconds[pass] : null;
    fill(this.words, "Reading ", tokenInWords(tokenText(p)), " after the tokens before it costs ", el("b", { class: "mono" }, sizeOf(sum(weights))), " of weights, ",
      el("b", { class: "mono" }, sizeOf(sum(cache[p]))), " of cache and ", el("b", { class: "mono" }, `${(sum(flops[p]) / 1e6).toFixed(1)} million`), " floating-point operations. ",
      took ? (pass ? `It took ${milliseconds(sum(took))} here.` : `The whole prompt took ${milliseconds(sum(took))} here, in one pass.`) : "");
    const most = { weights: Math.max(...weights, 1), cache: Math.max(...cache[p], 1), flops: Math.max(...flops[p], 1), time: took ? Math.max(...took, 1e-9) : 1 };
    const rows = parts.map((part, i) => {
      const layer = layerOf(`${part}.`);
      return el("tr", { class: layer === null ? "" : layer === chosen.layer ? "choice is-chosen" : "choice", onclick: layer === null ? null : () => choose({ layer }) },
        el("th", { scope: "row" }, layer === null ? part : `layer ${layer}`),
        el("td", {}, bar(weights[i] / most.weights)), el("td", { class: "number mono" }, sizeOf(weights[i])),
        el("td", { class: "number mono" }, cache[p][i] ? sizeOf(cache[p][i]) : ""),
        el("td", { class: "number mono" }, flops[p][i] ? `${(flops[p][i] / 1e6).toFixed(2)} M` : ""),
        took ? [el("td", {}, bar(took[i] / most.time)), el("td", { class: "number mono" }, milliseconds(took[i]))] : "");
    });
    const head = [["", ""], ["weights", ""], ["", "number"], ["cache", "number"], ["operations", "number"], ...(took ? [["time", ""], ["", "number"]] : [])];
    fill(this.table, el("table", { class: "rows" }, el("thead", {}, el("tr", {}, head.map(([name, kind]) => el("th", { class: kind }, name)))), el("tbody", {}, rows)));
  },
});

function milliseconds(seconds) {
  return seconds >= 1 ? `${seconds.toFixed(2)} s` : `${(1000 * seconds).toFixed(seconds < 0.001 ? 3 : seconds < 0.01 ? 2 : 1)} ms`;
}

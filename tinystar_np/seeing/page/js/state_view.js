"use strict";
/* State: what the model must keep of a text between two tokens, layer by layer. */

views.push({
  id: "state",
  title: "State",
  says: "Between tokens the model keeps keys and values of what it has read, or a recurrent state. Nothing else connects one step with the next.",
  present: () => seen.state.length > 0,

  build(section) {
    this.words = el("p", { class: "sum" });
    this.chart = el("div");
    this.table = el("div", { class: "scroll tall" });
    section.append(this.words, this.chart, el("h3", {}, "Layer by layer"), this.table);
  },

  update(changed) {
    if (!changed.has("token") && !changed.has("theme") && !changed.has("layer")) return;
    const p = position();
    const T = seen.tokens.length;
    const totals = Array.from({ length: T }, (_, t) => seen.state.reduce((sum, layer) => sum + layer.bytes[t], 0));
    fill(this.words, "After ", el("b", { class: "mono" }, count(p + 1)), p ? " tokens it keeps " : " token it keeps ", el("b", { class: "mono" }, sizeOf(totals[p])),
      !p ? "." : totals[p] === totals[p - 1] ? ", as much as one token before." : `, ${sizeOf(totals[p] - totals[p - 1])} more than one token before.`);
    fill(this.chart, lineChart(totals.slice(seen.first), Math.max(...totals), p - seen.first, sizeOf));
    const most = Math.max(...seen.state.map((layer) => layer.bytes[p]), 1);
    fill(this.table, el("table", { class: "rows" }, el("tbody", {}, seen.state.map((layer) => el("tr", { class: layer.layer === chosen.layer ? "choice is-chosen" : "choice", onclick: () => choose({ layer: layer.layer }) },
      el("th", { scope: "row" }, `layer ${layer.layer}`), el("td", {}, bar(layer.bytes[p] / most)), el("td", { class: "number mono" }, sizeOf(layer.bytes[p])),
      el("td", { class: "soft" }, growth(layer, p)))))));
  },
});

/* How a layer's state grows from the token before position p to that one: not at all where it is of a recurrence,
   or where its window is full. */
function growth(layer, p) {
  const first = layer.bytes[Math.min(1, layer.bytes.length - 1)] - layer.bytes[0];
  if (layer.fixed && layer.fixed === layer.bytes.at(-1)) return "does not grow";
  const isFull = p > 0 && layer.bytes[p] === layer.bytes[p - 1];
  return isFull ? `grew by ${sizeOf(first)} a token until its window was full` : `grows by ${sizeOf(first)} a token`;
}

"use strict";
/* Who wrote the token: its logit as the exact sum of what each part of the model added. */

views.push({
  id: "writers",
  title: "Who wrote the token",
  says: "A token's score is a sum: each head and each layer adds its share to the residual stream, and the output layer reads the total.",

  build(section) {
    if (seen.writers.refused) {
      section.append(el("p", { class: "note" }, `Not for this model: ${seen.writers.refused}`));
      this.update = () => {};
      return;
    }
    this.other = el("select", { "aria-label": "Compared with" });
    this.other.addEventListener("change", () => this.draw());
    this.sum = el("p", { class: "sum" });
    this.layers = el("div", { class: "scroll" });
    this.parts = el("div", { class: "ranked" });
    section.append(el("p", { class: "slider" }, el("label", {}, "The logit of ", this.token = el("span")), el("label", {}, " minus that of ", this.other)),
      this.sum, el("h3", {}, "Layer by layer"), this.layers, el("h3", {}, "The parts that count most"), this.parts,
      el("p", { class: "note" }, "Blue parts speak for the token, orange ones against it. The scale of each norm is held at what it was for this text; nothing else is approximated. \u201cWithout it\u201d is computed again with the part taken out at every token, for the parts that count most in this text."));
  },

  update(changed) {
    if (!["token", "layer", "head", "theme"].some((name) => changed.has(name))) return;
    const p = position();
    fill(this.token, tokenInWords(followed(p)));
    const row = p - seen.writers.start;
    this.stored = row >= 0;
    if (!this.stored) {
      fill(this.sum, "The parts of this token's logit are not stored in the page.");
      fill(this.layers);
      fill(this.parts);
      return;
    }
    if (changed.has("token") || changed.has("theme")) {
      const before = this.other.value;
      const tokens = writerTokens(row);
      fill(this.other, el("option", { value: 0 }, "nothing: the logit itself"),
        tokens.slice(1).map((id, k) => el("option", { value: k + 1 }, `${tokenLabel(textOf(id))}`)));
      this.other.value = before && before < tokens.length ? before : tokens.length > 1 ? 1 : 0;
    }
    this.draw();
  },

  draw() {
    const row = position() - seen.writers.start;
    const k = Number(this.other.value);
    const values = writerValues(row, k);
    const logits = arrayOf("writers.logits");
    const C = logits.shape[1];
    const logit = logits[row * C] - (k ? logits[row * C + k] : 0);
    const total = values.reduce((a, b) => a + b, 0);
    const cap = seen.writers.before_cap ? " (before the soft cap)" : "";
    fill(this.sum, "The parts sum to ", el("b", { class: "mono" }, number(total)), `, the model computed `, el("b", { class: "mono" }, number(logit)), `${cap}. `,
      k ? "" : "A logit by itself says little: what counts is how far it is above the others.");
    fill(this.layers, this.layerTable(values));
    const order = values.map((value, i) => [value, i]).sort((a, b) => Math.abs(b[0]) - Math.abs(a[0])).slice(0, 14);
    const most = Math.max(...order.map(([value]) => Math.abs(value)), 1e-12);
    fill(this.parts, order.map(([value, i]) => this.partRow(seen.writers.parts[i], i, value, most)));
  },

  /** One part as a bar to the left or to the right of zero. */
  partRow(part, i, value, most) {
    const row = el("div", { class: "signed-row" }, el("span", { class: "part-name" }, partName(part)), signedBar(value / most), el("span", { class: "mono" }, number(value)), el("span", { class: "effect" }, takenOut(i)));
    const layer = layerOf(part.path);
    if (layer === null) return row;
    row.classList.add("choice");
    row.addEventListener("click", () => choose(part.kind === "head" ? { layer, head: part.index } : { layer, tap: tapOfPart(part) }));
    return row;
  },

  /** Layers as rows: heads as small squares, then the other parts, and the sum so far. */
  layerTable(values) {
    const most = Math.max(...values.map(Math.abs), 1e-12);
    const rows = new Map();
    values.forEach((value, i) => {
      const part = seen.writers.parts[i];
      const layer = layerOf(part.path);
      const key = layer === null ? part.path : `layer ${layer}`;
      if (!rows.has(key)) rows.set(key, []);
      rows.get(key).push([part, value, i]);
    });
    let sum = 0;
    const ends = [];
    for (const parts of rows.values()) ends.push(sum += parts.reduce((a, [, value]) => a + value, 0));
    const reach = Math.max(...ends.map(Math.abs), 1e-12);
    const body = [...rows].map(([key, parts], i) => {
      const cells = parts.map(([part, value]) => {
        const cell = el("span", { class: part.kind === "head" || part.kind === "expert" ? "cell" : "cell wide" });
        cell.style.backgroundColor = css(signedColour(value / most));
        const layer = layerOf(part.path);
        if (layer !== null && part.kind === "head") {
          if (layer === chosen.layer && part.index === chosen.head) cell.classList.add("is-chosen");
          cell.addEventListener("click", () => choose({ layer, head: part.index }));
        }
        return hinted(cell, () => `${partName(part)}: ${number(value)}`);
      });
      return el("tr", {}, el("th", { scope: "row" }, key), el("td", {}, el("span", { class: "cells" }, cells)),
        el("td", { class: "number" }, number(parts.reduce((a, [, value]) => a + value, 0))), el("td", {}, signedBar(ends[i] / reach)), el("td", { class: "number" }, number(ends[i])));
    });
    return el("table", { class: "rows writers" }, el("thead", {}, el("tr", {}, ["", "heads, then feed-forward and biases", "adds", "sum so far", ""].map((name, i) => el("th", { class: i === 2 ? "number" : "" }, name)))), el("tbody", {}, body));
  },
});

/** The tokens whose logits are divided at a stored position: the chosen one first. */
function writerTokens(row) {
  const tokens = arrayOf("writers.tokens");
  const C = tokens.shape[1];
  return [...tokens.subarray(row * C, (row + 1) * C)].filter((id) => id >= 0);
}

/** What each part added to the chosen token's logit, minus what it added to the k-th token's where k > 0. */
function writerValues(row, k) {
  const stored = arrayOf("writers.values");
  const [, C, n] = stored.shape;
  const of = (j) => stored.subarray((row * C + j) * n, (row * C + j + 1) * n);
  const own = of(0);
  if (!k) return [...own];
  const other = of(k);
  return Array.from(own, (value, i) => value - other[i]);
}

/** "layer 3, head 2", "layer 3, feed-forward". */
function partName(part) {
  const layer = layerOf(part.path);
  const what = part.path.split(".").pop().replace("_", "-");
  const index = part.index === null ? "" : ` ${part.index}`;
  const kind = part.kind === "whole" ? "" : ` ${part.kind}${index}`;
  if (layer === null) return `${part.path}${kind}`;
  if (part.kind === "head") return `layer ${layer}, ${what === "attention" ? "" : `${what} `}head${index}`;
  return `layer ${layer}, ${what}${kind}`;
}

/** The layer in a path, or null. */
function layerOf(path) {
  const found = /^blocks\.(\d+)\./.exec(path);
  return found ? Number(found[1]) : null;
}

/** The tap that holds a part's result. */
function tapOfPart(part) {
  const layer = layerOf(part.path);
  const what = part.path.split(".").pop();
  const names = seen.pictures.kinds[seen.pictures.kind_of[layer]].map((node) => node.name).filter((name) => name.startsWith(`${what}.`));
  return names[names.length - 1];
}

/** What happens when a part is taken out, in words; nothing where that was not computed. */
function takenOut(i) {
  const part = seen.writers.parts[i];
  const name = part.kind === "whole" ? part.path : `${part.path} ${part.kind}${part.index === null ? "" : ` ${part.index}`}`;
  const row = seen.without.indexOf(name);
  if (row < 0) return "";
  const at = row * storedPositions() + position() - seen.first;
  const probability = arrayOf("without.probability")[at];
  const best = arrayOf("without.best")[at];
  const own = seen.follow[position()];
  const words = [tokenInWords(followed(position())), ` ${percent(probability)}`];
  if (best !== own) words.push(", the likeliest is then ", tokenInWords(textOf(best)), ` ${percent(arrayOf("without.of_best")[at])}`);
  return ["without it: ", words];
}

/** A bar from the middle: to the right above zero, to the left below. */
function signedBar(share) {
  const inner = el("i", { class: share < 0 ? "below" : "" });
  const width = 50 * Math.min(1, Math.abs(share));
  inner.style.width = `${width}%`;
  inner.style.left = share < 0 ? `${50 - width}%` : "50%";
  return el("span", { class: "bar signed" }, inner);
}

"use strict";
/* The logit lens: what the model would say after each layer, if that were the last one. */

views.push({
  id: "lens",
  title: "What it would say at each layer",
  says: "The residual stream after every layer, read as if it were the last: the final norm and the output layer are the model's own.",

  build(section) {
    const layers = seen.model.layers.length;
    const positions = storedPositions();
    this.cells = [];
    const body = el("tbody");
    for (let layer = layers; layer >= 0; layer--) {
      const row = el("tr", {}, el("th", { scope: "row" }, layerName(layer)));
      const cells = [];
      for (let p = seen.first; p < seen.first + positions; p++) {
        const button = el("button", { type: "button", tabindex: -1, class: "lens-cell" }, tokenLabel(textOf(lensId(layer, p, 0)), 12));
        button.addEventListener("click", () => choose({ token: p + 1, layer: Math.max(0, layer - 1) }));
        hinted(button, () => lensWords(layer, p));
        button.setAttribute("aria-label", lensWords(layer, p));
        cells.push(button);
        row.append(el("td", {}, button));
      }
      this.cells.push(cells);
      body.append(row);
    }
    const head = el("tr", {}, el("th", {}, ""));
    this.heads = [];
    for (let p = seen.first; p < seen.first + positions; p++) {
      const cell = el("th", { scope: "col" }, tokenLabel(tokenText(p), 10));
      this.heads.push(cell);
      head.append(cell);
    }
    this.side = el("div", { class: "lens-side" });
    section.append(el("h3", {}, "At the chosen position"), this.side, el("h3", {}, "At every position"),
      el("p", { class: "note" }, "The likeliest token after each layer, darker where its probability is higher. Columns are what the model had read; what it says stands above."),
      el("div", { class: "scroll", id: "lens-table" }, el("table", { class: "lens" }, el("thead", {}, head), body)));
    gridKeys(body, this.cells, (y, x) => choose({ token: seen.first + x + 1, layer: Math.max(0, layers - y - 1) }));
  },

  update(changed) {
    const layers = seen.model.layers.length;
    if (changed.has("theme")) {
      this.cells.forEach((cells, y) => cells.forEach((cell, x) => {
        const colour = shareColour(0.85 * lensProbability(layers - y, seen.first + x, 0));
        cell.style.backgroundColor = css(colour);
        cell.style.color = inkOn(colour);
      }));
    }
    if (!changed.has("token") && !changed.has("layer") && !changed.has("theme")) return;
    const p = position();
    this.cells.forEach((cells, y) => cells.forEach((cell, x) => {
      const here = seen.first + x === p;
      cell.classList.toggle("is-here", here);
      cell.setAttribute("tabindex", here && layers - y === chosen.layer + 1 ? 0 : -1);
    }));
    this.heads.forEach((cell, x) => cell.classList.toggle("is-here", seen.first + x === p));
    const rows = [];
    for (let layer = layers; layer >= 0; layer--) {
      const probability = arrayOf("lens.chosen")[layer * storedPositions() + p - seen.first];
      const rank = arrayOf("lens.ranks")[layer * storedPositions() + p - seen.first];
      rows.push(el("tr", { class: layer === chosen.layer + 1 ? "is-chosen choice" : "choice", onclick: () => choose({ layer: Math.max(0, layer - 1) }) },
        el("th", { scope: "row" }, layerName(layer)),
        el("td", { class: "top-five" }, [0, 1, 2, 3, 4].filter((k) => k < arrayOf("lens.ids").shape[2]).map((k) => {
          const tint = shareColour(0.85 * lensProbability(layer, p, k));
          const chip = el("span", { class: `chip${lensId(layer, p, k) === seen.follow[p] ? " hit" : ""}` }, tokenNodes(textOf(lensId(layer, p, k))));
          chip.style.backgroundColor = css(tint);
          chip.style.color = inkOn(tint);
          return hinted(chip, () => `${tokenLabel(textOf(lensId(layer, p, k)))}: ${percent(lensProbability(layer, p, k))}`);
        })),
        el("td", {}, bar(probability)), el("td", { class: "number" }, percent(probability)), el("td", { class: "number" }, count(rank))));
    }
    fill(this.side, el("div", { class: "scroll" }, el("table", { class: "rows" },
      el("thead", {}, el("tr", {}, el("th", {}, "after"), el("th", {}, "the five likeliest"),
        el("th", { colspan: 2 }, "probability of ", tokenInWords(followed(p))), el("th", { class: "number" }, "rank"))),
      el("tbody", {}, rows))));
  },
});

function layerName(layer) {
  return layer === 0 ? "embedding" : `layer ${layer - 1}`;
}

/** The k-th likeliest token after a layer (0: after the embedding) at a position. */
function lensId(layer, p, k) {
  const ids = arrayOf("lens.ids");
  return ids[(layer * storedPositions() + p - seen.first) * ids.shape[2] + k];
}

/** Its probability. */
function lensProbability(layer, p, k) {
  const found = arrayOf("lens.probabilities");
  return found[(layer * storedPositions() + p - seen.first) * found.shape[2] + k];
}

function lensWords(layer, p) {
  const lines = [`${layer ? `After layer ${layer - 1}` : "After the embedding"}, position ${p} (${tokenLabel(tokenText(p))})`];
  for (let k = 0; k < arrayOf("lens.ids").shape[2]; k++) lines.push(`${tokenLabel(textOf(lensId(layer, p, k)))}  ${percent(lensProbability(layer, p, k))}`);
  return lines.join("\n");
}

/** The likeliest tokens after a layer as bars. */
function candidates(layer, p) {
  return el("div", { class: "candidates" }, [0, 1, 2, 3, 4].filter((k) => k < arrayOf("lens.ids").shape[2]).map((k) =>
    el("div", {}, el("span", { class: "piece" }, tokenNodes(textOf(lensId(layer, p, k)))), bar(lensProbability(layer, p, k)),
      el("span", { class: "mono" }, percent(lensProbability(layer, p, k))))));
}

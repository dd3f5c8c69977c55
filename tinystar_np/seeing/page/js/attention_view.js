"use strict";
/* Attention: every head of every layer as a small picture, one of them enlarged. */

views.push({
  id: "attention",
  title: "Attention",
  says: "In attention each token takes from earlier ones. Rows are the tokens that look, columns the tokens they look at; darker is more.",
  present: () => seen.attention.length > 0,

  build(section) {
    this.grid = el("div", { class: "scroll" });
    this.kind = null;
    this.chips = el("div", { class: "kinds" });
    this.enlarged = el("div", { class: "enlarged" });
    this.text = el("p", { class: "reading" });
    this.headName = el("h3", {});
    this.words = el("p", { class: "note" });
    section.append(this.headName, this.words, this.text, this.enlarged, el("h3", {}, "All heads"),
      el("p", { class: "note" }, "A row for each layer, the first at the top. Heads with a frame around them share one key. Choose one to enlarge it; arrow keys move among them."),
      this.chips, this.grid);
    this.cells = [];
    const rows = seen.attention.map((layer, y) => {
      const cells = [];
      for (let head = 0; head < layer.heads; head++) {
        const canvas = el("canvas", { "aria-hidden": "true" });
        const cell = el("button", { type: "button", class: "head", tabindex: -1, "aria-label": headName(layer.layer, head) }, canvas);
        cell.addEventListener("click", () => choose({ layer: layer.layer, head }));
        hinted(cell, () => headWords(layer.layer, head));
        cells.push(cell);
      }
      this.cells.push(cells);
      const shared = layer.heads / (layer.keys || layer.heads);
      const groups = [];
      for (let g = 0; g < layer.heads; g += shared) groups.push(el("span", { class: shared > 1 ? "group" : "alone" }, cells.slice(g, g + shared)));
      return el("div", { class: "heads" }, el("span", { class: "heads-name" }, String(layer.layer)), groups);
    });
    this.grid.append(...rows);
    gridKeys(this.grid, this.cells, (y, x) => choose({ layer: seen.attention[y].layer, head: x }));
    this.buildKinds();
    const canvas = el("canvas", { role: "img" });
    this.canvas = canvas;
    this.marker = el("div", { class: "row-marker" });
    this.columns = el("div", { class: "axis columns", "aria-hidden": "true" });
    this.rows = el("div", { class: "axis rows-axis", "aria-hidden": "true" });
    this.enlarged.append(this.rows, el("div", { class: "picture" }, canvas, this.marker), this.columns);
    const at = (event) => cellAt(event, canvas, storedPositions(), seen.tokens.length);
    hinted(canvas, (event) => {
      const [row, s] = at(event);
      const t = seen.first + row;
      if (!this.weight(t, s) && isHidden(this.layer(), t, s)) return `${tokenLabel(tokenText(t))} cannot see ${s > t ? "what comes later" : "so far back"}.`;
      return `${tokenLabel(tokenText(t))} (${t}) → ${tokenLabel(tokenText(s))} (${s})\n${this.weightWords(t, s)}`;
    });
    canvas.addEventListener("click", (event) => choose({ token: seen.first + at(event)[0] + 1 }));
  },

  /** Buttons that mark the heads of one kind. */
  buildKinds() {
    const of = new Map();
    for (const layer of seen.attention) layer.kinds.forEach((kinds, head) => kinds.forEach((kind) => of.set(kind, [...(of.get(kind) ?? []), [layer.layer, head]])));
    if (!of.size) return;
    const buttons = [...of].map(([kind, heads]) => {
      const button = el("button", { type: "button", class: "quiet", "aria-pressed": "false" }, `${kind}: ${heads.length} head${heads.length > 1 ? "s" : ""}`);
      button.addEventListener("click", () => {
        this.kind = this.kind === kind ? null : kind;
        for (const each of buttons) each.setAttribute("aria-pressed", String(each === button && this.kind === kind));
        this.cells.forEach((cells, y) => cells.forEach((cell, head) => cell.classList.toggle("is-dim", this.kind !== null && !seen.attention[y].kinds[head].includes(this.kind))));
      });
      return hinted(button, () => KIND_WORDS[kind]);
    });
    this.chips.append(el("span", { class: "note" }, "Kinds of heads, by where their attention goes in this text: "), ...buttons);
  },

  /** The layer that is shown: the chosen one, or the nearest that has attention. */
  layer() {
    return nearestLayer(seen.attention);
  },

  head() {
    return Math.min(chosen.head, this.layer().heads - 1);
  },

  /** The stored weight from position t to position s, 0 to 255. */
  weight(t, s) {
    return attentionRow(this.layer().layer, this.head(), t)[s];
  },

  weightWords(t, s) {
    const layer = this.layer().layer;
    const i = this.head() * storedPositions() + t - seen.first;
    if (arrayOf(`attention.${layer}.most_at`)[i] === s) return percent(arrayOf(`attention.${layer}.most`)[i]);
    return `≈ ${(this.weight(t, s) / 2.55).toFixed(1)} %`;
  },

  update(changed) {
    if (changed.has("theme")) {
      seen.attention.forEach((layer, y) => this.cells[y].forEach((cell, head) => paintHead(cell.firstChild, layer.layer, head)));
    }
    if (!["token", "layer", "head", "theme"].some((name) => changed.has(name))) return;
    const { layer, heads, keys } = this.layer();
    const head = this.head();
    const y = seen.attention.findIndex((each) => each.layer === layer);
    this.cells.forEach((cells, row) => cells.forEach((cell, x) => {
      const here = row === y && x === head;
      cell.classList.toggle("is-chosen", here);
      cell.setAttribute("tabindex", here ? 0 : -1);
    }));
    const p = position();
    const positions = storedPositions();
    const T = seen.tokens.length;
    this.headName.textContent = headName(layer, head);
    const shared = heads / (keys || heads);
    const notes = [seen.model.layers[layer].mixer, seen.model.layers[layer].positions].filter(Boolean);
    if (shared > 1) notes.push(`it shares key ${Math.floor(head / shared)} with ${shared === 2 ? "one other head" : `${shared - 1} others`}`);
    const measures = Object.entries(this.layer().scores).filter(([, scores]) => scores[head] !== null);
    const kinds = this.layer().kinds[head];
    fill(this.words, notes.join(" · "), el("br"), "Share of its attention that goes to: ", measures.map(([kind, scores], i) => [
      i ? " · " : "", hinted(el(kinds.includes(kind) ? "b" : "span", {}, `${KIND_GOES[kind]} ${percent(scores[head])}`), () => KIND_WORDS[kind])]));
    paintHead(this.canvas, layer, head);
    this.canvas.setAttribute("aria-label", `${headName(layer, head)}: where each token looks`);
    this.canvas.className = "big";
    const size = Math.max(seen.images.length ? 1 : 5, Math.min(22, Math.floor(roomFor(560) / T)));
    this.canvas.style.width = `${size * T}px`;
    // Of a long text few rows are stored: they may be higher than columns are wide.
    const height = Math.max(size, Math.min(16, Math.floor(320 / positions)));
    this.canvas.style.height = `${height * positions}px`;
    markRow(this.marker);
    labelRows(this.rows, height);
    labelColumns(this.columns, size, T, Math.ceil(11 / size), (s) => tokenLabel(tokenText(s), 12));
    const row = attentionRow(layer, head, p);
    // Of many small weights the rounded bytes say too little to tell what is left for a sink.
    const rest = seen.images.length ? 0 : 255 - row.reduce((a, b) => a + b, 0);
    fill(this.text, el("span", { class: "soft" }, "Reading at "), tokenInWords(tokenText(p)), el("span", { class: "soft" }, ` (position ${p}) it takes from: `),
      piecesUpTo(p).map((piece) => {
        const whole = piece.image !== null;
        const share = whole ? imageShare(piece.image, layer, seen.images_by_head ? head : null, p) : row[piece.from] / 255;
        const colour = shareColour(0.9 * Math.sqrt(share));
        const shown = el("span", { class: "token" }, pieceNodes(piece));
        shown.style.backgroundColor = css(colour);
        shown.style.color = inkOn(colour);
        return hinted(shown, () => (whole ? `${imageWords(piece.image)}: ${percent(share)} together` : `${tokenLabel(tokenText(piece.from))} (${piece.from}): ${this.weightWords(p, piece.from)}`));
      }),
      this.layer().sinks && rest > 2 ? el("span", { class: "soft" }, ` and ${(rest / 2.55).toFixed(0)} % from nothing: the sink.`) : "");
  },
});

function headName(layer, head) {
  return `Layer ${layer}, head ${head}`;
}

/** A head in words, where the measures of seeing/head_kinds.py say something of it. */
function headWords(layer, head) {
  const about = seen.attention.find((each) => each.layer === layer);
  const kinds = about.kinds[head].map((kind) => `${kind} ${percent(about.scores[kind][head])}`);
  return [headName(layer, head), ...kinds].join("\n");
}

const KIND_GOES = {
  "first token": "the first token",
  self: "the token itself",
  "previous token": "the one before",
  "duplicate token": "earlier ones like it",
  induction: "what followed these",
};

const KIND_WORDS = {
  "first token": "It rests on the text's first token: often a head that finds nothing to attend to.",
  self: "It looks at the token itself.",
  "previous token": "It looks at the token before.",
  "duplicate token": "It looks at earlier tokens that are the same as this one.",
  induction: "It looks at what followed the same token earlier: what came last time is likely to come again.",
};

/** Whether a token cannot see another: it comes later, or lies outside the window or chunk. */
function isHidden(about, t, s) {
  if (about.causal && s > t) return true;
  if (about.window !== null && s <= t - about.window) return true;
  return about.chunk !== null && Math.floor(s / about.chunk) !== Math.floor(t / about.chunk);
}

/** The stored weights of a query: from position t to every position. */
function attentionRow(layer, head, t) {
  const weights = arrayOf(`attention.${layer}`);
  const [, positions, S] = weights.shape;
  const at = (head * positions + t - seen.first) * S;
  return weights.subarray(at, at + S);
}

/** Draw a head: rows are queries, columns keys. What is hidden by the mask stays the colour of paper. */
function paintHead(canvas, layer, head) {
  const positions = storedPositions();
  const rows = Array.from({ length: positions }, (_, i) => attentionRow(layer, head, seen.first + i));
  const about = seen.attention.find((each) => each.layer === layer);
  paint(canvas, positions, seen.tokens.length,
    (y, x) => (rows[y][x] === 0 && isHidden(about, seen.first + y, x) ? -1 : Math.sqrt(rows[y][x] / 255)),
    (share) => (share < 0 ? palette.wash : shareColour(share)));
}

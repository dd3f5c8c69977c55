"use strict";
/* The way through the model: a block's picture, and beside it the values, the formula and the code of one tap. */

views.push({
  id: "block",
  title: "The way through the model",
  says: "Every box is an intermediate that the model computed for this text. Choose one to see its values and the lines of code they come from.",

  build(section) {
    const layers = seen.pictures.kind_of.length;
    this.layer = el("input", { type: "range", min: 0, max: layers - 1, step: 1, "aria-label": "Layer" });
    this.layer.addEventListener("input", () => choose({ layer: Number(this.layer.value) }));
    this.layerWords = el("p", { class: "note" });
    this.layerName = el("output", { class: "mono" });
    this.before = el("div", { class: "chips" });
    this.after = el("div", { class: "chips" });
    this.drawing = el("div", { class: "scroll drawing" });
    this.details = el("div", { class: "details", id: "details", "aria-live": "polite" });
    section.append(el("div", { class: "slider" }, el("label", {}, "Layer "), this.layer, this.layerName), this.layerWords,
      el("div", { class: "halves" }, el("div", {}, this.before, this.drawing, this.after), this.details));
    const around = seen.pictures.around.map((node) => node.name);
    for (const name of around) {
      const button = el("button", { type: "button", class: "quiet", onclick: () => this.select(name) }, name);
      (name.startsWith("embedding") ? this.before : this.after).append(button);
    }
    this.kind = -1;
  },

  /** Choose a tap; on a narrow screen the details are below the picture. */
  select(name) {
    choose({ tap: name });
    if (innerWidth < 1000) this.details.scrollIntoView({ block: "start" });
  },

  update(changed) {
    if (!["token", "layer", "head", "tap", "theme"].some((name) => changed.has(name))) return;
    this.layer.value = chosen.layer;
    this.layerName.textContent = `${chosen.layer} of ${seen.pictures.kind_of.length - 1}`;
    const about = seen.model.layers[chosen.layer];
    this.layerWords.textContent = [about.block, about.mixer, about.positions].filter(Boolean).join(" · ");
    const kind = seen.pictures.kind_of[chosen.layer];
    if (kind !== this.kind) this.draw(kind);
    const node = this.node();
    for (const [name, box] of this.boxes) {
      box.classList.toggle("is-chosen", name === node.name);
      box.setAttribute("tabindex", name === node.name ? 0 : -1);
    }
    for (const button of this.before.parentNode.querySelectorAll(".chips button")) button.setAttribute("aria-pressed", String(button.textContent === node.name));
    for (const edge of this.drawing.querySelectorAll(".edge")) edge.classList.toggle("is-near", [edge.dataset.from, edge.dataset.to].includes(node.name));
    fill(this.details, tapDetails(node, pathOf(node)));
    for (const line of this.details.querySelectorAll(".row.marked")) {
      const code = line.parentNode;
      code.scrollTop = Math.max(0, line.offsetTop - code.offsetTop - code.clientHeight / 2);
    }
  },

  /** The chosen tap's node; where this layer has none of that name, the stream after the block. */
  node() {
    const nodes = [...seen.pictures.kinds[this.kind], ...seen.pictures.around];
    return nodes.find((node) => node.name === chosen.tap) ?? nodes.find((node) => node.name === "residual");
  },

  draw(kind) {
    this.kind = kind;
    const { picture, boxes, places } = blockPicture(seen.pictures.kinds[kind], (name) => this.select(name));
    this.boxes = boxes;
    fill(this.drawing, picture);
    // Arrow keys go from box to box: rows as they are drawn.
    const rows = new Map();
    for (const [name, box] of boxes) {
      const y = places[name].y;
      rows.set(y, [...(rows.get(y) ?? []), [places[name].x, name, box]]);
    }
    const grid = [...rows.keys()].sort((a, b) => a - b).map((y) => rows.get(y).sort((a, b) => a[0] - b[0]));
    gridKeys(picture, grid.map((row) => row.map((each) => each[2])), (y, x) => choose({ tap: grid[y][x][1] }));
  },
});

/** The full path of a node's tap, in the chosen layer. */
function pathOf(node) {
  return seen.pictures.around.includes(node) ? node.name : `blocks.${chosen.layer}.${node.name}`;
}

/** What is shown of a tap: words, shape, picture, numbers, formula, code. */
function tapDetails(node, path) {
  const parts = [el("h3", { class: "path" }, el("code", {}, path)), el("p", { class: "words" }, `${capital(node.words)}.`)];
  const letters = node.letters || `(${node.shape.map(() => "·").join(", ")})`;
  parts.push(el("p", { class: "shape" }, el("span", { class: "mono" }, `${letters} = (${node.shape.join(", ")})`), lettersInWords(node)));
  const tap = tapOf(path);
  if (node.name === "attention.probabilities") parts.push(attentionLink());
  else if (node.name === "logits") parts.push(logitBars());
  else if (tap) parts.push(...tapValues(tap));
  const kernels = node.kernels.map((key) => [key, seen.pictures.sources[key]]);
  const formula = kernels.map(([, source]) => source.formula).find(Boolean) ?? seen.pictures.sources[node.source].formula;
  if (kernels.length) {
    parts.push(el("h3", {}, "What computes it"), el("p", {}, withCode(kernels.map(([, source]) => source.summary).join(" "))));
  } else parts.push(el("h3", {}, "What computes it"), el("p", {}, STEP_WORDS[stepOf(node)]));
  if (formula) parts.push(el("pre", { class: "formula" }, formula));
  for (const [key, source] of kernels) {
    parts.push(sourceBlock(key));
    parts.push(el("details", {}, el("summary", {}, `The idea: ${source.file}`), essay(source.essay)));
  }
  parts.push(el("h3", {}, "Where the model calls it"), sourceBlock(node.source, node.line));
  return parts;
}

const LETTERS = {
  B: "texts", T: "tokens", S: "tokens that are looked at", D: "numbers in the stream", H: "heads", G: "heads of keys and values",
  K: "numbers in a head", F: "numbers inside the feed-forward layer", V: "tokens of the vocabulary", E: "experts",
  k: "experts chosen for a token", R: "numbers in the latent", J: "numbers that are rotated", Q: "numbers in the compressed queries",
};
const MIXER_LETTERS = { G: "groups of heads", K: "numbers in a key", J: "numbers in a value", P: "numbers in a head", N: "numbers in the state for each of these", F: "numbers inside the mixer", R: "rank of Δ" };

/** What the letters of a tap's shape stand for. */
function lettersInWords(node) {
  const known = node.name.startsWith("mixer.") ? { ...LETTERS, ...MIXER_LETTERS } : LETTERS;
  const used = [...new Set(node.letters.match(/[A-Za-z]/g) ?? [])].filter((letter) => known[letter]);
  return used.length ? el("span", { class: "letters" }, used.map((letter) => `${letter} ${known[letter]}`).join(" · ")) : null;
}

const STEP_WORDS = {
  sum: "The sum of what the arrows bring: see the marked line.",
  "times a factor": "The model multiplies it by a number of its config: see the marked line.",
  rearranged: "The same numbers, cut apart or in another order of axes: see the marked line.",
};

function capital(words) {
  return words ? words[0].toUpperCase() + words.slice(1) : "";
}

/** A tap's values: all positions as a picture, the chosen one in numbers. */
function tapValues(tap) {
  const p = position();
  const positions = storedPositions();
  const canvas = el("canvas", { role: "img", "aria-label": `${tap.path}: ${positions} tokens by ${tap.n} values` });
  let most = 0;
  for (let row = 0; row < positions; row++) most = Math.max(most, tap.scale(seen.first + row));
  paint(canvas, positions, tap.columns, (y, x) => {
    const q = seen.first + y;
    return most ? (decoded(tap.codes(q)[x]) * tap.scale(q)) / most : 0;
  }, signedColour);
  canvas.className = "values";
  canvas.style.height = `${Math.max(60, Math.min(260, positions * 9))}px`;
  const marker = el("div", { class: "row-marker" });
  markRow(marker);
  hinted(canvas, (event) => {
    const [row, column] = cellAt(event, canvas, positions, tap.columns);
    const q = seen.first + row;
    const value = decoded(tap.codes(q)[column]) * tap.scale(q);
    return `${tokenLabel(tokenText(q))} (position ${q})\n${placeOf(tap, column * tap.share, tap.share)}: ≈ ${number(value)}`;
  });
  canvas.addEventListener("click", (event) => choose({ token: seen.first + cellAt(event, canvas, positions, tap.columns)[0] + 1 }));
  const share = tap.share > 1 ? ` Each column is the value furthest from 0 of ${tap.share} neighbours.` : "";
  const [low, high, mean, rms] = tap.statistics(p);
  const places = tap.largestAt(p);
  const largest = [...tap.largest(p)].map((value, i) => [places[i], value]).filter(([at]) => at >= 0);
  return [
    el("div", { class: "picture" }, canvas, marker),
    legend(most),
    el("p", { class: "note" }, `Rows are tokens, columns the ${count(tap.n)} values of each.${share} The frame is position ${p}, `, tokenInWords(tokenText(p)), "."),
    el("dl", { class: "facts" },
      fact("smallest", number(low)), fact("largest", number(high)), fact("mean", number(mean)), fact("root mean square", number(rms)),
      fact("furthest from 0", largest.map(([at, value]) => `${number(value)} at ${placeOf(tap, at, 1)}`).join(" · "))),
  ];
}

/** Say which value of a row: "head 3, value 17", "values 8 to 15". */
function placeOf(tap, at, share) {
  const width = tap.n / tap.heads;
  const words = (from) => (share > 1 ? `values ${from} to ${Math.min(from + share, tap.n) - 1}` : `value ${from}`);
  if (tap.heads === 1 || share > width) return words(at);
  return `head ${Math.floor(at / width)}, ${words(at % width)}`;
}

function fact(name, words) {
  return el("div", {}, el("dt", {}, name), el("dd", { class: "mono" }, words));
}

/** The scale of signed colours: −most … 0 … most. */
function legend(most) {
  const canvas = el("canvas", { class: "legend-bar", "aria-hidden": "true" });
  paint(canvas, 1, 121, (_, x) => (x - 60) / 60, signedColour);
  return el("div", { class: "legend mono" }, el("span", {}, number(-most)), canvas, el("span", {}, number(most)));
}

/** The chosen head of the chosen layer, small; the view of attention has all of them. */
function attentionLink() {
  const heads = seen.attention.find((each) => each.layer === chosen.layer).heads;
  const head = Math.min(chosen.head, heads - 1);
  const canvas = el("canvas", { class: "small-head", role: "img", "aria-label": `${headName(chosen.layer, head)}: where each token looks` });
  paintHead(canvas, chosen.layer, head);
  return el("div", {}, el("div", { class: "picture fit" }, canvas),
    el("p", { class: "note" }, `${headName(chosen.layer, head)}. All heads are shown under `, el("a", { href: "#attention" }, "Attention"), "."));
}

/** The likeliest next tokens at the chosen position. */
function logitBars() {
  return el("div", {}, candidates(seen.model.layers.length, position()));
}

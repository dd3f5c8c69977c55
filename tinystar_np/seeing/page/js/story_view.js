"use strict";
/* Step by step: the chosen token's way from the text to the sampler, one sentence at each step. */

views.push({
  id: "story",
  title: "Step by step",
  says: "One token's way through the model. Go on with the button, or pull the slider.",

  build(section) {
    const layers = seen.model.layers.length;
    this.steps = ["text", "embedding", ...Array.from({ length: layers }, (_, i) => i), "norm", "logits", "choice"];
    this.at = 0;
    this.range = el("input", { type: "range", min: 0, max: this.steps.length - 1, value: 0, "aria-label": "Step" });
    this.range.addEventListener("input", () => this.go(Number(this.range.value)));
    this.back = el("button", { type: "button", class: "quiet", onclick: () => this.go(this.at - 1) }, "Back");
    this.next = el("button", { type: "button", class: "quiet", onclick: () => this.go(this.at + 1) }, "Next step");
    this.card = el("div", { class: "story", "aria-live": "polite" });
    section.append(el("div", { class: "slider" }, this.back, this.range, this.next), this.card);
  },

  go(step) {
    this.at = Math.min(this.steps.length - 1, Math.max(0, step));
    const layer = this.steps[this.at];
    if (typeof layer === "number") choose({ layer });
    this.draw();
  },

  update(changed) {
    if (changed.has("token") || changed.has("theme")) this.draw();
  },

  draw() {
    const step = this.steps[this.at];
    this.range.value = this.at;
    this.back.disabled = this.at === 0;
    this.next.disabled = this.at === this.steps.length - 1;
    const p = position();
    const says = (title, ...content) => fill(this.card, el("p", { class: "count mono soft" }, `${this.at + 1} of ${this.steps.length}`), el("h3", {}, title), content);
    if (step === "text") {
      says("The text so far", el("p", {}, `The model has read ${p + 1} token${p ? "s" : ""}, each a number in its vocabulary of ${count(seen.model.vocabulary)}. What comes next?`),
        el("p", { class: "reading" }, piecesUpTo(p).slice(-31).map((piece) => el("span", { class: "stack" }, el("span", { class: "piece" }, pieceNodes(piece)), el("small", { class: "mono soft" }, piece.image === null ? String(seen.tokens[piece.from].id) : "vectors")))));
    } else if (step === "embedding") {
      says("Numbers become vectors", el("p", {}, "The embedding gives each token a vector, one row of a table", seen.pictures.around.some((node) => node.name === "embedding.positions") ? ", and a vector for its position is added" : "", ": the residual stream begins."),
        this.stream("embedding", p), this.wouldSay(0, p));
    } else if (typeof step === "number") this.layer(step, p, says);
    else if (step === "norm") {
      says("One more norm", el("p", {}, this.sentence("final_norm"), " What the output layer reads is the last stream, normed."), this.stream("final_norm", p));
    } else if (step === "logits") {
      says("A score for every token", el("p", {}, `The output layer multiplies the vector with one of each of the ${count(seen.model.vocabulary)} tokens. The softmax turns these scores into probabilities.`), candidates(seen.model.layers.length, p));
    } else {
      const made = seen.sampler[chosen.token - seen.prompt_length];
      const how = !made ? (chosen.token >= seen.prompt_length && chosen.token < seen.tokens.length ? "A random number that is not known here fell on:"
        : chosen.token < seen.tokens.length ? "Here the prompt says what comes next, so nothing is chosen:" : "Nothing has been chosen here yet; the likeliest is:")
        : made.drawn ? `A random number, ${made.drawn.number.toFixed(4)}, falls on one of the ${count(made.steps[made.steps.length - 1].left)} tokens that the sampler has left:` : "The sampler takes the likeliest token:";
      says("The choice", el("p", {}, how), el("p", { class: "result" }, el("span", { class: "piece" }, tokenNodes(followed(p)))), el("p", { class: "note" }, "It is added to the text, and everything begins again with one token more."));
    }
  },

  /** A layer: what it is made of, where its heads looked most, what the stream would say now. */
  layer(layer, p, says) {
    const nodes = seen.pictures.kinds[seen.pictures.kind_of[layer]];
    const parts = [...new Set(nodes.map((node) => node.part).filter(Boolean))];
    const names = { attention: "attention, which takes from other tokens", mixer: "a recurrence, which takes from its state", feed_forward: "feed-forward, which works on this token alone" };
    const found = seen.attention.find((each) => each.layer === layer);
    const content = [el("p", {}, `${capital(parts.map((part) => names[part] ?? part).join("; then "))}. Each adds its result to the stream.`), this.stream(`blocks.${layer}.residual`, p)];
    if (found) content.push(el("h4", {}, "Where its heads look"), this.links(layer, found.heads, p));
    content.push(this.wouldSay(layer + 1, p));
    says(`Layer ${layer}`, content);
  },

  /** The tokens that all heads of a layer together look at most. */
  links(layer, heads, p) {
    const sums = new Array(p + 1).fill(0);
    for (let head = 0; head < heads; head++) {
      const row = attentionRow(layer, head, p);
      for (let s = 0; s <= p; s++) sums[s] += row[s] / 255 / heads;
    }
    return el("p", { class: "reading" }, piecesUpTo(p).map((piece) => {
      const share = piece.image === null ? sums[piece.from] : imageShare(piece.image, layer, null, p);
      const colour = shareColour(0.9 * Math.sqrt(share));
      const shown = el("span", { class: "token" }, pieceNodes(piece));
      shown.style.backgroundColor = css(colour);
      shown.style.color = inkOn(colour);
      const name = piece.image === null ? `${tokenLabel(tokenText(piece.from))} (${piece.from})` : imageWords(piece.image);
      return hinted(shown, () => `${name}: ≈ ${percent(share)} of the ${heads} heads' attention`);
    }));
  },

  /** A row of a tap as a strip of colours. */
  stream(path, p) {
    const tap = tapOf(path);
    const canvas = el("canvas", { class: "stream-row", role: "img", "aria-label": `${path} at position ${p}` });
    paint(canvas, 1, tap.columns, (_, x) => decoded(tap.codes(p)[x]), signedColour);
    hinted(canvas, (event) => {
      const column = cellAt(event, canvas, 1, tap.columns)[1];
      return `${placeOf(tap, column * tap.share, tap.share)}: ≈ ${number(decoded(tap.codes(p)[column]) * tap.scale(p))}`;
    });
    return el("figure", {}, canvas, el("figcaption", { class: "note" }, el("code", {}, path), `: ${count(tap.n)} numbers, root mean square ${number(tap.statistics(p)[3])}`));
  },

  wouldSay(layer, p) {
    return el("div", {}, el("h4", {}, "If it ended here, the model would say"), candidates(layer, p));
  },

  /** The sentence of the kernel that computes a tap around the blocks. */
  sentence(name) {
    const node = seen.pictures.around.find((each) => each.name === name);
    return node && node.kernels.length ? withCode(seen.pictures.sources[node.kernels[0]].summary) : "";
  },
});

"use strict";
/* The sampler: from the model's logits to the one token that was written, step by step. */

const SAMPLER_WORDS = {
  model: ["The model", "The softmax of its logits: every token has some probability."],
  logit_bias: ["Logit bias", "To the logits of so many tokens a number is added."],
  repetition_penalty: ["Repetition penalty", "Tokens that the text holds already get less likely."],
  frequency_penalty: ["Frequency penalty", "Tokens that were written get less likely, more so each time."],
  presence_penalty: ["Presence penalty", "Tokens that were written get less likely, however often they were."],
  no_repeat_ngram_size: ["No repeated sequence", "Tokens that would repeat a sequence of the text are forbidden."],
  temperature: ["Temperature", "Below 1 the likely get likelier, above 1 less so."],
  top_k: ["Top k", "Only the k likeliest stay."],
  top_p: ["Top p", "Only the likeliest stay, as many as together have probability p."],
  min_p: ["Min p", "What is less likely than this part of the likeliest falls."],
  typical_p: ["Typical p", "Only the most typical stay: those about as surprising as the average."],
};

views.push({
  id: "sampler",
  title: "The sampler",
  says: "The model gives every token a probability. The sampler decides which of them is written.",
  present: () => seen.sampler.length > 0,

  build(section) {
    this.steps = el("div", { class: "sampler" });
    section.append(this.steps);
  },

  update(changed) {
    if (!changed.has("token") && !changed.has("theme")) return;
    const made = seen.sampler[chosen.token - seen.prompt_length];
    if (!made) {
      const words = chosen.token < seen.prompt_length ? "This token is the prompt's: nobody had to choose it." : "Nothing has been chosen here: the text ends.";
      fill(this.steps, el("p", { class: "note" }, words), candidates(seen.model.layers.length, position()));
      return;
    }
    const id = seen.tokens[chosen.token].id;
    const cards = made.steps.map((step) => {
      const [name, says] = SAMPLER_WORDS[step.name];
      const most = Math.max(...step.leading.map(([, p]) => p), 1e-12);
      return el("div", { class: "card" }, el("h3", {}, name, step.setting === null ? "" : el("span", { class: "mono soft" }, ` ${step.setting}`)),
        el("p", { class: "note" }, says),
        el("div", { class: "candidates" }, step.leading.map(([token, p]) => el("div", { class: token === id ? "is-chosen" : "" },
          el("span", { class: "piece" }, tokenNodes(textOf(token))), bar(p / most), el("span", { class: "mono" }, percent(p))))),
        step.fallen.length ? el("p", { class: "note" }, "Fell: ", step.fallen.slice(0, 5).map(([token]) => [el("s", { class: "piece" }, tokenNodes(textOf(token))), " "]), step.fell > 5 ? `and ${count(step.fell - 5)} more` : "") : "",
        el("p", { class: "mono soft" }, `${count(step.left)} left, to which the model gave ${percent(step.mass)}`));
    });
    cards.push(this.drawn(made, id));
    fill(this.steps, cards);
  },

  /** The last card: where the random number fell, or that the likeliest was taken. */
  drawn(made, id) {
    const card = el("div", { class: "card" }, el("h3", {}, made.drawn ? "The draw" : "The choice"));
    if (!made.drawn) card.append(el("p", { class: "note" }, "Temperature 0: the likeliest token that is left is taken. No dice."));
    else {
      const { start, end, number: drawn } = made.drawn;
      card.append(el("p", { class: "note" }, "All tokens lie end to end on a line from 0 to 1, each as long as it is likely. A random number falls on one of them."));
      const line = svg("svg", { viewBox: "0 0 300 44", class: "draw-line", role: "img", "aria-label": `The number ${drawn.toFixed(4)} fell between ${start.toFixed(4)} and ${end.toFixed(4)}` },
        svg("rect", { x: 0, y: 16, width: 300, height: 12, class: "all" }),
        svg("rect", { x: 300 * start, y: 16, width: Math.max(1.5, 300 * (end - start)), height: 12, class: "own" }),
        svg("path", { d: `M${300 * drawn} 30 l-4 9 h8 z`, class: "number" }),
        svg("text", { x: 0, y: 11 }, "0"), svg("text", { x: 300, y: 11, "text-anchor": "end" }, "1"));
      card.append(line, el("p", { class: "mono soft" }, `${drawn.toFixed(4)} lies in ${start.toFixed(4)} … ${end.toFixed(4)}`));
    }
    card.append(el("p", { class: "result" }, el("span", { class: "piece" }, tokenNodes(textOf(id)))));
    if (!made.same) card.append(el("p", { class: "note" }, "With the logits of this page another token would have come out: they differ in their last bits from those of the run that wrote it."));
    return card;
  },
});

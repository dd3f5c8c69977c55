"use strict";
/* Tokens: the text as a table of tokens with their ids, their bytes and how much each was expected. */

views.push({
  id: "tokens-view",
  title: "Tokens",
  says: "The model reads and writes numbers. Each stands for a piece of text, found in its vocabulary.",

  build(section) {
    this.rows = [];
    const body = el("tbody");
    seen.tokens.forEach((token, i) => {
      const image = imageAt(i);
      if (image) {
        if (i === image.start) {
          this.imageRow = el("tr", {}, el("td", { class: "number" }, `${image.start}–${image.end - 1}`), el("td", {}, el("span", { class: "piece image-word" }, imageWords(image.number))),
            el("td", { class: "number mono" }, String(token.id)), el("td", { class: "soft wide", colspan: 4 }, `${count(seen.images[image.number].vectors)} vectors of the picture stand here instead of rows of the vocabulary`), el("td", { class: "soft" }, "prompt"));
          body.append(this.imageRow);
        }
        this.rows.push(this.imageRow);
        return;
      }
      const stored = i > seen.first;
      const row = el("tr", { class: stored ? "choice" : "" },
        el("td", { class: "number" }, String(i)),
        el("td", {}, el("span", { class: "piece" }, tokenNodes(tokenText(i)))),
        el("td", { class: "number mono" }, String(token.id)),
        el("td", { class: "mono wide" }, bytesOf(token)),
        el("td", {}, stored ? bar(chosenProbability(i - 1)) : ""),
        el("td", { class: "number" }, stored ? percent(chosenProbability(i - 1)) : ""),
        el("td", { class: "number" }, stored ? count(chosenRank(i - 1)) : ""),
        el("td", { class: "soft" }, i < seen.prompt_length ? "prompt" : "written"));
      if (stored) row.addEventListener("click", () => choose({ token: i }));
      this.rows.push(row);
      body.append(row);
    });
    section.append(el("div", { class: "scroll tall" }, el("table", { class: "rows" },
      el("thead", {}, el("tr", {}, ["position", "token", "id", "bytes", "expected", "", "rank", ""].map((name, i) =>
        el("th", { class: [0, 2, 5, 6].includes(i) ? "number" : "" }, name)))), body)));
    if (seen.words) section.append(this.merges());
  },

  /** The merges of the prompt's words: from characters or bytes to tokens, one join after the other. */
  merges() {
    const words = seen.words;
    const box = el("details", { class: "merges" }, el("summary", {}, `How the tokenizer came to them: ${words.kind}, joined by ${words.by === "score" ? "score" : "rank"}`),
      el("p", { class: "note" }, "A word begins as single characters or bytes. Of all neighbours that may be joined, those that stand first in the tokenizer's list are, until none can be."));
    const grid = el("div", { class: "words" });
    box.append(grid);
    for (const word of words.words) {
      let parts = word.parts.map((text, place) => ({ text, place }));
      const row = (at) => el("div", { class: "join" }, el("span", { class: "mono soft at" }, at), parts.map((part) => el("span", { class: "piece" }, part.text)));
      const lines = [row("")];
      for (const [order, place, left, right] of word.merges ?? []) {
        const i = parts.findIndex((part) => part.place === place);
        parts = [...parts.slice(0, i), { text: left + right, place }, ...parts.slice(i + 2)];
        lines.push(row(words.by === "score" ? number(-order) : `merge ${count(order)}`));
      }
      if (word.merges && !word.merges.length && parts.length > 1) lines.push(el("div", { class: "join" }, el("span", { class: "mono soft at" }, "whole"), el("span", { class: "piece" }, word.parts.join(""))));
      grid.append(el("div", { class: "word" }, lines));
    }
    return box;
  },

  update(changed) {
    if (!changed.has("token")) return;
    for (const row of this.rows) row.classList.remove("is-chosen");
    this.rows[chosen.token]?.classList.add("is-chosen");
  },
});

/** The bytes of a token's own text in hexadecimal; none where its text comes with a later token. */
function bytesOf(token) {
  if (token.bytes !== undefined) return token.bytes;
  return [...new TextEncoder().encode(token.text)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

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
  },

  update(changed) {
    if (!changed.has("token")) return;
    this.rows.forEach((row, i) => row.classList.toggle("is-chosen", i === chosen.token));
  },
});

/** The bytes of a token's own text in hexadecimal; none where its text comes with a later token. */
function bytesOf(token) {
  if (token.bytes !== undefined) return token.bytes;
  return [...new TextEncoder().encode(token.text)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

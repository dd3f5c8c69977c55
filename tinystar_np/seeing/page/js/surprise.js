"use strict";
/* A text coloured by surprise: its figures, a curve along it, and what the model expected in each token's place. */

const told = JSON.parse(document.getElementById("data").textContent || "null");
const spans = [];
const STRONGEST = 16; // bits: one token of 65 536
const DEEPEST = 52; // per cent of the colour: ink must be read on it
const PEAKS = 20;
const COLUMNS = 600; // of the curve
let chosenToken = 0;

/** The strength of the colour behind a token. */
function strength(bits) {
  return `${Math.round(DEEPEST * Math.min(1, bits / STRONGEST))}%`;
}

function inBits(x) {
  return `${x < 9.95 ? x.toFixed(2) : x.toFixed(1)} bits`;
}

/** What a token's place in the text shows: its text, line ends marked before they end a line. */
function shownText(text) {
  if (text === "") return [el("span", { class: "mark" }, "·")];
  const nodes = [];
  for (const part of text.split(/(\n|\t|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff])/)) {
    if (part === "") continue;
    if (part === "\n") nodes.push(el("span", { class: "mark" }, "↵"), "\n");
    else if (part === "\t") nodes.push(el("span", { class: "mark" }, "⇥"), "\t");
    else if (part.length === 1 && invisible(part)) nodes.push(el("span", { class: "mark" }, spelledOut(part)));
    else nodes.push(part);
  }
  return nodes;
}

/** A token's text for labels; of one that ends within a character, its bytes. */
function nameOf(i) {
  return told.texts[i] || told.vocabulary[told.silent[i]] || "";
}

// ---------------------------------------------------------------- the text

function buildText() {
  const box = document.getElementById("text");
  const made = document.createDocumentFragment();
  told.texts.forEach((text, i) => {
    // The space before a word is left uncoloured: a line may end with it.
    const after = /^ \S/.test(text) ? 1 : 0;
    const span = el("span", { class: "t", role: "option", id: `t${i}`, "aria-selected": "false" }, shownText(text.slice(after)));
    span.style.setProperty("--s", strength(told.bits[i]));
    spans.push(span);
    made.append(text.slice(0, after), span);
  });
  box.replaceChildren(made);
  const tokenAt = (event) => {
    const found = event.target.closest(".t");
    return found ? Number(found.id.slice(1)) : null;
  };
  box.addEventListener("click", (event) => {
    const i = tokenAt(event);
    if (i !== null) chooseToken(i);
  });
  box.addEventListener("pointermove", (event) => {
    const i = tokenAt(event);
    showHint(i === null ? null : hintOf(i), event.clientX, event.clientY);
  });
  box.addEventListener("pointerleave", () => showHint(null));
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey) return;
    const moves = { ArrowLeft: chosenToken - 1, ArrowRight: chosenToken + 1 };
    const inText = { Home: 0, End: spans.length - 1, ArrowUp: onLine(-1), ArrowDown: onLine(1) };
    if (document.activeElement === box) Object.assign(moves, inText);
    if (!(event.key in moves)) return;
    event.preventDefault();
    chooseToken(moves[event.key]);
  });
}

/** The token above or below the chosen one, on the next line that has one. */
function onLine(by) {
  const here = spans[chosenToken].getClientRects()[0];
  let best = chosenToken;
  let line = null;
  for (let i = chosenToken + by; i >= 0 && i < spans.length; i += by) {
    const box = spans[i].getClientRects()[0];
    if (!box || Math.abs(box.top - here.top) < here.height / 2) continue;
    if (line === null) line = box.top;
    if (Math.abs(box.top - line) > here.height / 2) break;
    const nearer = (a) => Math.abs(a.left - here.left);
    if (best === chosenToken || nearer(box) < nearer(spans[best].getClientRects()[0])) best = i;
  }
  return best;
}

function hintOf(i) {
  const likeliest = told.top[i].slice(0, 3).map(([id, p]) => `${tokenLabel(told.vocabulary[id])} ${percent(p)}`);
  return `${tokenLabel(nameOf(i))}   ${inBits(told.bits[i])}\nexpected: ${likeliest.join(", ")}`;
}

// ---------------------------------------------------------------- the chosen token

/** Choose a token, and bring it into sight unless the page has just been opened. */
function chooseToken(i, opening = false) {
  const next = Math.min(spans.length - 1, Math.max(0, i));
  spans[chosenToken].setAttribute("aria-selected", "false");
  chosenToken = next;
  const span = spans[next];
  span.setAttribute("aria-selected", "true");
  const box = document.getElementById("text");
  box.setAttribute("aria-activedescendant", span.id);
  fill(document.getElementById("token"), tokenCard(next));
  if (!opening) show(span, box);
  const here = document.querySelector(".curve .here");
  for (const end of ["x1", "x2"]) here.setAttribute(end, ((next + 0.5) * COLUMNS) / spans.length);
}

/** Scroll the text's box, and the page, where the token is not in sight. */
function show(span, box) {
  const [from, within] = [span.getBoundingClientRect(), box.getBoundingClientRect()];
  if (from.top < within.top + 20 || from.bottom > within.bottom - 20) box.scrollTop += from.top - within.top - within.height / 2;
  const card = document.getElementById("token");
  const below = getComputedStyle(card).position === "sticky" ? card.offsetHeight : 0;
  const { top, bottom } = span.getBoundingClientRect();
  if (top < 0 || bottom > innerHeight - below) scrollBy({ top: top - (innerHeight - below) / 2 });
}

function tokenCard(i) {
  const bits = told.bits[i];
  const own = told.ids[i];
  const window = told.windows.filter((first) => first <= i).length;
  const where = `Token ${count(i + 1)} of ${count(told.figures.tokens)}`;
  const rows = told.top[i].map(([id, p]) => candidate(id, p, id === own));
  if (!told.top[i].some(([id]) => id === own)) rows.push(candidate(null, 2 ** -bits, true, nameOf(i)));
  return [
    el("div", { class: "own" }, el("span", { class: "piece" }, tokenNodes(nameOf(i)))),
    el("p", { class: "bits" }, inBits(bits)),
    el("p", { class: "note" }, `${where}, probability ${percent(2 ** -bits)}${told.windows.length > 1 ? `; window ${window}` : ""}`),
    el("h3", {}, "What the model expected here"),
    el("div", { class: "candidates" }, rows),
  ];
}

function candidate(id, p, isOwn, text = told.vocabulary[id]) {
  return el("div", { class: isOwn ? "is-chosen" : "" }, el("span", { class: "piece" }, tokenNodes(text)), bar(p), el("span", { class: "mono" }, percent(p)));
}

// ---------------------------------------------------------------- the curve

/** For each column of the curve the mean of the tokens around it, and the most of its own. */
function along() {
  const T = told.bits.length;
  const columns = Math.min(T, COLUMNS, Math.floor(document.getElementById("curve").clientWidth / 2));
  const reach = Math.max(1, Math.round(T / 80));
  const sums = [0];
  for (const bits of told.bits) sums.push(sums[sums.length - 1] + bits);
  return Array.from({ length: columns }, (_, c) => {
    const [from, to] = [Math.floor((c * T) / columns), Math.max(Math.floor((c * T) / columns) + 1, Math.floor(((c + 1) * T) / columns))];
    const [left, right] = [Math.max(0, from - reach), Math.min(T, to + reach)];
    return { x: ((c + 0.5) * COLUMNS) / columns, most: Math.max(...told.bits.slice(from, to)), mean: (sums[right] - sums[left]) / (right - left) };
  });
}

function buildCurve() {
  const T = told.bits.length;
  const points = along();
  const top = Math.max(1, ...points.map((point) => point.most));
  const [height, y] = [100, (bits) => (98 - (96 * bits) / top).toFixed(2)];
  const all = told.bits.reduce((a, b) => a + b, 0) / T;
  const line = (x1, y1, x2, y2, kind) => svg("line", { x1, y1, x2, y2, class: kind });
  const path = (commands, kind) => svg("path", { d: commands.join(""), class: kind });
  const curve = svg("svg", {
    class: "curve", viewBox: `0 0 ${COLUMNS} ${height}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `Surprise along the text: ${all.toFixed(2)} bits per token on average, at most ${top.toFixed(1)}`,
  },
    path(points.map((point) => `M${point.x.toFixed(2)} ${y(0)}V${y(point.most)}`), "peaks"),
    line(0, y(all), COLUMNS, y(all), "all"),
    path(points.map((point, i) => `${i ? "L" : "M"}${point.x.toFixed(2)} ${y(point.mean)}`), "mean"),
    ...told.windows.slice(1).map((first) => line((first * COLUMNS) / T, 94, (first * COLUMNS) / T, height, "window")),
    line(0, 0, 0, height, "here"));
  const tokenUnder = (event) => {
    const box = curve.getBoundingClientRect();
    return Math.min(T - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * T)));
  };
  curve.addEventListener("click", (event) => chooseToken(tokenUnder(event)));
  hinted(curve, (event) => hintOf(tokenUnder(event)));
  const scale = el("div", { class: "curve-scale", "aria-hidden": "true" }, el("span", {}, top.toFixed(top < 10 ? 1 : 0)), el("span", {}, "bits"), el("span", {}, "0"));
  document.getElementById("curve").append(el("div", { class: "curve-row" }, scale, curve));
  document.getElementById("curve-note").append(
    "The line is the mean of the tokens around, dashed that of all; behind it each token, or the least expected of neighbours.",
    told.windows.length > 1 ? " A tick below marks the first token of a new window, of what the model reads at once." : "");
}

// ---------------------------------------------------------------- around it

function buildFigures() {
  const f = told.figures;
  const large = (x) => (x === null ? "∞" : x < 1e6 ? count(x.toFixed(2).split(".")[0]) + (x < 1e4 ? `.${x.toFixed(2).split(".")[1]}` : "") : x.toExponential(2));
  const rows = [["bits per byte", f.bits_per_byte.toFixed(4)], ["nats per token", f.nats_per_token.toFixed(4)],
    ["perplexity per token", large(f.perplexity_per_token)], ["perplexity per word", large(f.perplexity_per_word)]];
  document.getElementById("figures").append(...rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

function buildLegend() {
  const steps = [0, 4, 8, 12, 16].map((bits) => {
    const step = el("span", { class: "step" }, `${bits}${bits === STRONGEST ? " and more" : ""}`);
    step.style.setProperty("--s", strength(bits));
    return step;
  });
  document.getElementById("legend").append("bits:", ...steps, el("span", {}, el("kbd", {}, "←"), " ", el("kbd", {}, "→"), " the token"));
}

function buildPeaks() {
  const order = told.bits.map((bits, i) => [bits, i]).sort((a, b) => b[0] - a[0]).slice(0, PEAKS);
  document.getElementById("peaks").append(...order.map(([bits, i]) => el("li", {}, el("button", {
    type: "button", onclick: () => chooseToken(i),
  }, el("span", { class: "piece" }, tokenNodes(nameOf(i))), el("span", { class: "mono soft" }, inBits(bits))))));
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "Light" : "Dark";
}

function startSurprise() {
  if (!told) {
    document.getElementById("heading").textContent = "No data";
    return;
  }
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.getElementById("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  const f = told.figures;
  document.getElementById("heading").textContent = told.text || "A text";
  document.getElementById("about").textContent = `Read by ${told.model || "a model"}: ${count(f.tokens)} tokens, ${count(f.words)} words, ${sizeOf(f.bytes)}. A token is as surprising as its probability is small: 1 bit for each halving.`;
  buildFigures();
  buildCurve();
  buildLegend();
  buildText();
  buildPeaks();
  if (told.texts.length < f.tokens) document.getElementById("left-out").textContent = `Shown are the first ${count(told.texts.length)} tokens; the figures are those of all.`;
  document.getElementById("foot").append(el("p", {}, "Written by tinystar_np. This file needs no other and no network."));
  const begin = told.bits.slice(0, 100);
  chooseToken(begin.indexOf(Math.max(...begin)), true);
  document.body.dataset.ready = "true";
}

startSurprise();

"use strict";
/* Small tools for drawing: elements, colours, numbers in words, heat maps, the hint that follows the pointer. */

/** Make an element. Text goes in as text, never as HTML: it may come from a model. */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

/** The same for SVG. */
function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

/** Replace what an element holds. */
function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

// ---------------------------------------------------------------- text of tokens

/** A token's text as nodes: spaces, line ends and other invisible characters are marked faintly. */
function tokenNodes(text) {
  if (text === "") return [el("span", { class: "mark" }, "∅")];
  const nodes = [];
  for (const part of text.split(/(^ +| +$|\n|\t|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff])/)) {
    if (part === "") continue;
    if (/^ +$/.test(part)) nodes.push(el("span", { class: "mark" }, "·".repeat(part.length)));
    else if (part === "\n") nodes.push(el("span", { class: "mark" }, "↵"));
    else if (part === "\t") nodes.push(el("span", { class: "mark" }, "⇥"));
    else if (part.length === 1 && invisible(part)) nodes.push(el("span", { class: "mark" }, spelledOut(part)));
    else nodes.push(part);
  }
  return nodes;
}

/** A token within a sentence, cut where it is long: a vocabulary may have tokens of thousands of letters. */
function tokenInWords(text) {
  const letters = [...text];
  const shown = letters.length > LONGEST_IN_WORDS ? `${letters.slice(0, LONGEST_IN_WORDS - 1).join("")}…` : text;
  return el("b", { class: "in-words" }, tokenNodes(shown));
}

const LONGEST_IN_WORDS = 40;

/** The same as plain text, for labels and hints. */
function tokenLabel(text, most = 24) {
  if (text === "") return "∅";
  let label = [...text.replace(/\n/g, "↵").replace(/\t/g, "⇥")].map((c) => (invisible(c) ? spelledOut(c) : c)).join("");
  label = label.replace(/^ +| +$/g, (spaces) => "·".repeat(spaces.length));
  return label.length > most ? `${label.slice(0, most - 1)}…` : label;
}

function invisible(character) {
  return /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/.test(character);
}

function spelledOut(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

// ---------------------------------------------------------------- numbers in words

/** A number with three or four significant digits. */
function number(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  const size = Math.abs(x);
  let text;
  if (x === 0) text = "0";
  else if (size >= 1e5 || size < 1e-3) text = x.toExponential(2).replace("e+", "e");
  else text = x.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3);
  return text.replace("-", "−");
}

/** A probability: 12.3 %, 0.045 %. */
function percent(p) {
  if (Number.isNaN(p)) return "NaN";
  const x = 100 * p;
  if (x === 0) return "0 %";
  if (x < 0.001) return `${x.toExponential(0)} %`.replace("e-", "e−");
  return `${x >= 9.95 ? x.toFixed(1) : x >= 0.0995 ? x.toFixed(2) : x.toFixed(3)} %`;
}

/** A count with thousands apart. */
function count(n) {
  return String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** Bytes in words, decimal. */
function sizeOf(n) {
  for (const [unit, word] of [[1e9, "GB"], [1e6, "MB"], [1e3, "KB"]]) {
    if (n >= unit) return `${(n / unit).toFixed(n >= 100 * unit ? 0 : n >= 10 * unit ? 1 : 2)} ${word}`;
  }
  return `${Math.round(n)} B`;
}

// ---------------------------------------------------------------- colours

let palette = {};

/** Read the colours of the current theme. */
function readPalette() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "ink", "soft", "line", "wash", "accent", "above", "below"]) {
    palette[name] = rgb(style.getPropertyValue(`--${name}`).trim());
  }
}

function rgb(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

function mixed(from, to, t) {
  return from.map((a, i) => Math.round(a + (to[i] - a) * t));
}

/** The colour of a signed value from −1 to 1: blue above zero, orange below, the paper at zero. */
function signedColour(x) {
  if (Number.isNaN(x)) return palette.soft;
  const t = Math.min(1, Math.sqrt(Math.abs(x)));
  return mixed(palette.paper, x < 0 ? palette.below : palette.above, t);
}

/** The colour of a share from 0 to 1. */
function shareColour(x) {
  return mixed(palette.paper, palette.accent, Math.min(1, Math.max(0, Number.isNaN(x) ? 0 : x)));
}

function css([r, g, b]) {
  return `rgb(${r} ${g} ${b})`;
}

/** Ink that can be read on a colour: dark or light. */
function inkOn([r, g, b]) {
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#14171b" : "#ffffff";
}

// ---------------------------------------------------------------- heat maps

/**
 * Draw values as a picture, one pixel each: it is enlarged by CSS.
 *
 * value(row, column) → what colour(…) takes
 */
function paint(canvas, rows, columns, value, colour) {
  canvas.width = columns;
  canvas.height = rows;
  const image = new ImageData(columns, rows);
  for (let y = 0, at = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++, at += 4) {
      const [r, g, b] = colour(value(y, x));
      image.data[at] = r;
      image.data[at + 1] = g;
      image.data[at + 2] = b;
      image.data[at + 3] = 255;
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Where on a picture of rows × columns an event points: [row, column]. */
function cellAt(event, canvas, rows, columns) {
  const box = canvas.getBoundingClientRect();
  const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
  const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
  return [Math.min(rows - 1, Math.max(0, row)), Math.min(columns - 1, Math.max(0, column))];
}

/** Show words beside the pointer while it is over an element. words(event) → text, or null for none. */
function hinted(element, words) {
  element.addEventListener("pointermove", (event) => showHint(words(event), event.clientX, event.clientY));
  element.addEventListener("pointerleave", () => showHint(null));
  return element;
}

function showHint(words, x = 0, y = 0) {
  const hint = document.getElementById("hint");
  hint.hidden = !words;
  if (!words) return;
  hint.textContent = words;
  const box = hint.getBoundingClientRect();
  hint.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 6))}px`;
  hint.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18}px`;
}

/** Frame the row of the chosen position in a picture of all stored positions. */
function markRow(marker) {
  const positions = storedPositions();
  marker.style.top = `${(100 * (position() - seen.first)) / positions}%`;
  marker.style.height = `${100 / positions}%`;
}

/** Write the stored positions' tokens along the rows of a picture, as many as there is room for. */
function labelRows(axis, height) {
  const every = Math.ceil(11 / height);
  fill(axis, Array.from({ length: storedPositions() }, (_, i) => {
    const q = seen.first + i;
    const here = q === position();
    const label = el("span", { class: here ? "is-here" : "" }, i % every === 0 || here ? tokenLabel(tokenText(q), 12) : "");
    label.style.height = `${height}px`;
    label.style.lineHeight = `${height}px`;
    return label;
  }));
}

/** Write along the columns of a picture, on every n-th of them: text(column) → its label. */
function labelColumns(axis, width, columns, every, text) {
  fill(axis, Array.from({ length: columns }, (_, i) => {
    const label = el("span", {}, i % every === 0 ? text(i) : "");
    label.style.width = `${width}px`;
    return label;
  }));
}

/** Of some layers, each { layer, … }, the chosen one or the nearest. */
function nearestLayer(layers) {
  return [...layers].sort((a, b) => Math.abs(a.layer - chosen.layer) - Math.abs(b.layer - chosen.layer))[0];
}

/** The width of an enlarged picture: so many pixels, less where the window is narrow. */
function roomFor(pixels) {
  return Math.min(pixels, innerWidth - 140);
}

/** A horizontal bar: a share from 0 to 1 of its room. */
function bar(share, kind = "") {
  const inner = el("i", { class: kind });
  inner.style.width = `${100 * Math.max(0, Math.min(1, share))}%`;
  return el("span", { class: "bar" }, inner);
}

// ---------------------------------------------------------------- keys

/**
 * Let arrow keys move in a grid of buttons whose columns may differ by row. cells[row][column] are elements;
 * one of them can be reached by Tab, and `choose(row, column)` is called when the keys move to another.
 */
function gridKeys(container, cells, choose) {
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  container.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (!move) return;
    const row = cells.findIndex((each) => each.includes(document.activeElement));
    if (row < 0) return;
    const column = cells[row].indexOf(document.activeElement);
    const y = Math.min(cells.length - 1, Math.max(0, row + move[0]));
    const x = Math.min(cells[y].length - 1, Math.max(0, column + move[1]));
    event.preventDefault();
    event.stopPropagation();
    cells[y][x].focus({ preventScroll: false });
    choose(y, x);
  });
}

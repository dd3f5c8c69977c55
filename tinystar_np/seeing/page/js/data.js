"use strict";
/* The page's data: JSON with a table of arrays, whose bytes are compressed together (seeing/page/arrays.py). */

/** Everything that was seen, as seeing/page/data.py wrote it. */
const seen = JSON.parse(document.getElementById("data").textContent || "null");

/** The uncompressed bytes of all arrays; `start` in main.js waits for them. */
let bytes = null;

const ELEMENTS = { uint8: Uint8Array, uint16: Uint16Array, int32: Int32Array, float32: Float32Array };

/** Uncompress the arrays. */
async function openArrays() {
  const packed = Uint8Array.from(atob(seen.bytes), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  bytes = await new Response(stream).arrayBuffer();
}

/**
 * One array by its name: a typed array with its shape as `.shape`, row after row. It shares the bytes.
 * Returns null where the page has no such array.
 */
function arrayOf(name) {
  const place = seen.places[name];
  if (!place) return null;
  const count = place.shape.reduce((a, b) => a * b, 1);
  const found = new ELEMENTS[place.type](bytes, place.at, count);
  found.shape = place.shape;
  return found;
}

/** The value from −1 to 1 that a colour's code stands for; NaN for the code of NaN. Times the row's scale: the value. */
function decoded(code) {
  if (code === 0) return NaN;
  const root = (code - 128) / 127;
  return Math.sign(root) * root * root;
}

const tapIndex = new Map(seen ? seen.taps.map((tap, i) => [tap.path, i]) : []);

/** One tap's stored rows: {path, n, columns, share, heads, codes(position), scale, statistics, largest}. */
function tapOf(path) {
  const i = tapIndex.get(path);
  if (i === undefined) return null;
  const tap = seen.taps[i];
  const positions = storedPositions();
  const row = (name, width) => (p) => arrayOf(name).subarray((i * positions + p - seen.first) * width, (i * positions + p - seen.first + 1) * width);
  const all = arrayOf("taps.codes").subarray(tap.at, tap.at + positions * tap.columns);
  return {
    ...tap,
    all,
    codes: (p) => all.subarray((p - seen.first) * tap.columns, (p - seen.first + 1) * tap.columns),
    scale: (p) => arrayOf("taps.scale")[i * positions + p - seen.first],
    statistics: row("taps.statistics", 4),
    largest: row("taps.largest", 3),
    largestAt: row("taps.largest_at", 3),
  };
}

/** How many positions have stored values: those from `seen.first` to the last. */
function storedPositions() {
  return seen.tokens.length - seen.first;
}

/** The text of a token of the vocabulary, by its id. */
function textOf(id) {
  const text = seen.vocabulary[id];
  return text === undefined ? `token ${id}` : text;
}

"use strict";
/* A block as a picture: a box for each tap, in rows by how many steps it takes to compute it. The residual stream
   runs down on the left. Everything is drawn from the names that were recorded (seeing/flow.py), so that a new
   architecture needs no picture of its own. */

const BOX = { width: 150, height: 50, gap: 12, row: 84, margin: 46 };

/** Place the nodes: {name: {x, y}} of the middle of each box, and the picture's size. */
function placed(nodes, stream) {
  const depth = { [stream]: 0 };
  for (const node of nodes) depth[node.name] = 1 + Math.max(0, ...node.reads.map((name) => depth[name] ?? 0));
  const rows = [];
  for (const node of nodes) (rows[depth[node.name]] ??= []).push(node);
  rows[0] = [];
  const most = Math.max(...rows.map((row) => row.length));
  const step = BOX.width + BOX.gap;
  const width = Math.max(most * step - BOX.gap, 2 * BOX.width) + 2 * BOX.margin;
  const middle = width / 2;
  const places = { [stream]: { x: middle, y: 24 } };
  rows.forEach((row, level) => {
    if (!row.length) return;
    const sums = (node) => node.part === "" && node.reads.length > 1;
    const wanted = (node) => {
      if (sums(node)) return middle;
      const from = node.reads.map((name) => places[name]?.x ?? middle);
      return from.reduce((a, b) => a + b, 0) / from.length;
    };
    const order = row.map((node, i) => ({ node, want: wanted(node), i })).sort((a, b) => a.want - b.want || a.i - b.i);
    const x = order.map((each) => each.want);
    for (let i = 1; i < x.length; i++) x[i] = Math.max(x[i], x[i - 1] + step);
    const shift = order.reduce((sum, each, i) => sum + each.want - x[i], 0) / x.length;
    const left = BOX.margin + BOX.width / 2;
    const low = Math.max(left - x[0] - shift, 0);
    const high = Math.min(width - left - x[x.length - 1] - shift, 0);
    order.forEach((each, i) => {
      places[each.node.name] = { x: x[i] + shift + low + high, y: 24 + level * BOX.row };
    });
  });
  return { places, width, height: 24 + (rows.length - 1) * BOX.row + BOX.height };
}

/** Draw a kind of block. select(name) is called when a box is chosen; returns {picture, boxes}. */
function blockPicture(kind, select) {
  const stream = seen.pictures.stream;
  const { places, width, height } = placed(kind, stream);
  const picture = svg("svg", {
    viewBox: `0 0 ${width} ${height + 12}`, class: "block-picture", role: "group", "aria-label": "The block, step by step",
  });
  picture.style.maxWidth = `${width}px`;
  picture.append(svg("defs", {}, svg("marker", {
    id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto",
  }, svg("path", { d: "M0 0.8 L7 4 L0 7.2 Z", class: "arrow-head" }))));
  const isStream = (name) => name === stream || /^residual/.test(name) || /post_norm$/.test(name);
  for (const node of kind) {
    for (const read of node.reads) {
      const from = places[read];
      const to = places[node.name];
      const sum = node.reads.length > 1 && node.part === "" && isStream(read);
      picture.append(svg("path", { d: arrow(from, to, sum && to.y - from.y > BOX.row * 1.5), class: sum ? "edge stream" : "edge", "data-from": read, "data-to": node.name, "marker-end": "url(#arrow)" }));
    }
  }
  const first = places[stream];
  picture.append(svg("text", { x: first.x, y: first.y + 5, class: "stream-name" }, "residual stream x"));
  const boxes = new Map();
  for (const node of kind) {
    const { x, y } = places[node.name];
    const box = svg("g", {
      class: `box part-${node.part || "stream"}`, tabindex: -1, role: "button",
      "aria-label": `${node.name}, ${node.words}`, transform: `translate(${x - BOX.width / 2} ${y - BOX.height / 2 + 4})`,
      onclick: () => select(node.name),
    },
    svg("rect", { width: BOX.width, height: BOX.height, rx: 6 }),
    svg("text", { x: 10, y: 14, class: "step" }, cut(stepOf(node), 26)),
    svg("text", { x: 10, y: 29, class: "name" }, cut(node.name.split(".").pop(), 20)),
    svg("text", { x: 10, y: 43, class: "shape" }, cut(shapeWords(node), 27)));
    boxes.set(node.name, box);
    picture.append(box);
  }
  return { picture, boxes, places };
}

/** What computes a tap, in a word or two: its kernels; where there are none, how it comes from those it reads. */
function stepOf(node) {
  if (node.kernels.length) return node.kernels.map((key) => key.split(":")[1]).join(", ");
  if (node.reads.length > 1) return "sum";
  return node.part === "" ? "times a factor" : "rearranged";
}

/** The path of an arrow between two boxes; one that skips rows along the stream goes around on the left. */
function arrow(from, to, around) {
  const start = from.y + (from.y < 30 ? 12 : BOX.height / 2 + 4);
  const end = to.y - BOX.height / 2 + 2;
  if (around) {
    const edge = 16;
    const side = to.x - BOX.width / 2;
    const fromSide = from.y < 30 ? from.x - 62 : from.x - BOX.width / 2;
    const y1 = from.y < 30 ? from.y : from.y + 4;
    const y2 = to.y + 4;
    return `M${fromSide} ${y1} H${edge + 14} Q${edge} ${y1} ${edge} ${y1 + 14} V${y2 - 14} Q${edge} ${y2} ${edge + 14} ${y2} H${side - 2}`;
  }
  const bend = Math.min(34, (end - start) / 2);
  return `M${from.x} ${start} C${from.x} ${end - bend} ${to.x} ${start + bend} ${to.x} ${end}`;
}

/** "H T K  12 × 32 × 64", the batch axis left out. */
function shapeWords(node) {
  const letters = node.letters.replace(/[()]/g, "").split(", ").slice(1);
  const sizes = node.shape.slice(1);
  return sizes.map((size, i) => (letters[i] ? `${letters[i]} ${size}` : String(size))).join(" × ");
}

function cut(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

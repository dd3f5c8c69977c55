"use strict";
/* Source text of the package, as it ran: file, line numbers, colours (seeing/source_text.py cuts it into tokens). */

/** Show a source by its key; `marked` is a line number to point at. */
function sourceBlock(key, marked = 0) {
  const source = seen.pictures.sources[key];
  const pre = el("pre", { class: "code", tabindex: 0, "aria-label": `${source.name} in ${source.file}` });
  source.lines.forEach((spans, i) => {
    const at = source.line + i;
    const line = el("span", { class: at === marked ? "row marked" : "row" }, el("span", { class: "at" }, String(at)));
    for (const [kind, text] of spans) line.append(kind ? el("span", { class: `k-${kind}` }, text) : text);
    line.append("\n");
    pre.append(line);
  });
  return el("figure", { class: "source" },
    el("figcaption", {}, el("code", {}, source.name), el("span", {}, ` tinystar_np/${source.file}, line ${marked || source.line}`)), pre);
}

/** A docstring's prose with its formulas set apart. */
function essay(text) {
  const box = el("div", { class: "essay" });
  for (const paragraph of text.split(/\n\n+/)) {
    if (/^ {4}/.test(paragraph)) box.append(el("pre", { class: "formula" }, paragraph.replace(/^ {4}/gm, "")));
    else box.append(el("p", {}, withCode(paragraph.replace(/\n/g, " "))));
  }
  return box;
}

/** A sentence with ``names`` and **strong words** set as such. */
function withCode(sentence) {
  return sentence.split(/(``[^`]+``|`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`")) return el("code", {}, part.replace(/`/g, ""));
    if (part.startsWith("**")) return el("b", {}, part.slice(2, -2));
    return part;
  });
}

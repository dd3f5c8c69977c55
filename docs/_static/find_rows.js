// Above a long table: a field that shows only the rows with all of the words typed into it.
"use strict";
const LONG = 30;
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("article table")) {
    const rows = [...table.querySelectorAll("tbody tr")];
    if (rows.length < LONG) continue;
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const field = Object.assign(document.createElement("input"), {
      type: "search", className: "find-rows", placeholder: `Find among ${rows.length} rows`,
      ariaLabel: "Show only the rows with these words",
    });
    const count = Object.assign(document.createElement("output"), { className: "find-rows-count" });
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, i) => {
        row.hidden = !words.every((word) => texts[i].includes(word));
        shown += !row.hidden;
      });
      count.textContent = words.length ? `${shown} of ${rows.length}` : "";
    });
    const place = table.closest(".table-wrapper") ?? table;
    const bar = Object.assign(document.createElement("div"), { className: "find-rows-bar" });
    bar.append(field, count);
    place.before(bar);
  }
});

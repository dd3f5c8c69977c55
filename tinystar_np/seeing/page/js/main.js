"use strict";
/* The page begins: headings, views, the list of views, dark and light. */

async function start() {
  if (!seen) {
    document.getElementById("heading").textContent = "No data";
    document.getElementById("about").textContent = "This is the template; Seen.save() writes pages from it.";
    return;
  }
  await openArrays();
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const m = seen.model;
  document.getElementById("heading").textContent = m.name;
  const parts = [m.about, `${count(m.parameters)} parameters`, `${m.layers.length} layers`];
  document.getElementById("about").textContent = `${parts.join(" · ")}`;
  buildStrip();
  chosen.token = Math.max(seen.first + 1, Math.min(seen.opened_at, seen.tokens.length));
  chosen.tap = seen.pictures.kinds[0][0].name;
  chosen.layer = seen.pictures.kind_of.length - 1;
  const contents = document.getElementById("contents");
  for (const view of views) {
    if (view.present && !view.present()) continue;
    view.section = el("section", { class: "view", id: view.id, "aria-labelledby": `${view.id}-title` },
      el("h2", { id: `${view.id}-title` }, view.title), el("p", { class: "says" }, view.says));
    document.getElementById("views").append(view.section);
    view.build(view.section);
    contents.append(el("a", { href: `#${view.id}` }, view.title));
  }
  contents.append(el("p", { class: "keys" }, el("kbd", {}, "←"), " ", el("kbd", {}, "→"), " the token", el("br"),
    el("kbd", {}, "Tab"), " then arrows:", el("br"), "heads, layers, taps"));
  if (seen.left_out.length) document.getElementById("foot").append(el("p", {}, el("b", {}, "Left out: "), seen.left_out.join(" ")));
  document.getElementById("foot").append(el("p", {}, "Written by tinystar_np. This file needs no other and no network."));
  watchContents(contents);
  document.getElementById("theme").addEventListener("click", () => {
    setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    drawAll();
  });
  printInLight();
  drawAll();
  document.body.dataset.ready = "true";
}

/** Draw everything that depends on what is chosen, and on the theme. */
function drawAll() {
  updateStrip();
  for (const view of views) if (view.section) view.update(new Set(["token", "layer", "head", "tap", "theme"]));
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "Light" : "Dark";
  readPalette();
}

/** On paper the page is light, whatever it is on the screen: pictures are drawn anew for it. */
function printInLight() {
  let before = null;
  addEventListener("beforeprint", () => {
    before = document.documentElement.dataset.theme;
    setTheme("light");
    drawAll();
  });
  addEventListener("afterprint", () => {
    setTheme(before);
    drawAll();
  });
}

/** Mark the view that is in sight in the list of views. */
function watchContents(contents) {
  const links = [...contents.querySelectorAll("a")];
  const mark = () => {
    const edge = innerHeight * 0.4;
    let current = 0;
    links.forEach((link, i) => {
      if (document.getElementById(link.hash.slice(1)).getBoundingClientRect().top < edge) current = i;
    });
    links.forEach((link, i) => link.setAttribute("aria-current", String(i === current)));
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
}

start();

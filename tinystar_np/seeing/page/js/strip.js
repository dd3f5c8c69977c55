"use strict";
/* The text as a strip of tokens: coloured by how much the model expected each, chosen by click or arrow keys. */

const strip = { tokens: [], chips: [] };

function buildStrip() {
  const box = document.getElementById("tokens");
  const T = seen.tokens.length;
  for (let i = 0; i < T; i++) {
    const image = imageAt(i);
    if (image) {
      // The tokens of an image are one chip: there may be hundreds, and none of them is a word.
      const chip = el("span", { class: "token image-chip", role: "option", id: `token-${i}` }, imageWords(image.number));
      chip.addEventListener("click", () => document.getElementById("images")?.scrollIntoView({ block: "start" }));
      hinted(chip, () => `${count(seen.images[image.number].vectors)} vectors of an image of ${seen.images[image.number].size[1]} × ${seen.images[image.number].size[0]} pixels${image.end - image.start > seen.images[image.number].vectors ? ", with tokens between that separate its parts" : ""}: positions ${image.start} to ${image.end - 1}`);
      while (strip.tokens.length < image.end) strip.tokens.push(chip);
      strip.chips.push(chip);
      i = image.end - 1;
      continue;
    }
    const token = el("span", {
      class: `token${i >= seen.prompt_length ? " new" : ""}${i <= seen.first ? " unseen" : ""}`,
      role: "option", id: `token-${i}`,
    }, tokenNodes(tokenText(i)));
    if (i > seen.first) token.addEventListener("click", () => choose({ token: i }));
    hinted(token, () => tokenWords(i));
    strip.tokens.push(token);
    strip.chips.push(token);
  }
  const next = el("span", { class: "token next", role: "option", id: `token-${T}` }, "…");
  next.addEventListener("click", () => choose({ token: T }));
  hinted(next, () => `What would come next: likeliest ${tokenLabel(textOf(seen.follow[T - 1]))}`);
  strip.tokens.push(next);
  strip.chips.push(next);
  box.append(...strip.chips);
  box.tabIndex = 0;
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      choose({ token: neighbour(event.key === "ArrowRight" ? 1 : -1) });
    }
  });
}

/** The token before or after the chosen one, with all of an image's as one step. */
function neighbour(by) {
  const image = imageAt(chosen.token + by);
  if (!image) return chosen.token + by;
  if (by > 0) return image.end;
  return image.start - 1 > seen.first ? image.start - 1 : chosen.token;
}

/** What is said of a token when the pointer is over it. */
function tokenWords(i) {
  const words = [`${tokenLabel(tokenText(i))}   id ${seen.tokens[i].id}, position ${i}`];
  const p = i - 1;
  if (p < seen.first) return words.join("\n");
  words.push(`probability ${percent(chosenProbability(p))}, rank ${count(chosenRank(p))}`);
  return words.join("\n");
}

/** The probability of the token that follows a position, under the model itself. */
function chosenProbability(p) {
  return ofLastLayer("lens.chosen", p);
}

/** Its rank among all tokens: 1 is the likeliest. */
function chosenRank(p) {
  return ofLastLayer("lens.ranks", p);
}

function ofLastLayer(name, p) {
  const found = arrayOf(name);
  const [layers, positions] = found.shape;
  return found[(layers - 1) * positions + p - seen.first];
}

/** The colour behind a token: the less it was expected, the stronger. A nat of surprise is a tenth of it. */
function surpriseColour(p) {
  const surprise = -Math.log(Math.max(1e-12, chosenProbability(p)));
  return mixed(palette.paper, palette.below, Math.min(0.62, surprise / 12));
}

function updateStrip() {
  const T = seen.tokens.length;
  strip.tokens.forEach((token, i) => {
    const image = imageAt(i);
    token.setAttribute("aria-selected", String(image ? chosen.token >= image.start && chosen.token < image.end : i === chosen.token));
    if (i > seen.first && i < T && !image) {
      const colour = surpriseColour(i - 1);
      token.style.backgroundColor = css(colour);
    }
  });
  const box = document.getElementById("tokens");
  box.setAttribute("aria-activedescendant", strip.tokens[chosen.token].id);
  const token = strip.tokens[chosen.token];
  if (token.offsetTop < box.scrollTop + box.offsetTop || token.offsetTop + token.offsetHeight > box.scrollTop + box.offsetTop + box.clientHeight) {
    box.scrollTop = token.offsetTop - box.offsetTop - 30;
  }
  const p = position();
  const next = chosen.token === T;
  fill(document.getElementById("chosen"),
    next ? "What would come next, most likely " : chosen.token >= seen.prompt_length ? "The model wrote " : "The prompt has ",
    tokenInWords(followed(p)), next ? "" : ` at position ${chosen.token}`,
    ` — probability ${percent(chosenProbability(p))}, rank ${count(chosenRank(p))} of ${count(seen.model.vocabulary)}. `,
    el("span", { class: "legend-words" }, seen.tokens.length > seen.prompt_length ? "Underlined: written by the model. " : "", "Darker: less expected."));
}

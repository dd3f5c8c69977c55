"use strict";
/* What is chosen: a token, a layer, a head, a tap. Views are told of every change and draw themselves anew. */

/**
 * token  i from 1 to T: the token whose making is shown. It was written at position i − 1. T is the one that
 *        would come next, and that nobody has chosen
 * layer, head, tap  what is enlarged
 */
const chosen = { token: 1, layer: 0, head: 0, tap: "residual" };

/** The views in their order: {id, title, says, build(section), update(changed)}; present() may say there is nothing. */
const views = [];

/** The position at which the chosen token was written: its row in every array of positions. */
function position() {
  return chosen.token - 1;
}

/** Choose something: `choose({token: 5})`. Everything that depends on it is drawn anew. */
function choose(change) {
  const T = seen.tokens.length;
  if ("token" in change) change.token = Math.min(T, Math.max(seen.first + 1, change.token));
  if ("layer" in change) change.layer = Math.min(seen.pictures.kind_of.length - 1, Math.max(0, change.layer));
  const changed = Object.keys(change).filter((name) => chosen[name] !== change[name]);
  if (!changed.length) return;
  Object.assign(chosen, change);
  updateStrip();
  for (const view of views) if (view.section) view.update(new Set(changed));
}

/** The token that was chosen at a position, as text; at the last position the likeliest. */
function followed(p) {
  return p + 1 < seen.tokens.length ? seen.tokens[p + 1].text || textOf(seen.tokens[p + 1].id) : textOf(seen.follow[p]);
}

/** The text of the token that stands at a position. */
function tokenText(p) {
  return seen.tokens[p].text || seen.tokens[p].spelled || "";
}

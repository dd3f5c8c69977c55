"use strict";
/* Images: what the chosen token takes from each part of them, as a heat map over the picture. */

views.push({
  id: "images",
  title: "Where it looks on the image",
  says: "An image stands in the text as vectors, one for each of its parts. Here is how much attention the chosen token pays to each: the stronger the colour, the more.",
  present: () => seen.images.length > 0 && seen.attention.length > 0,

  build(section) {
    this.layer = el("input", { type: "range", min: 0, max: seen.attention.length - 1, step: 1, "aria-label": "Layer" });
    this.layer.addEventListener("input", () => choose({ layer: seen.attention[Number(this.layer.value)].layer }));
    this.layerName = el("output", { class: "mono" });
    this.mean = true;
    this.heads = el("div", { class: "kinds" });
    this.words = el("p", {});
    this.figures = el("div", { class: "image-looks" });
    section.append(el("div", { class: "slider" }, el("label", {}, "Layer "), this.layer, this.layerName), this.heads, this.words, this.figures,
      el("p", { class: "note" }, "Colours are of each picture by itself: the strongest is the part that gets most. The picture is grey so that they can be seen. What a vector holds comes from the whole image, too, as the patches saw one another in the encoder."));
    this.pictures = seen.images.map(() => null);
    this.looks = [];
    seen.images.forEach((image, i) => {
      for (const look of image.looks) {
        const canvas = el("canvas", { class: "image-look", role: "img" });
        const caption = el("figcaption", {});
        this.figures.append(el("figure", {}, canvas, caption));
        const shown = { image: i, look, canvas, caption };
        this.looks.push(shown);
        hinted(canvas, (event) => this.hint(shown, event));
      }
      openPicture(image.jpeg).then((picture) => {
        this.pictures[i] = picture;
        this.draw();
      });
    });
  },

  update(changed) {
    if (["token", "layer", "head", "theme"].some((name) => changed.has(name))) {
      if (changed.has("head") && !changed.has("theme")) this.mean = false;
      this.draw();
    }
  },

  draw() {
    const about = nearestLayer(seen.attention);
    const heads = seen.images_by_head ? about.heads : 1;
    const head = this.mean || heads === 1 ? null : Math.min(chosen.head, heads - 1);
    this.layer.value = seen.attention.indexOf(about);
    this.layerName.textContent = `${about.layer} of ${seen.pictures.kind_of.length - 1}`;
    const button = (words, pressed, onclick) => el("button", { type: "button", class: "quiet", "aria-pressed": String(pressed), onclick }, words);
    fill(this.heads, button(about.heads === 1 ? "Its head" : "Mean of all heads", head === null, () => { this.mean = true; this.draw(); }),
      heads > 1 ? Array.from({ length: heads }, (_, h) => button(String(h), h === head, () => { this.mean = false; if (chosen.head === h) this.draw(); else choose({ head: h }); })) : null,
      heads === 1 && about.heads > 1 ? el("span", { class: "note" }, " There is no room on this page for each head.") : null);
    const p = position();
    const shares = seen.images.map((_, i) => imageShare(i, about.layer, head, p));
    const parts = shares.map((share, i) => [i ? ", " : "", el("b", {}, percent(share)), i ? "" : " of its attention", seen.images.length > 1 ? ` to image ${i + 1}` : " to the image"]);
    fill(this.words, el("span", { class: "soft" }, "Reading at "), tokenInWords(tokenText(p)), el("span", { class: "soft" }, ` (position ${p})`),
      `, ${head === null ? (about.heads === 1 ? `layer ${about.layer}` : `layer ${about.layer}, in the mean of its ${about.heads} heads,`) : headName(about.layer, head).toLowerCase()} pays `, parts, ".");
    for (const shown of this.looks) this.drawLook(shown, about.layer, head, p);
  },

  drawLook({ image, look, canvas, caption }, layer, head, p) {
    const weights = imageWeights(image, layer, head, p);
    const boxes = arrayOf(`image.${image}.boxes`);
    let most = 0, sum = 0, best = look.from;
    for (let v = look.from; v < look.to; v++) {
      sum += weights[v];
      if (weights[v] > most && !Number.isNaN(boxes[4 * v])) { most = weights[v]; best = v; }
    }
    const which = seen.images.length > 1 ? `Image ${image + 1}, ` : "";
    const words = { all: "the image", tiles: "tile by tile, in detail", overview: "the whole at once" }[look.kind];
    fill(caption, el("b", {}, capital(`${which}${words}`)), `: ${count(look.to - look.from)} vectors get ${percent(sum)}`,
      most ? `, the one with the frame ${percent(most)}.` : ".");
    canvas.setAttribute("aria-label", `${which}${words}: it takes most from the part ${partInWords(boxes, best)}`);
    const picture = this.pictures[image];
    if (!picture) return;
    canvas.width = picture.width;
    canvas.height = picture.height;
    canvas.style.width = `min(100%, ${Math.min(32, (26 * picture.width) / picture.height)}rem)`;
    const context = canvas.getContext("2d");
    context.putImageData(picture, 0, 0);
    const box = (v) => {
      const [left, top, right, bottom] = [boxes[4 * v] * canvas.width, boxes[4 * v + 1] * canvas.height, boxes[4 * v + 2] * canvas.width, boxes[4 * v + 3] * canvas.height];
      return [left, top, right - left, bottom - top];
    };
    if (!most) return;
    for (let v = look.from; v < look.to; v++) {
      if (Number.isNaN(boxes[4 * v]) || !weights[v]) continue;
      context.globalAlpha = 0.85 * Math.sqrt(weights[v] / most);
      context.fillStyle = css(HEAT);
      context.fillRect(...box(v));
    }
    context.globalAlpha = 1;
    context.lineWidth = Math.max(1.5, canvas.width / 200);
    context.strokeStyle = "#ffffff";
    context.strokeRect(...box(best));
  },

  /** What is said of the part of a picture under the pointer. */
  hint({ image, look, canvas }, event) {
    const place = canvas.getBoundingClientRect();
    const x = (event.clientX - place.left) / place.width;
    const y = (event.clientY - place.top) / place.height;
    const boxes = arrayOf(`image.${image}.boxes`);
    const about = nearestLayer(seen.attention);
    const head = this.mean || !seen.images_by_head ? null : Math.min(chosen.head, about.heads - 1);
    const weights = imageWeights(image, about.layer, head, position());
    for (let v = look.from; v < look.to; v++) {
      if (boxes[4 * v] <= x && x < boxes[4 * v + 2] && boxes[4 * v + 1] <= y && y < boxes[4 * v + 3]) {
        return `vector ${v + 1} of ${count(seen.images[image].vectors)}, position ${arrayOf(`image.${image}.places`)[v]}: ≈ ${percent(weights[v])}`;
      }
    }
    return "The encoder did not see this part.";
  },
});

/** The colour of attention on a grey picture, in both themes. */
const HEAT = [255, 90, 0];

/** How much a head, or the mean of all, takes from each vector of an image: at position p. */
function imageWeights(image, layer, head, p) {
  const codes = arrayOf(`image.${image}.attention.${layer}`);
  const scales = arrayOf(`image.${image}.attention.${layer}.scale`);
  const [heads, positions, vectors] = codes.shape;
  const sums = new Float64Array(vectors);
  const some = head === null ? Array.from({ length: heads }, (_, h) => h) : [head];
  for (const h of some) {
    const row = h * positions + p - seen.first;
    for (let v = 0; v < vectors; v++) sums[v] += (decoded(codes[row * vectors + v]) * scales[row]) / some.length;
  }
  return sums;
}

/** How much all vectors of an image get, exactly. */
function imageShare(image, layer, head, p) {
  const shares = arrayOf(`image.${image}.share.${layer}`);
  const [heads, positions] = shares.shape;
  const some = head === null ? Array.from({ length: heads }, (_, h) => h) : [head];
  return some.reduce((sum, h) => sum + shares[h * positions + p - seen.first] / some.length, 0);
}

/** Which of nine parts of a picture the middle of a box is in. */
function partInWords(boxes, v) {
  const names = [["upper left", "top", "upper right"], ["left", "middle", "right"], ["lower left", "bottom", "lower right"]];
  const third = (a, b) => Math.min(2, Math.max(0, Math.floor(1.5 * (a + b))));
  if (Number.isNaN(boxes[4 * v])) return "that stands for no place";
  return names[third(boxes[4 * v + 1], boxes[4 * v + 3])][third(boxes[4 * v], boxes[4 * v + 2])];
}

/** Open a JPEG without an address, which the page's policy would forbid; returns its pixels in grey. */
async function openPicture(jpeg) {
  const bytes = Uint8Array.from(atob(jpeg), (character) => character.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
  const canvas = el("canvas", { width: bitmap.width, height: bitmap.height });
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const [r, g, b] = pixels.data.subarray(i, i + 3);
    pixels.data.fill(0.299 * r + 0.587 * g + 0.114 * b, i, i + 3);
  }
  return pixels;
}

// ---------------------------------------------------------------- images among the tokens

/** The image whose tokens a position is among, from its first to its last; or null. */
function imageAt(p) {
  const i = seen.images.findIndex(({ span: [start, end] }) => p >= start && p < end);
  return i < 0 ? null : { number: i, start: seen.images[i].span[0], end: seen.images[i].span[1] };
}

/** An image as a word: "image, 64 tokens". */
function imageWords(number) {
  const [start, end] = seen.images[number].span;
  return `${seen.images.length > 1 ? `image ${number + 1}` : "image"}, ${count(end - start)} tokens`;
}

/** A text's tokens up to position p as pieces, with the tokens of an image as one: [{from, to, image}]. */
function piecesUpTo(p, from = 0) {
  const pieces = [];
  for (let s = from; s <= p; s++) {
    const image = imageAt(s);
    const to = image ? Math.min(p + 1, image.end) : s + 1;
    pieces.push({ from: s, to, image: image ? image.number : null });
    s = to - 1;
  }
  return pieces;
}

/** A piece's text as nodes. */
function pieceNodes(piece) {
  return piece.image === null ? tokenNodes(tokenText(piece.from)) : [el("span", { class: "image-word" }, imageWords(piece.image))];
}

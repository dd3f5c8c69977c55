"use strict";
/* The page to talk with a model. What the model writes enters the page as text, never as HTML. */

const $ = (id) => document.getElementById(id);

/** Make an element: `el("p", { class: "note" }, "words", another)`. Functions are listeners. */
function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== false && value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function button(words, click, more = {}) {
  return el("button", { type: "button", class: "quiet", click, ...more }, words);
}

/* ---- what the browser keeps */

const SETTINGS = "tinystar.settings", CONVERSATION = "tinystar.conversation", KEY = "tinystar.key";
const DEFAULTS = { system: "", temperature: 0.8, top_p: 0.95, top_k: 40, max_tokens: 256, seed: "", stop: "" };
const NUMBERS = ["temperature", "top_p", "top_k", "max_tokens", "seed"];
const OF_SAMPLING = ["temperature", "top_p", "top_k", "seed"];

/** Read what is kept under a name; what is damaged, or of another form, is as if it were not there. */
function kept(name, isRight) {
  try {
    const found = JSON.parse(localStorage.getItem(name));
    return isRight(found) ? found : null;
  } catch {
    return null;
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    say("The browser keeps no more of this conversation: its storage is full or switched off. Export it, or begin a new one.");
  }
}

const isMessage = (each) => each && ["user", "assistant"].includes(each.role) && typeof each.content === "string" && typeof (each.made ?? {}) === "object" && (each.images ?? []).every?.(isImage);
const isImage = (each) => typeof each === "string" && each.startsWith("data:image/");
const settings = { ...DEFAULTS };
for (const [name, value] of Object.entries(kept(SETTINGS, (found) => found && typeof found === "object") ?? {})) {
  if (typeof value === "number" || typeof value === "string") settings[name] = String(value);
}

/**
 * The conversation: {role, content, images, made}. Images are data: addresses. `made` is of answers: how they were asked for, their tokens and
 * what they cost, {model, system, temperature, top_p, top_k, seed, ids, tokens, first, rate, end}.
 */
let messages = kept(CONVERSATION, (found) => Array.isArray(found) && found.every(isMessage)) ?? [];
let savedAt = 0;

function save() {
  savedAt = performance.now();
  keep(CONVERSATION, messages);
}

/* ---- the server */

/** Ask the server; raises an Error whose message is the server's own sentence. */
async function ask(path, body, signal, accept = "*/*") {
  const key = sessionStorage.getItem(KEY);
  const headers = { Accept: accept, ...(body ? { "Content-Type": "application/json" } : {}), ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) askForKey(Boolean(key));
  let words = `The server answers ${answer.status} ${answer.statusText}.`;
  try {
    words = (await answer.json()).error.message || words;
  } catch { /* its words are no JSON */ }
  throw new Error(words);
}

/** Give the data of server-sent events, parsed, until [DONE]. */
async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("The server ended the answer before it was complete.");
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
        if (line || !data.length) continue;
        const text = data.join("\n");
        data = [];
        if (text === "[DONE]") return;
        const found = JSON.parse(text);
        if (found.error) throw new Error(found.error.message);
        yield found;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/* ---- an answer as it grows */

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^`]*$/;
const MAYBE_FENCE = /^ {0,3}(?:$|`{1,2}$|~{1,2}$|`{3,}[^`]*$|~{3,})/;

/**
 * Writes a text into an element, piece by piece: paragraphs, and blocks of code between lines of ```. Only text
 * nodes grow, nothing is drawn anew, so that a long answer costs no more for each token than a short one.
 */
class Written {
  constructor(body, asOne) {
    Object.assign(this, { body, asOne, node: null, fence: null, held: "", inLine: false });
  }

  add(text) {
    if (this.asOne) return this.put(text);
    this.held += text;
    for (let end; (end = this.held.indexOf("\n")) >= 0; ) {
      const line = this.held.slice(0, end + 1);
      this.held = this.held.slice(end + 1);
      if (this.inLine) this.put(line);
      else this.line(line);
      this.inLine = false;
    }
    // The beginning of a line waits where it may be that of a block.
    if (this.held && (this.inLine || !MAYBE_FENCE.test(this.held))) this.flush();
  }

  flush() {
    if (this.held) this.put(this.held);
    this.inLine = this.held !== "" || this.inLine;
    this.held = "";
  }

  end() {
    if (this.held && !this.inLine && FENCE.test(this.held)) this.line(this.held);
    else this.flush();
    this.held = "";
  }

  line(line) {
    const found = FENCE.exec(line.trimEnd());
    if (this.fence === null) {
      if (found) {
        this.fence = found[1];
        if (found[2]) this.body.append(el("p", { class: "language" }, found[2]));
        this.open(el("pre", { tabindex: 0, role: "group", "aria-label": found[2] ? `Code, ${found[2]}` : "Code" }), el("code", {}));
      } else if (line.trim() === "") this.node = null;
      else this.put(line);
    } else if (found && !found[2] && found[1][0] === this.fence[0] && found[1].length >= this.fence.length) this.fence = this.node = null;
    else this.put(line);
  }

  open(block, within = block) {
    this.node = document.createTextNode("");
    within.append(this.node);
    if (block !== within) block.append(within);
    this.body.append(block);
  }

  put(text) {
    if (this.node === null) {
      if (!this.asOne) text = text.replace(/^ +/, "");
      if (text === "") return;
      this.open(el("p", { dir: "auto" }));
    }
    this.node.appendData(text);
  }
}

/** Says an answer to those who hear the page: whole sentences, not each token. */
class Spoken {
  constructor() {
    $("status").replaceChildren();
    this.text = "";
  }

  add(text) {
    this.text += text;
    const end = Math.max(...[". ", "! ", "? ", "\n", "。"].map((mark) => this.text.lastIndexOf(mark)));
    if (end >= 0) this.say(end + 1);
  }

  say(length) {
    if (this.text.slice(0, length).trim()) $("status").append(el("p", {}, this.text.slice(0, length)));
    this.text = this.text.slice(length);
    while ($("status").childElementCount > 20) $("status").firstChild.remove();
  }

  end(words) {
    this.say(this.text.length);
    $("status").append(el("p", {}, words));
  }
}

/* ---- the messages on the page */

let models = [];
let running = null; // {controller}, while an answer comes
let editing = false;
let images = []; // of the message that is written

const model = () => models.find((each) => each.id === $("model").value);
/** Whether the chosen model continues a text instead of answering messages. */
const continues = () => model()?.chat === false;
const last = () => messages.at(-1);

function draw() {
  const isText = continues();
  document.body.classList.toggle("continues", isText);
  $("conversation").replaceChildren(...messages.map(article));
  drawState();
}

function article(message) {
  const isUser = message.role === "user";
  const body = el("div", { class: "body" });
  const made = el("article", { class: `message ${message.role}`, "aria-label": isUser ? "You" : "The model" },
    el("p", { class: "who", "aria-hidden": "true" }, isUser ? "You" : message.made?.model ?? "Model"), body, el("div", { class: "foot" }));
  for (const [n, image] of (message.images ?? []).entries()) body.append(el("img", { src: image, alt: `Image ${n + 1}` }));
  if (message.content) {
    const written = new Written(body, isUser || continues());
    written.add(message.content);
    written.end();
  }
  return made;
}

/** Draw what depends on the conversation as a whole: buttons, the welcome, the composer. */
function drawState() {
  const isText = continues();
  document.body.classList.toggle("talking", messages.length > 0);
  messages.forEach((message, i) => {
    $("conversation").children[i]?.querySelector(".foot").replaceChildren(...(running ? [] : foot(message, i)));
  });
  $("send").hidden = Boolean(running);
  $("stop-answer").hidden = !running;
  $("send").disabled = !model();
  for (const id of ["new", "export"]) $(id).disabled = !messages.length || Boolean(running);
  $("model").disabled = !models.length || Boolean(running);
  $("editing").hidden = !editing;
  $("send").textContent = isText ? "Continue" : "Send";
  $("message-label").textContent = isText ? "Text to continue" : "Message";
  $("message").placeholder = isText ? (messages.length ? "More text, or none" : "The beginning of a text") : "Write a message";
  const keyboard = [el("kbd", {}, "Enter"), isText ? " continues, " : " sends, ", el("kbd", {}, "Shift"), " ", el("kbd", {}, "Enter"), " begins a line."];
  $("keys").replaceChildren(...(running ? [el("kbd", {}, "Esc"), " stops the answer."] : keyboard));
  $("system").disabled = isText;
  const chosen = model();
  $("add-image").hidden = !chosen?.sees || isText;
  $("welcome-title").textContent = chosen?.id ?? "";
  const holds = chosen?.context_length ? ` Its context holds ${chosen.context_length.toLocaleString("en")} tokens.` : "";
  $("about").textContent = !chosen ? "" : isText ? `This model continues a text. Write how it begins.${holds}` : `This model answers messages.${holds}`;
  fit();
}

function foot(message, i) {
  const isLast = i === messages.length - 1;
  const answered = message.role === "assistant";
  const isText = continues();
  const found = [];
  const whole = () => (isText ? messages.slice(0, i + 1).map((each) => each.content).join("") : message.content);
  const copy = button("Copy", () => copied(whole(), copy));
  found.push(copy);
  if (answered) found.push(button("Look inside", () => lookInside(i)));
  if (isLast) found.push(button(answered ? (isText ? "Write anew" : "Regenerate") : isText ? "Continue" : "Answer", () => again()));
  if (isLast ? !answered || isText : i === messages.length - 2 && !answered && !isText) found.push(button("Edit", edit));
  if (answered && message.made) found.push(el("span", { class: "note" }, facts(message.made)));
  return found;
}

/** Say what an answer was: "46 tokens · 31.2 tokens/s · first after 0.12 s". */
function facts(made) {
  const said = [];
  if (made.tokens) said.push(`${made.tokens.toLocaleString("en")} token${made.tokens === 1 ? "" : "s"}`);
  if (made.rate) said.push(`${made.rate.toFixed(made.rate < 100 ? 1 : 0)} tokens/s`);
  if (made.first !== undefined) said.push(`first after ${made.first.toFixed(2)} s`);
  if (made.seed !== undefined && made.temperature !== 0) said.push(`seed ${made.seed}`);
  if (made.end === "length") said.push("cut at the limit");
  if (made.end === "stopped") said.push("stopped");
  if (made.end === "fault") said.push("not complete");
  return said.join(" · ");
}

/** Show a sentence below the conversation, as an alert; nothing hides it. */
function say(words) {
  $("notice").textContent = words ?? "";
  $("notice").hidden = !words;
  if (words) follow();
}

let follows = true;
let due = false, height = 0;

/** Keep the end in sight, unless the reader has gone up. */
function follow() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    if (follows) scrollTo(0, document.documentElement.scrollHeight);
  });
}

async function copied(text, pressed) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not allowed here: the older way
    const area = el("textarea", { class: "unseen" }, text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    pressed.focus();
  }
  pressed.textContent = "Copied";
  setTimeout(() => { pressed.textContent = "Copy"; }, 1500);
}

/* ---- asking and answering */

/** What the answer with the number `i` is given to: messages, or a text. */
function request(i, system, isText) {
  const before = messages.slice(0, i);
  if (isText) return { prompt: before.map((each) => each.content).join("") };
  const given = before.map(({ role, content, images }) => ({ role, content: images?.length ? withImages(content, images) : content }));
  return { messages: system.trim() ? [{ role: "system", content: system }, ...given] : given };
}

function withImages(text, images) {
  return [...images.map((url) => ({ type: "image_url", image_url: { url } })), ...(text ? [{ type: "text", text }] : [])];
}

function sampling() {
  const chosen = {};
  for (const name of NUMBERS) if (settings[name] !== "" && Number.isFinite(Number(settings[name]))) chosen[name] = Number(settings[name]);
  // A seed is always sent, so that the answer can be looked at as it was drawn.
  chosen.seed ??= crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
  const stop = settings.stop.split("\n").filter(Boolean).map((text) => text.replaceAll("\\n", "\n"));
  return stop.length ? { ...chosen, stop } : chosen;
}

async function send(event) {
  event?.preventDefault();
  const text = $("message").value;
  const isText = continues();
  if (running || !model() || !(text.trim() || images.length || (isText && messages.length))) return;
  const own = { role: "user", content: isText ? text : text.trim(), ...(images.length ? { images } : {}) };
  if (editing) leaveEditing(true);
  showImages([]);
  if (own.content || own.images) {
    messages.push(own);
    $("conversation").append(article(last()));
  }
  $("message").value = "";
  follows = true;
  save();
  await answer();
}

/** Let the model answer what there is. */
async function answer() {
  const system = settings.system, asked = sampling();
  const made = { model: model().id, ...(continues() ? {} : { system }) };
  for (const name of OF_SAMPLING) if (name in asked) made[name] = asked[name];
  Object.assign(made, { ids: [], end: "fault" }); // until it has ended well
  const message = { role: "assistant", content: "", made };
  const body = { model: made.model, ...request(messages.length, system, continues()), ...asked, stream: true, stream_options: { include_usage: true }, return_token_ids: true };
  const place = article(message);
  place.classList.add("busy");
  place.setAttribute("aria-busy", "true");
  $("conversation").append(place);
  messages.push(message);
  running = { controller: new AbortController() };
  say(null);
  drawState();
  follow();
  const written = new Written(place.querySelector(".body"), continues());
  const spoken = new Spoken();
  const start = performance.now();
  let begun = null, ended = start;
  try {
    const path = continues() ? "v1/completions" : "v1/chat/completions";
    for await (const event of events(await ask(path, body, running.controller.signal))) {
      if (event.usage) made.tokens = event.usage.completion_tokens;
      const choice = event.choices?.[0];
      if (!choice) continue;
      made.end = choice.finish_reason ?? made.end;
      made.ids.push(...choice.token_ids ?? []);
      const text = choice.text ?? choice.delta?.content;
      if (!text) continue;
      ended = performance.now();
      begun ??= ended;
      message.content += text;
      written.add(text);
      spoken.add(text);
      follow();
      if (ended - savedAt > 1000) save();
    }
    spoken.end(message.content ? "The answer is complete." : "The answer is empty.");
  } catch (error) {
    const stopped = error.name === "AbortError";
    made.end = stopped ? "stopped" : "fault";
    spoken.end(stopped ? "Stopped." : "");
    if (!stopped && $("key-form").hidden) say(error.message);
  }
  written.end();
  made.tokens ||= made.ids.length;
  if (begun !== null) made.first = (begun - start) / 1000;
  if (ended > begun && made.tokens > 1) made.rate = (made.tokens - 1) / ((ended - begun) / 1000);
  place.classList.remove("busy");
  place.removeAttribute("aria-busy");
  if (!message.content && made.end !== "stop" && made.end !== "length") {
    messages.pop();
    place.remove();
  }
  running = null;
  save();
  drawState();
  follow();
}

function stop() {
  running?.controller.abort();
}

/** Answer the last message again, or for the first time. */
async function again() {
  if (running || !model()) return;
  if (editing) leaveEditing();
  if (last().role === "assistant") {
    messages.pop();
    $("conversation").lastChild.remove();
  }
  follows = true;
  $("message").focus();
  await answer();
}

/** Where the last message of the user stands. */
const ownLast = () => messages.findLastIndex((each) => each.role === "user");

function edit() {
  if (running || ownLast() < 0) return;
  editing = true;
  $("message").value = messages[ownLast()].content;
  showImages(messages[ownLast()].images ?? []);
  drawState();
  $("message").focus();
}

/** Leave editing; `replace` takes the old message, and the answer to it, out of the conversation. */
function leaveEditing(replace = false) {
  editing = false;
  if (replace) {
    const from = ownLast();
    messages.splice(from);
    while ($("conversation").children.length > from) $("conversation").lastChild.remove();
  } else {
    $("message").value = "";
    showImages([]);
  }
  drawState();
}

function newConversation() {
  messages = [];
  editing = false;
  showImages([]);
  save();
  say(null);
  draw();
  $("message").focus();
}

function exportConversation() {
  const { system, ...rest } = settings;
  const own = messages.map(({ images, ...message }) => (images ? { ...message, content: withImages(message.content, images) } : message));
  const all = system.trim() && !continues() ? [{ role: "system", content: system }, ...own] : own;
  const blob = new Blob([JSON.stringify({ model: $("model").value, settings: rest, messages: all }, null, 2)], { type: "application/json" });
  const link = el("a", { href: URL.createObjectURL(blob), download: "conversation.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/* ---- images of a message */

const MOST_SIDE = 1280, MOST_SIZE = 1e6;

/** Read an image file as a data: address; a large one is made smaller, as the browser keeps little. */
async function readImage(file) {
  const picture = await createImageBitmap(file);
  const scale = Math.min(1, MOST_SIDE / Math.max(picture.width, picture.height));
  if (scale === 1 && file.size <= MOST_SIZE && ["image/png", "image/jpeg"].includes(file.type)) {
    return new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(file);
    });
  }
  const canvas = el("canvas", { width: Math.round(scale * picture.width), height: Math.round(scale * picture.height) });
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // JPEG has no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.9);
}

async function addImages(files) {
  for (const file of files) {
    try {
      showImages([...images, await readImage(file)]);
    } catch {
      say(`${file.name} is no image that this browser reads.`);
    }
  }
  $("message").focus();
}

function showImages(shown) {
  images = shown;
  $("images").hidden = !images.length;
  $("images").replaceChildren(...images.map((image, n) => el("li", {}, el("img", { src: image, alt: `Image ${n + 1}` }),
    button("Remove", () => { showImages(images.filter((_, i) => i !== n)); $("message").focus(); }, { "aria-label": `Remove image ${n + 1}` }))));
}

/* ---- the look inside */

let looking = null;

/** Open the page of how an answer's tokens came to be; `position` is up to which of them. */
async function lookInside(i, position) {
  const { content, made = {} } = messages[i];
  looking?.abort();
  const controller = looking = new AbortController();
  const dialog = $("look");
  for (const id of ["look-later", "look-tab"]) $(id).hidden = true;
  $("look-frame").replaceChildren();
  $("look-says").textContent = "The model reads the text once more. This takes some seconds.";
  if (!dialog.open) dialog.showModal();
  const body = { model: made.model ?? $("model").value, ...request(i, made.system ?? "", made.system === undefined), answer: made.ids?.length ? made.ids : content };
  for (const name of OF_SAMPLING) if (name in made) body[name] = made[name];
  if (position) body.position = position;
  try {
    const found = await (await ask("look", body, controller.signal, "application/json")).json();
    const all = found.first <= 1 && found.last === found.tokens;
    const which = all ? "" : `Tokens ${found.first} to ${found.last} of the answer's ${found.tokens}. `;
    $("look-says").textContent = which + (found.alone ? "What comes before them is too long, and was left out in part: the numbers are not those of the answer." : "");
    const source = found.page.replace(/^\//, "");
    $("look-frame").append(el("iframe", { src: source, sandbox: "allow-scripts", title: "How the tokens came to be" }));
    $("look-tab").href = source;
    $("look-tab").hidden = false;
    $("look-later").hidden = found.last === found.tokens;
    $("look-later").onclick = () => lookInside(i, Math.min(found.tokens, found.last + found.step));
  } catch (error) {
    if (error.name !== "AbortError") $("look-says").textContent = error.message;
  }
}

/* ---- settings, key, models */

function showSettings() {
  for (const name of Object.keys(DEFAULTS)) $(name).value = settings[name];
}

function openSettings(isOpen) {
  $("settings").hidden = !isOpen;
  $("open-settings").setAttribute("aria-expanded", String(isOpen));
  document.body.classList.toggle("with-settings", isOpen);
  if (isOpen) $("settings").querySelector("textarea:not(:disabled), input").focus();
  else $("open-settings").focus();
}

function askForKey(wasWrong) {
  $("key-form").hidden = false;
  $("key-says").textContent = wasWrong ? "The server does not know this key." : "It is kept in this tab until you close it.";
  $("key").value = "";
  $("key").focus();
}

async function loadModels() {
  try {
    models = (await (await ask("v1/models")).json()).data;
  } catch (error) {
    return say($("key-form").hidden ? error.message : null);
  }
  say(null);
  $("key-form").hidden = true;
  $("model").replaceChildren(...models.map((each) => el("option", { value: each.id }, each.id)));
  if (models.some((each) => each.id === settings.model)) $("model").value = settings.model;
  draw();
  follow();
}

function fit() {
  const area = $("message");
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}

function start() {
  $("composer").addEventListener("submit", send);
  $("message").addEventListener("input", fit);
  $("message").addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files].filter((file) => file.type.startsWith("image/"));
    if (!files.length || $("add-image").hidden) return;
    event.preventDefault();
    addImages(files);
  });
  $("files").addEventListener("change", () => {
    addImages([...$("files").files]);
    $("files").value = "";
  });
  $("message").addEventListener("keydown", (event) => {
    // While a word is composed, as in Japanese, Enter ends the word (229 in browsers that say it late).
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    send();
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || $("look").open || event.isComposing) return;
    if (running) stop();
    else if (editing) leaveEditing();
    else if (!$("settings").hidden) openSettings(false);
  });
  $("stop-answer").addEventListener("click", () => { stop(); $("message").focus(); });
  $("leave-editing").addEventListener("click", () => { leaveEditing(); $("message").focus(); });
  $("new").addEventListener("click", newConversation);
  $("export").addEventListener("click", exportConversation);
  $("open-settings").addEventListener("click", () => openSettings($("settings").hidden));
  $("close-settings").addEventListener("click", () => openSettings(false));
  $("settings-form").addEventListener("submit", (event) => event.preventDefault());
  $("settings-form").addEventListener("input", (event) => {
    settings[event.target.id] = event.target.value;
    keep(SETTINGS, settings);
  });
  $("settings-form").addEventListener("reset", (event) => {
    event.preventDefault();
    Object.assign(settings, DEFAULTS);
    keep(SETTINGS, settings);
    showSettings();
  });
  $("model").addEventListener("change", () => {
    settings.model = $("model").value;
    keep(SETTINGS, settings);
    draw();
  });
  $("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, $("key").value.trim());
    await loadModels();
    if (models.length) $("message").focus();
  });
  $("look-close").addEventListener("click", () => $("look").close());
  $("look").addEventListener("close", () => { looking?.abort(); $("look-frame").replaceChildren(); });
  addEventListener("scroll", () => {
    // Only whoever scrolls up leaves the end: it may have moved on since the page was scrolled to it.
    if (scrollY < height - 2) follows = false;
    if (innerHeight + scrollY > document.documentElement.scrollHeight - 60) follows = true;
    height = scrollY;
  }, { passive: true });
  addEventListener("pagehide", () => { if (running) save(); }); // otherwise another tab may have kept a later state
  showSettings();
  drawState();
  $("message").focus();
  loadModels().then(() => { document.body.dataset.ready = "true"; });
}

start();

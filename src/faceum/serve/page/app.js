// @ts-check
/** The page: photos come in, sheets with their answers come out. */

import * as api from "./api.js";
import { Live } from "./camera.js";
import { faceWords, make, makeCard, words } from "./cards.js";
import { drawLayers, partAt } from "./draw.js";
import { expertColour, keepRouting, routingOf, tokenAt } from "./experts.js";
import { makeFilm, peopleWords } from "./film.js";
import { enroll, showPeople } from "./people.js";
import { saveCsv, saveJson, savePng } from "./save.js";
import { element, fail, say } from "./say.js";

/**
 * @typedef {{name: string, number: number, blob: Blob, image: HTMLImageElement, result: api.Result,
 *   found: api.Found[], section: HTMLElement, canvas: HTMLCanvasElement, cards: HTMLElement}} Sheet
 */

/** Milliseconds for which the cards of live mode stay: numbers that change faster cannot be read. */
const CARDS_EVERY = 300;

/** @type {Sheet[]} */
const sheets = [];
/** @type {ReturnType<typeof makeFilm>[]} */
const films = [];
/** @type {api.Server} */
let server;
/** @type {Live | null} */
let live = null;
/** @type {(() => void)[]} */
const waiting = [];

const layers = () => new Set([...document.querySelectorAll("[name=layer]:checked")].map((/** @type {any} */ box) => box.value));
/** @returns {import("./draw.js").Shown} */
const shown = () => ({ layers: layers(), view: { task: element("expert-task").value, block: Number(element("expert-block").value) } });
const contested = () => /** @type {any} */ (document.querySelector("[name=contested]")).checked;

/** Ask for a key until the server accepts it. */
function askKey() {
  element("key-form").hidden = false;
  element("key").focus();
  return new Promise((done) => waiting.push(() => done(null)));
}

async function start() {
  try {
    server = await api.describeServer();
  } catch (error) {
    if (error instanceof api.Refusal && error.status === 401) {
      await askKey();
      return start();
    }
    return fail(error);
  }
  element("key-form").hidden = true;
  element("model").textContent = `Network: ${server.model}`;
  element("people").hidden = !server.gallery;
  element("expert-layer").hidden = !server.experts;
  element("expert-task").replaceChildren(...server.tasks.map((task) => make("option", { value: task }, words(task))));
  if (server.gallery) await showPeople();
}

/** @param {Iterable<Blob>} blobs */
async function add(blobs) {
  await ready;
  if (!server) return;
  const images = [...blobs];
  let added = 0;
  for (const [place, blob] of images.entries()) {
    const name = blob instanceof File && blob.name ? blob.name : `Photo ${sheets.length + 1}`;
    say(images.length > 1 ? `Looking at ${name} (${place + 1} of ${images.length}) …` : `Looking at ${name} …`, "busy");
    try {
      if (blob.type.startsWith("video/")) {
        await addFilm(name, blob);
        continue;
      }
      await addOne(name, blob);
      added += 1;
    } catch (error) {
      return fail(error);
    }
  }
  if (added) say(summary(sheets.slice(-added)));
}

/** @param {Sheet[]} some */
function summary(some) {
  const faces = some.reduce((sum, sheet) => sum + (sheet.result.faces?.length ?? 0), 0);
  if (!faces) return "There is no face in this photo, or none large and clear enough.";
  return `${faces === 1 ? "One face" : `${faces} faces`} found.`;
}

/** @param {string} name @param {Blob} blob */
function requireSize(name, blob) {
  if (blob.size > server.limits.max_bytes) {
    throw new Error(`${name} is larger than ${Math.floor(server.limits.max_bytes / 2 ** 20)} MB, the server's limit.`);
  }
}

/** @param {string} name @param {Blob} blob */
async function addFilm(name, blob) {
  if (!server.video) throw new Error("This server cannot read video; install the extra video there.");
  requireSize(name, blob);
  const reply = await api.analyzeVideo(blob);
  const film = makeFilm(name, blob, reply);
  films.push(film);
  element("sheets").prepend(film.section);
  element("drop").classList.add("small");
  element("tools").hidden = false;
  say(`The video shows ${peopleWords(reply)}.`);
}

/** @param {string} name @param {Blob} blob */
async function addOne(name, blob) {
  requireSize(name, blob);
  const result = await api.analyze(blob);
  const found = server.gallery && result.faces?.length ? await api.searchPeople(blob) : [];
  const image = make("img", { src: URL.createObjectURL(blob), alt: `${name}, ${faceWords(result)}` });
  const decoded = await image.decode().then(() => true, () => false);
  const canvas = make("canvas", { ariaHidden: "true" });
  const cards = make("div", { className: "cards" });
  const stage = make("div", { className: decoded ? "stage" : "stage unseen" }, image, canvas);
  if (!decoded) stage.style.aspectRatio = `${result.width} / ${result.height}`;
  const section = make("article", { className: "sheet panel" },
    make("div", { className: "sheet-head" }, make("h2", {}, name),
      make("p", { className: "quiet" }, `${result.width} × ${result.height}, ${faceWords(result)}`)),
    make("div", { className: "columns" }, stage, cards));
  /** @type {Sheet} */
  const sheet = { name, number: sheets.length + 1, blob, image, result, found, section, canvas, cards };
  watchParts(stage, sheet);
  sheets.push(sheet);
  element("sheets").prepend(section);
  element("drop").classList.add("small");
  element("tools").hidden = false;
  show();
  if (layers().has("experts")) await loadExperts();
}

/** Name the face part under the pointer. @param {HTMLElement} stage @param {Sheet} sheet */
function watchParts(stage, sheet) {
  const label = make("span", { className: "part", hidden: true });
  stage.append(label);
  stage.addEventListener("pointermove", (event) => {
    const area = sheet.canvas.getBoundingClientRect(), { width, height, faces } = sheet.result;
    const x = ((event.clientX - area.left) / area.width) * width, y = ((event.clientY - area.top) / area.height) * height;
    const { layers, view } = shown();
    const names = [layers.has("parsing") ? partAt(faces ?? [], x, y, server) : "", layers.has("experts") ? tokenAt(faces ?? [], x, y, view) : ""];
    label.textContent = names.filter(Boolean).join("; ");
    label.hidden = !label.textContent;
  });
  stage.addEventListener("pointerleave", () => (label.hidden = true));
}

/** Draw all layers and cards again. */
function show() {
  const named = (/** @type {Sheet} */ sheet) => (sheet.result.faces ?? []).map((face, index) =>
    ({ face, name: sheets.length > 1 ? `Photo ${sheet.number}, face ${index + 1}` : `Face ${index + 1}` }));
  const everyone = sheets.flatMap(named);
  for (const sheet of sheets) {
    drawLayers(sheet.canvas, sheet.result, shown(), server);
    const cards = named(sheet).map((one, index) => makeCard(one, index, {
      server, contested: contested(), others: everyone, found: sheet.found[index] ?? null,
      image: sheet.image.naturalWidth ? sheet.image : null,
      onEnroll: server.gallery ? (name) => enroll(name, sheet.image, one.face) : null,
    }));
    const none = make("p", { className: "quiet" }, "Nothing in this photo looks like a face.");
    sheet.cards.replaceChildren(...(cards.length ? cards : [none]));
  }
}

/** Ask for the experts of the photos that have none yet, and draw them. */
async function loadExperts() {
  const missing = sheets.filter(({ result }) => result.faces?.length && !routingOf(result.faces[0]));
  try {
    if (missing.length) say("Looking up the experts; the first time takes a few seconds …", "busy");
    for (const sheet of missing) keepRouting(/** @type {api.Face[]} */ (sheet.result.faces), await api.showExperts(sheet.blob));
    if (missing.length) say("The colours show which expert took each token first.");
  } catch (error) {
    fail(error);
  }
  showLegend();
  show();
}

/** List the MoE blocks and the experts' colours. */
function showLegend() {
  const routing = sheets.map(({ result }) => result.faces?.[0] && routingOf(result.faces[0])).find(Boolean);
  const select = element("expert-block"), blocks = routing?.moe_blocks.length ?? 0;
  if (select.options.length !== blocks) {
    select.replaceChildren(...Array.from({ length: blocks }, (_, block) => make("option", { value: String(block) }, `MoE block ${block + 1}`)));
  }
  element("expert-legend").replaceChildren(...Array.from({ length: routing?.num_experts ?? 0 }, (_, expert) => {
    const swatch = make("li", {}, String(expert));
    swatch.style.setProperty("--expert", `rgb(${expertColour(expert, server)})`);
    return swatch;
  }));
}

async function startCamera() {
  if (live) return;
  const video = element("video"), canvas = element("live-layers");
  let told = 0;
  live = new Live(video, (result, rate) => {
    drawLayers(canvas, result, shown(), server);
    if (performance.now() - told < CARDS_EVERY) return;
    told = performance.now();
    element("rate").textContent = `${rate.toFixed(1)} answers per second, ${faceWords(result)}`;
    const cards = (result.faces ?? []).slice(0, 2).map((face, index) =>
      makeCard({ name: `Face ${index + 1}`, face }, index, { server, contested: contested() }));
    element("live-cards").replaceChildren(...(cards.length ? cards : [make("p", { className: "quiet" }, "No face is in view.")]));
  }, (error) => {
    endCamera();
    fail(error);
  });
  try {
    await live.start();
    element("live").hidden = element("tools").hidden = false;
    element("drop").classList.add("small");
    say("The camera is on.");
  } catch (error) {
    live = null;
    fail(error instanceof DOMException ? new Error("The camera cannot be used; check the browser's permission.") : error);
  }
}

function endCamera() {
  live?.stop();
  live = null;
  element("live").hidden = true;
  element("tools").hidden = !sheets.length && !films.length;
}

function clear() {
  for (const sheet of sheets.splice(0)) {
    URL.revokeObjectURL(sheet.image.src);
    sheet.section.remove();
  }
  for (const film of films.splice(0)) {
    film.free();
    film.section.remove();
  }
  element("tools").hidden = !live;
  element("drop").classList.toggle("small", Boolean(live));
  say("");
  element("choose").focus();
}

function connect() {
  const drop = element("drop"), file = element("file");
  element("choose").addEventListener("click", () => file.click());
  file.addEventListener("change", () => add(file.files).then(() => (file.value = "")));
  element("example").addEventListener("click", async () => {
    const blob = await (await fetch("/page/example.jpg")).blob();
    await add([new File([blob], "Example", { type: "image/jpeg" })]);
  });
  element("camera").addEventListener("click", startCamera);
  element("stop").addEventListener("click", () => {
    endCamera();
    say("The camera is off.");
    element("camera").focus();
  });
  element("keep").addEventListener("click", async () => live && add([await live.grab(0.95)]));
  element("clear").addEventListener("click", clear);
  element("save-json").addEventListener("click", () => saveJson(sheets));
  element("save-csv").addEventListener("click", () => saveCsv(sheets, server));
  element("save-png").addEventListener("click", () => savePng(sheets, shown(), server));
  element("tools").addEventListener("change", (/** @type {any} */ { target }) => {
    const experts = target.value === "experts" && target.checked;
    if (experts) /** @type {any} */ (document.querySelector("[value=parsing]")).checked = false;
    element("expert-view").hidden = !layers().has("experts");
    return experts ? loadExperts() : show();
  });
  element("key-form").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    api.setKey(element("key").value);
    for (const go of waiting.splice(0)) go();
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer?.files.length) add(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) add(files);
  });
}

connect();
const ready = start();

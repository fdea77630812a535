// @ts-check
/** The page: photos come in, sheets with their answers come out. */

import * as api from "./api.js";
import { Live } from "./camera.js";
import { make, makeCard } from "./cards.js";
import { drawLayers, partAt } from "./draw.js";
import { saveCsv, saveJson, savePng } from "./save.js";

/**
 * @typedef {{name: string, number: number, blob: Blob, image: HTMLImageElement, result: api.Result,
 *   found: api.Found[], section: HTMLElement, canvas: HTMLCanvasElement, cards: HTMLElement}} Sheet
 */

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

/** @type {Sheet[]} */
const sheets = [];
/** @type {api.Server} */
let server;
/** @type {Live | null} */
let live = null;
/** @type {(() => void)[]} */
let waiting = [];

const layers = () => new Set([...document.querySelectorAll("[name=layer]:checked")].map((/** @type {any} */ box) => box.value));
const contested = () => /** @type {any} */ (document.querySelector("[name=contested]")).checked;

/** @param {string} text @param {"" | "busy" | "error"} [kind] */
function say(text, kind = "") {
  Object.assign(element("status"), { textContent: text, className: kind });
}

/** @param {unknown} error */
function fail(error) {
  say(error instanceof Error ? error.message : String(error), "error");
}

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
  if (server.gallery) await showPeople();
}

/** @param {Iterable<Blob>} blobs */
async function add(blobs) {
  if (!server) return say("The server is not ready yet.", "error");
  const images = [...blobs];
  let added = 0;
  for (const [place, blob] of images.entries()) {
    const name = blob instanceof File && blob.name ? blob.name : `Photo ${sheets.length + 1}`;
    say(images.length > 1 ? `Looking at ${name} (${place + 1} of ${images.length}) …` : `Looking at ${name} …`, "busy");
    try {
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
async function addOne(name, blob) {
  if (blob.size > server.limits.max_bytes) {
    throw new Error(`${name} is larger than ${Math.floor(server.limits.max_bytes / 2 ** 20)} MB, the server's limit.`);
  }
  const result = await api.analyze(blob);
  const found = server.gallery && result.faces?.length ? await api.searchPeople(blob) : [];
  const image = make("img", { src: URL.createObjectURL(blob), alt: `${name}, ${faceWords(result)}` });
  await image.decode().catch(() => null);
  const canvas = make("canvas", { ariaHidden: "true" });
  const cards = make("div", { className: "cards" });
  const stage = make("div", { className: "stage" }, image, canvas);
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
}

/** @param {api.Result} result */
function faceWords(result) {
  const count = result.faces?.length ?? 0;
  return count === 0 ? "no face" : count === 1 ? "one face" : `${count} faces`;
}

/** Name the face part under the pointer. @param {HTMLElement} stage @param {Sheet} sheet */
function watchParts(stage, sheet) {
  const label = make("span", { className: "part", hidden: true });
  stage.append(label);
  stage.addEventListener("pointermove", (event) => {
    const area = sheet.canvas.getBoundingClientRect(), { width, height, faces } = sheet.result;
    const x = ((event.clientX - area.left) / area.width) * width, y = ((event.clientY - area.top) / area.height) * height;
    label.textContent = layers().has("parsing") ? partAt(faces ?? [], x, y, server) : "";
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
    drawLayers(sheet.canvas, sheet.result, layers(), server);
    const cards = named(sheet).map((one, index) => makeCard(one, index, {
      server, contested: contested(), others: everyone, found: sheet.found[index] ?? null,
      onEnrol: server.gallery ? (name) => enrol(name, sheet, one.face) : null,
    }));
    const none = make("p", { className: "quiet" }, "Nothing in this photo looks like a face.");
    sheet.cards.replaceChildren(...(cards.length ? cards : [none]));
  }
}

/** Enrol one face, cut out of its photo. @param {string} name @param {Sheet} sheet @param {api.Face} face */
async function enrol(name, sheet, face) {
  try {
    const answer = await api.enrol(name, await cutOut(sheet.image, face.box));
    if (answer.problem) throw new Error(answer.problem);
    say(answer.added ? `${name} is enrolled.` : `${name} has this face already.`);
    await showPeople();
  } catch (error) {
    fail(error);
  }
}

/** @param {HTMLImageElement} image @param {number[]} box @returns {Promise<Blob>} */
function cutOut(image, [x0, y0, x1, y1]) {
  const margin = 0.6 * Math.max(x1 - x0, y1 - y0);
  const left = Math.max(0, x0 - margin), top = Math.max(0, y0 - margin);
  const width = Math.min(image.naturalWidth, x1 + margin) - left, height = Math.min(image.naturalHeight, y1 + margin) - top;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  /** @type {any} */ (canvas.getContext("2d")).drawImage(image, left, top, width, height, 0, 0, width, height);
  return new Promise((done) => canvas.toBlob((blob) => done(/** @type {Blob} */ (blob)), "image/png"));
}

async function showPeople() {
  const people = await api.listPeople();
  const rows = people.map(({ name, samples }) => {
    const button = make("button", { type: "button", className: "plain", ariaLabel: `Remove ${name}` }, "Remove");
    button.addEventListener("click", () => api.removePerson(name).then(() => (say(`${name} is removed.`), showPeople()), fail));
    return make("li", {}, make("span", {}, name), make("span", { className: "quiet" }, `${samples} ${samples === 1 ? "sample" : "samples"}`), button);
  });
  element("people-list").replaceChildren(...(rows.length ? rows : [make("li", { className: "quiet" }, "Nobody yet.")]));
}

async function startCamera() {
  if (live) return;
  const video = element("video"), canvas = element("live-layers");
  live = new Live(video, (result, rate) => {
    drawLayers(canvas, result, layers(), server);
    element("rate").textContent = `${rate.toFixed(1)} answers a second, ${faceWords(result)}`;
    element("live-cards").replaceChildren(...(result.faces ?? []).slice(0, 2).map((face, index) =>
      makeCard({ name: `Face ${index + 1}`, face }, index, { server, contested: contested() })));
  }, (error) => (endCamera(), fail(error)));
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
  element("tools").hidden = !sheets.length;
}

function clear() {
  for (const sheet of sheets.splice(0)) {
    URL.revokeObjectURL(sheet.image.src);
    sheet.section.remove();
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
  element("stop").addEventListener("click", () => (endCamera(), say("The camera is off."), element("camera").focus()));
  element("keep").addEventListener("click", async () => live && add([await live.grab(0.95)]));
  element("clear").addEventListener("click", clear);
  element("save-json").addEventListener("click", () => saveJson(sheets));
  element("save-csv").addEventListener("click", () => saveCsv(sheets, server));
  element("save-png").addEventListener("click", () => savePng(sheets, layers(), server));
  element("tools").addEventListener("change", () => show());
  element("key-form").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    api.setKey(element("key").value);
    waiting.splice(0).forEach((go) => go());
  });
  addEventListener("dragover", (event) => (event.preventDefault(), drop.classList.add("over")));
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
start();

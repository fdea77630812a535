// @ts-check
/** The card of a face: age, expression, attributes, similarity, and enrollment. */

import { cutFace, FACE_COLOURS } from "./draw.js";

/**
 * @typedef {import("./api.js").Face} Face @typedef {import("./api.js").Server} Server
 * @typedef {{name: string, face: Face}} Named
 */

const MOST_CHIPS = 9;

/** The false match rate at which two faces are judged. */
const FMR = 0.001;

/**
 * Make an element.
 * @param {string} tag @param {Record<string, any>} [properties] @param {(Node | string | null)[]} children
 * @returns {any}
 */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * @param {Named} named the face and its name, such as "Photo 1, face 2"
 * @param {number} index the face's place in its photo
 * @param {{server: Server, contested: boolean, image?: HTMLImageElement | null, others?: Named[],
 *   found?: import("./api.js").Found | null, onEnroll?: ((name: string) => void) | null}} given
 */
export function makeCard({ name, face }, index, { server, contested, image = null, others = [], found = null, onEnroll = null }) {
  const score = face.score === null ? "" : `confidence ${percent(face.score)}`;
  const card = make("article", { className: "card" },
    make("div", { className: "card-head" }, image && thumbnail(image, face.box), make("h3", {}, name),
      make("span", { className: "quiet" }, score)),
    make("div", { className: "facts" }, agePart(face), expressionPart(face), attributesPart(face, server, contested),
      foundPart(found), similarityPart(face, others, server), enrollPart(onEnroll)));
  card.style.setProperty("--face", FACE_COLOURS[index % FACE_COLOURS.length]);
  return card;
}

/** @param {HTMLImageElement} image @param {number[]} box */
function thumbnail(image, box) {
  return Object.assign(cutFace(image, box, 0.25, 120), { className: "thumbnail", ariaHidden: "true" });
}

/** @param {string} title @param {string} kind @param {(Node | null)[]} children */
function part(title, kind, ...children) {
  return make("section", { className: kind }, make("h4", {}, title), ...children);
}

/** @param {Face} face */
function agePart({ age }) {
  if (!age) return null;
  const low = Math.max(0, age.years - age.std), high = Math.min(100, age.years + age.std);
  const span = make("i");
  Object.assign(span.style, { left: `${low}%`, width: `${high - low}%` });
  return part("Apparent age", "", make("p", { className: "age" }, `${Math.round(age.years)} `,
    make("small", {}, `± ${Math.round(age.std)} years`)), make("div", { className: "span", ariaHidden: "true" }, span),
    make("div", { className: "ends quiet", ariaHidden: "true" }, make("span", {}, "0"), make("span", {}, "100")));
}

/** @param {Face} face */
function expressionPart({ expression }) {
  if (!expression) return null;
  const rows = Object.entries(expression.probabilities).sort((one, two) => two[1] - one[1]).slice(0, 4);
  const list = make("dl", { className: "bars" });
  rows.forEach(([label, share], place) => {
    const bar = make("i");
    bar.style.width = `${100 * share}%`;
    const first = place === 0 ? "first" : "";
    list.append(make("dt", { className: first }, words(label)), make("dd", { className: "bar", ariaHidden: "true" }, bar),
      make("dd", { className: first }, share < 0.005 ? "< 1 %" : percent(share)));
  });
  return part("Expression", "", list);
}

/** @param {Face} face @param {Server} server @param {boolean} contested */
function attributesPart({ attributes }, server, contested) {
  if (!attributes) return null;
  const notable = Object.entries(attributes)
    .filter(([name, share]) => share >= 0.5 && name !== "Blurry" && !server.contested.includes(name))
    .sort((one, two) => two[1] - one[1]).slice(0, MOST_CHIPS);
  const disputed = contested ? server.contested.map((name) => /** @type {[string, number]} */ ([name, attributes[name]])) : [];
  const chips = [...notable, ...disputed].map(([name, share]) =>
    make("li", { className: server.contested.includes(name) ? "contested" : "" }, `${words(name)} `,
      make("span", {}, percent(share))));
  const note = contested ? make("p", { className: "quiet" }, "Dashed: people disagree about these, or they judge a person.") : null;
  return part("Attributes", "wide", make("ul", { className: "chips" }, ...chips), note);
}

/** @param {import("./api.js").Found | null} found */
function foundPart(found) {
  if (!found?.candidates.length) return null;
  const rows = found.candidates.map((one) => make("li", {}, `${one.name} `,
    make("span", {}, `${one.cosine.toFixed(2)}${one.same ? ", a match" : ""}`)));
  return part("Nearest people", "wide", make("ul", { className: "chips" }, ...rows));
}

/** @param {Face} face @param {Named[]} others @param {Server} server */
function similarityPart(face, others, server) {
  const known = others.filter((other) => other.face !== face && other.face.embedding && other.face.model === face.model);
  if (!face.embedding || !known.length) return null;
  const cosines = known.map((other) => cosine(face, other.face));
  const select = make("select", { ariaLabel: "Compare with" }, ...known.map((other, place) =>
    make("option", { value: String(place) }, `${other.name} (${cosines[place].toFixed(2)})`)));
  const verdict = make("p", { className: "verdict" });
  const show = () => verdict.replaceChildren(...judge(cosines[Number(select.value)], server));
  select.value = String(cosines.indexOf(Math.max(...cosines)));
  select.addEventListener("change", show);
  show();
  return part("Similarity", "wide", make("div", { className: "row" }, select), verdict);
}

/** @param {number} value @param {Server} server @returns {(Node | string)[]} */
function judge(value, server) {
  const rate = server.thresholds?.rates.find((one) => one.fmr <= FMR);
  if (!rate) return [`Cosine ${value.toFixed(3)}; values near 0 mean different people.`];
  const same = value >= rate.cosine;
  const verdict = make("b", { className: same ? "same" : "other" }, same ? "Same person" : "Different people");
  const reach = same ? "reaches" : "is below";
  return [verdict, `: cosine ${value.toFixed(3)} ${reach} the threshold ${rate.cosine.toFixed(3)}. It takes 1 in
    ${Math.round(1 / rate.fmr).toLocaleString("en")} pairs of different people for one person and misses
    ${(100 * (1 - rate.tmr)).toFixed(0)} % of the pairs of one person.`];
}

/** @param {((name: string) => void) | null} onEnroll */
function enrollPart(onEnroll) {
  if (!onEnroll) return null;
  const input = make("input", { type: "text", placeholder: "Name", ariaLabel: "Name of this person", maxLength: 200 });
  const form = make("form", { className: "row" }, input, make("button", { type: "submit", className: "plain" }, "Enroll"));
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    const name = input.value.trim().replaceAll("/", " ");
    if (name) onEnroll(name);
  });
  return part("Gallery", "wide", form);
}

/** @param {Face} one @param {Face} two */
export function cosine(one, two) {
  const a = one.embedding ?? [], b = two.embedding ?? [];
  return a.reduce((sum, value, place) => sum + value * b[place], 0);
}

/** @param {number} share */
export const percent = (share) => `${Math.round(100 * share)} %`;

/** @param {string} name CelebA's name of an attribute */
export function words(name) {
  const text = name.replace("5_o_Clock", "5 o’clock").replaceAll("_", " ").toLowerCase();
  return text[0].toUpperCase() + text.slice(1);
}

/** @param {import("./api.js").Result} result */
export function faceWords(result) {
  const count = result.faces?.length ?? 0;
  return count === 0 ? "no face" : count === 1 ? "one face" : `${count} faces`;
}

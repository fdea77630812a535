// @ts-check
/** The gallery of people: enroll a face, list everyone, remove somebody. */

import * as api from "./api.js";
import { make } from "./cards.js";
import { cutFace } from "./draw.js";
import { element, fail, say } from "./say.js";

/** Enroll one face, cut out of its photo. @param {string} name @param {HTMLImageElement} image @param {api.Face} face */
export async function enroll(name, image, face) {
  try {
    if (!image.naturalWidth) throw new Error("This browser cannot show the photo, so no face can be cut out of it.");
    const answer = await api.enroll(name, await cutOut(image, face.box));
    if (answer.problem) throw new Error(answer.problem);
    say(answer.added ? `${name} is enrolled.` : `${name} has this face already.`);
    await showPeople();
  } catch (error) {
    fail(error);
  }
}

/** @param {HTMLImageElement} image @param {number[]} box @returns {Promise<Blob>} */
function cutOut(image, box) {
  return new Promise((done) => cutFace(image, box, 0.6).toBlob((blob) => done(/** @type {Blob} */ (blob)), "image/png"));
}

/** List everyone. */
export async function showPeople() {
  const people = await api.listPeople();
  const rows = people.map(({ name, samples }) => {
    const button = make("button", { type: "button", className: "plain", ariaLabel: `Remove ${name}` }, "Remove");
    button.addEventListener("click", () => remove(name).catch(fail));
    return make("li", {}, make("span", {}, name), make("span", { className: "quiet" }, `${samples} ${samples === 1 ? "sample" : "samples"}`), button);
  });
  element("people-list").replaceChildren(...(rows.length ? rows : [make("li", { className: "quiet" }, "Nobody yet.")]));
}

/** @param {string} name */
async function remove(name) {
  await api.removePerson(name);
  say(`${name} is removed.`);
  await showPeople();
}

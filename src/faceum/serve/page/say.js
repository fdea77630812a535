// @ts-check
/** The page's elements by id, and its line of news, which screen readers speak. */

/** @param {string} id @returns {any} */
export const element = (id) => document.getElementById(id);

/** @param {string} text @param {"" | "busy" | "error"} [kind] */
export function say(text, kind = "") {
  Object.assign(element("status"), { textContent: text, className: kind });
}

/** @param {unknown} error */
export function fail(error) {
  say(error instanceof Error ? error.message : String(error), "error");
}

// @ts-check
/** Downloads: all results as JSON or CSV, and the photos with their layers as PNG. */

import { paint } from "./draw.js";

/** @typedef {import("./app.js").Sheet} Sheet @typedef {import("./api.js").Server} Server */

/** @param {Sheet[]} sheets */
export function saveJson(sheets) {
  const text = JSON.stringify(sheets.map((sheet) => sheet.result), null, 1);
  download(new Blob([text], { type: "application/json" }), "faceum.json");
}

/** @param {Sheet[]} sheets @param {Server} server */
export function saveCsv(sheets, server) {
  const expressions = server.labels.expression ?? [], attributes = server.labels.attributes ?? [];
  const head = ["photo", "face", "score", "x0", "y0", "x1", "y1", "age", "age_std", "expression",
    ...expressions.map((name) => `expression_${name}`), ...attributes];
  const rows = sheets.flatMap((sheet) => (sheet.result.faces ?? []).map((face, index) => [
    sheet.name, index + 1, face.score, ...face.box, face.age?.years, face.age?.std, face.expression?.label,
    ...expressions.map((name) => face.expression?.probabilities[name]),
    ...attributes.map((name) => face.attributes?.[name]),
  ]));
  const lines = [head, ...rows].map((row) => `${row.map(cell).join(",")}\r\n`);
  download(new Blob(["\ufeff", ...lines], { type: "text/csv" }), "faceum.csv");
}

/** @param {Sheet[]} sheets @param {import("./draw.js").Shown} shown @param {Server} server */
export async function savePng(sheets, shown, server) {
  for (const sheet of sheets) {
    const { width, height } = sheet.result;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.drawImage(sheet.image, 0, 0, width, height);
    paint(context, sheet.result.faces ?? [], shown, server, 1);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    download(/** @type {Blob} */ (blob), `${sheet.name.replace(/\.\w+$/, "")}.faceum.png`);
  }
}

/** @param {unknown} value a cell that no spreadsheet takes for a formula */
function cell(value) {
  let text = value === null || value === undefined ? "" : String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** @param {Blob} blob @param {string} name */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

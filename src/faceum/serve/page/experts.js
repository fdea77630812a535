// @ts-check
/** The layer of experts: which expert took which token of a face, for one task and one MoE block. */

/**
 * @typedef {import("./api.js").Face} Face @typedef {import("./api.js").Server} Server
 * @typedef {import("./api.js").Routing} Routing
 * @typedef {{task: string, block: number}} View the task and the MoE block (from 0) that are shown
 */

/** @type {WeakMap<Face, Routing>} */
const routings = new WeakMap();

/** Remember the routing of a photo's faces, in their order. @param {Face[]} faces @param {Routing[]} found */
export function keepRouting(faces, found) {
  found.forEach((routing, index) => {
    routings.set(faces[index], routing);
  });
}

/** @param {Face} face */
export const routingOf = (face) => routings.get(face) ?? null;

/** @param {number} expert @param {Server} server @returns {string} "r g b" */
export function expertColour(expert, server) {
  const colours = server.experts?.colours ?? [[128, 128, 128]];
  return colours[expert % colours.length].join(" ");
}

/**
 * Tint the tokens of a face by their first expert, face tokens strongly.
 * @param {CanvasRenderingContext2D} context @param {Face} face @param {View} view @param {Server} server
 * @param {number} scale canvas pixels per image pixel
 */
export function paintExperts(context, face, { task, block }, server, scale) {
  const routing = routings.get(face), tokens = routing?.moe_blocks[block]?.[task];
  if (!routing || !tokens) return;
  const { size, face_tokens: inFace, matrix } = routing.crops[task], [[a, c, e], [b, d, f]] = matrix, det = a * d - b * c;
  // The matrix leads from the image to the crop; the tokens lie in the crop.
  context.setTransform(scale * d / det, scale * -b / det, scale * -c / det, scale * a / det,
    scale * (c * f - d * e) / det, scale * (b * e - a * f) / det);
  const grid = Math.round(Math.sqrt(inFace.length)), step = size / grid, gap = 0.04 * step;
  context.font = `600 ${0.42 * step}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  tokens.experts.forEach(([expert], token) => {
    if (expert === undefined) return;
    const x = (token % grid) * step, y = Math.floor(token / grid) * step;
    context.fillStyle = `rgb(${expertColour(expert, server)} / ${inFace[token] ? 62 : 30}%)`;
    context.beginPath();
    context.roundRect(x + gap, y + gap, step - 2 * gap, step - 2 * gap, step / 8);
    context.fill();
    context.fillStyle = `rgb(12 16 22 / ${inFace[token] ? 90 : 60}%)`;
    context.fillText(String(expert), x + step / 2, y + step / 2);
  });
}

/**
 * Name the token at a point of the image and the experts that took it, "" where there is no token.
 * @param {Face[]} faces @param {number} x @param {number} y @param {View} view
 */
export function tokenAt(faces, x, y, { task, block }) {
  for (const face of faces) {
    const routing = routings.get(face), tokens = routing?.moe_blocks[block]?.[task];
    if (!routing || !tokens) continue;
    const { size, face_tokens: inFace, matrix } = routing.crops[task], [[a, c, e], [b, d, f]] = matrix;
    const grid = Math.round(Math.sqrt(inFace.length)), step = size / grid;
    const column = Math.floor((a * x + c * y + e) / step), row = Math.floor((b * x + d * y + f) / step);
    if (column < 0 || row < 0 || column >= grid || row >= grid) continue;
    const token = row * grid + column, place = inFace[token] ? "Face token" : "Background token";
    const taken = tokens.experts[token].map((expert, slot) => `expert ${expert}, weight ${tokens.weights[token][slot].toFixed(2)}`);
    return `${place}: ${taken.length ? taken.join("; ") : "no expert"}`;
  }
  return "";
}

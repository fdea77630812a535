// @ts-check
/** Layers over an image: boxes, points, face parts and experts, drawn on a canvas in the image's own pixels. */

import { paintExperts } from "./experts.js";

/**
 * @typedef {import("./api.js").Face} Face @typedef {import("./api.js").Server} Server
 * @typedef {{layers: Set<string>, view: import("./experts.js").View}} Shown what is drawn
 */

export const FACE_COLOURS = ["#40c8b0", "#e79c2f", "#ec5f93", "#5d93f5", "#7fb94e", "#ab7ce8", "#ee7a5c", "#c9b534"];

/** Runs of points that are joined: jaw, brows, nose, eyes and lips, in iBUG's order. */
const LINES = [
  [0, 16], [17, 21], [22, 26], [27, 30], [31, 35], [36, 41, true], [42, 47, true], [48, 59, true], [60, 67, true],
];

const MOST_SIDE = 1600;

/** @type {WeakMap<Face, {canvas: HTMLCanvasElement, map: Uint8Array}>} */
const maps = new WeakMap();

/**
 * Draw the chosen layers of all faces.
 * @param {HTMLCanvasElement} canvas
 * @param {{width: number, height: number, faces: Face[] | null}} result
 * @param {Shown} shown
 * @param {Server} server
 */
export function drawLayers(canvas, result, shown, server) {
  const scale = Math.min(1, MOST_SIDE / Math.max(result.width, result.height));
  const width = Math.round(result.width * scale), height = Math.round(result.height * scale);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  paint(context, result.faces ?? [], shown, server, scale);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Face[]} faces
 * @param {Shown} shown
 * @param {Server} server
 * @param {number} scale canvas pixels per image pixel
 */
export function paint(context, faces, { layers, view }, server, scale) {
  const line = Math.max(1.5, Math.max(context.canvas.width, context.canvas.height) / 420);
  faces.forEach((face, index) => {
    if (layers.has("parsing") && face.parsing) paintParsing(context, face, server, scale);
    if (layers.has("experts")) paintExperts(context, face, view, server, scale);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    const colour = FACE_COLOURS[index % FACE_COLOURS.length];
    if (layers.has("landmarks") && face.landmarks) paintPoints(context, face.landmarks, line / scale);
    if (layers.has("box")) paintBox(context, face.box, String(index + 1), colour, line / scale);
  });
}

/** @param {CanvasRenderingContext2D} context @param {Face} face @param {Server} server @param {number} scale */
function paintParsing(context, face, server, scale) {
  const parsing = /** @type {import("./api.js").Parsing} */ (face.parsing);
  const [[a, c, e], [b, d, f]] = parsing.matrix;
  context.setTransform(a * scale, b * scale, c * scale, d * scale, e * scale, f * scale);
  context.imageSmoothingEnabled = false;
  context.globalAlpha = 0.5;
  context.drawImage(partsOf(face, server).canvas, 0, 0);
  context.globalAlpha = 1;
}

/** @param {Face} face @param {Server} server the class of each pixel of the crop, and its coloured image */
function partsOf(face, server) {
  const known = maps.get(face);
  if (known) return known;
  const { size: [height, width], values, counts } = /** @type {any} */ (face.parsing).rle;
  const map = new Uint8Array(height * width);
  let at = 0;
  for (const [run, value] of values.entries()) {
    map.fill(value, at, at + counts[run]);
    at += counts[run];
  }
  // Four bytes of a pixel at once: red is the lowest, alpha the highest; class 0 is the background and stays clear.
  const colours = Object.values(server.parsing).map(({ colour: [red, green, blue] }) => red | green << 8 | blue << 16 | 255 << 24);
  const pixels = new ImageData(width, height), words = new Int32Array(pixels.data.buffer);
  for (let place = 0; place < map.length; place++) if (map[place]) words[place] = colours[map[place]];
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")).putImageData(pixels, 0, 0);
  const parts = { canvas, map };
  maps.set(face, parts);
  return parts;
}

/**
 * The name of the part at a point of the image, "" if there is none.
 * @param {Face[]} faces @param {number} x @param {number} y @param {Server} server
 */
export function partAt(faces, x, y, server) {
  const names = Object.values(server.parsing).map((one) => one.word);
  for (const face of faces) {
    if (!face.parsing) continue;
    const [[a, c, e], [b, d, f]] = face.parsing.matrix;
    const [height, width] = face.parsing.rle.size, det = a * d - b * c;
    const column = Math.floor((d * (x - e) - c * (y - f)) / det), row = Math.floor((a * (y - f) - b * (x - e)) / det);
    if (column < 0 || row < 0 || column >= width || row >= height) continue;
    const value = partsOf(face, server).map[row * width + column];
    if (value) return names[value];
  }
  return "";
}

/**
 * Cut a face with some of its surroundings out of its photo.
 * @param {HTMLImageElement} image @param {number[]} box @param {number} margin in sides of the box
 * @param {number} [side] of the canvas at most, in pixels
 */
export function cutFace(image, [x0, y0, x1, y1], margin, side = Number.POSITIVE_INFINITY) {
  const around = margin * Math.max(x1 - x0, y1 - y0), left = Math.max(0, x0 - around), top = Math.max(0, y0 - around);
  const width = Math.min(image.naturalWidth, x1 + around) - left, height = Math.min(image.naturalHeight, y1 + around) - top;
  const scale = Math.min(1, side / Math.max(width, height));
  const canvas = Object.assign(document.createElement("canvas"), { width: width * scale, height: height * scale });
  /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"))
    .drawImage(image, left, top, width, height, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** @param {CanvasRenderingContext2D} context @param {number[][]} points @param {number} line */
function paintPoints(context, points, line) {
  context.lineJoin = "round";
  context.lineWidth = 0.7 * line;
  context.strokeStyle = "rgb(255 255 255 / 75%)";
  for (const [first, last, closed] of /** @type {any[]} */ (LINES)) {
    context.beginPath();
    for (let i = first; i <= last; i++) context.lineTo(points[i][0], points[i][1]);
    if (closed) context.closePath();
    context.stroke();
  }
  context.fillStyle = "#fff";
  context.strokeStyle = "rgb(16 24 34 / 85%)";
  context.lineWidth = 0.5 * line;
  for (const [x, y] of points) {
    context.beginPath();
    context.arc(x, y, 1.15 * line, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }
}

/**
 * @param {CanvasRenderingContext2D} context @param {number[]} box @param {string} name @param {string} colour
 * @param {number} line
 */
function paintBox(context, [x0, y0, x1, y1], name, colour, line) {
  context.lineWidth = 1.6 * line;
  context.strokeStyle = colour;
  context.beginPath();
  context.roundRect(x0, y0, x1 - x0, y1 - y0, 4 * line);
  context.stroke();
  const size = 10 * line, width = size * (0.9 + 0.6 * name.length), top = Math.max(0, y0 - 1.5 * size);
  context.fillStyle = colour;
  context.beginPath();
  context.roundRect(x0, top, width, 1.4 * size, 3 * line);
  context.fill();
  context.fillStyle = "#10181f";
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(name, x0 + width / 2, top + 0.73 * size);
}

// @ts-check
/** Requests to the server; every failure is an Error whose message can be shown. */

/**
 * @typedef {{years: number, std: number}} Age
 * @typedef {{label: string, probabilities: Record<string, number>}} Expression
 * @typedef {{rle: {size: [number, number], values: number[], counts: number[]}, matrix: number[][]}} Parsing
 * @typedef {{box: number[], score: number | null, age: Age | null, expression: Expression | null,
 *   attributes: Record<string, number> | null, landmarks: number[][] | null, parsing: Parsing | null,
 *   embedding: number[] | null, points5: number[][] | null, model: string | null}} Face
 * @typedef {{source: string | null, width: number, height: number, faces: Face[] | null,
 *   error: string | null}} Result
 * @typedef {{fmr: number, cosine: number, tmr: number}} Rate
 * @typedef {{model: string, tasks: string[], labels: Record<string, string[]>, contested: string[],
 *   parsing: Record<string, {word: string, colour: number[]}>, limits: Record<string, number>,
 *   thresholds: {set: string, rates: Rate[]} | null, gallery: boolean, video: boolean,
 *   experts: {colours: number[][]} | null}} Server
 * @typedef {{experts: number[][], weights: number[][]}} Tokens
 * @typedef {{num_experts: number, crops: Record<string, {size: number, face_tokens: boolean[], matrix: number[][]}>,
 *   moe_blocks: Record<string, Tokens>[]}} Routing
 * @typedef {{track_id: number, name: string | null, first: number, last: number, frames: number, age: Age | null,
 *   expressions: Record<string, number>, crop: string | null}} Track
 * @typedef {{frames: number, seconds: number, tracks: Track[], timeline: string, problems: string[],
 *   request_id: string}} Film
 * @typedef {{name: string, candidates: {name: string, cosine: number, same: boolean}[]}} Found
 */

let key = "";

/** @param {string} value the API key; kept until the page is closed */
export function setKey(value) {
  key = value;
}

/** A refused request: `status` is the HTTP status, 0 if the server did not answer. */
export class Refusal extends Error {
  /** @param {string} message @param {number} status */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<any>} the parsed body
 */
export async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key) headers.set("authorization", `Bearer ${key}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Refusal("The server cannot be reached, or it closed the connection.", 0);
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) {
    throw new Refusal(body?.error?.message ?? `The server answered ${response.status}.`, response.status);
  }
  return body;
}

/** @returns {Promise<Server>} */
export const describeServer = () => request("/v1/models");

/** @param {Blob} image @returns {Promise<Result>} */
export async function analyze(image) {
  return (await request("/v1/analyze", { method: "POST", body: asForm(image) })).results[0];
}

/**
 * Analyze a frame of a video, sent as it is.
 * @param {Blob} frame @param {number} minFace pixels; smaller faces may be missed @param {AbortSignal} signal
 * @returns {Promise<Result>}
 */
export async function analyzeFrame(frame, minFace, signal) {
  return (await request(`/v1/analyze?min_face=${minFace}`, { method: "POST", body: frame, signal })).results[0];
}

/** @param {Blob} video @returns {Promise<Film>} */
export const analyzeVideo = (video) => request("/v1/video", { method: "POST", body: video });

/** @param {Blob} image @returns {Promise<import("./api.js").Routing[]>} for each of the largest faces */
export async function showExperts(image) {
  return (await request("/v1/experts", { method: "POST", body: asForm(image) })).faces;
}

/** @returns {Promise<{name: string, samples: number}[]>} */
export const listPeople = async () => (await request("/v1/people")).people;

/** @param {Blob} image @returns {Promise<Found[]>} for each face, largest first */
export async function searchPeople(image) {
  return (await request("/v1/search?count=3", { method: "POST", body: asForm(image) })).faces;
}

/** @param {string} name @param {Blob} image @returns {Promise<{added: boolean, problem: string | null}>} */
export async function enroll(name, image) {
  const path = `/v1/people/${encodeURIComponent(name)}/samples?largest=true`;
  return (await request(path, { method: "POST", body: asForm(image) })).images[0];
}

/** @param {string} name */
export const removePerson = (name) => request(`/v1/people/${encodeURIComponent(name)}`, { method: "DELETE" });

/** @param {Blob} image */
function asForm(image) {
  const form = new FormData();
  form.append("images", image, image instanceof File ? image.name : "image");
  return form;
}

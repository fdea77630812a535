// @ts-check
/** The sheet of a video: the video, the timeline of its people, and a card for each. */

import { make, words } from "./cards.js";
import { FACE_COLOURS } from "./draw.js";
import { download } from "./save.js";

/** @typedef {import("./api.js").Film} Film @typedef {import("./api.js").Track} Track */

/**
 * @param {string} name @param {Blob} blob @param {Film} film
 * @returns {{section: HTMLElement, free: () => void}} free: releases the video
 */
export function makeFilm(name, blob, film) {
  const video = make("video", { src: URL.createObjectURL(blob), controls: true, muted: true, playsInline: true });
  const image = make("img", {
    src: `data:image/png;base64,${film.timeline}`,
    alt: `People over time, coloured by expression: ${peopleWords(film)} in ${film.seconds.toFixed(1)} seconds`,
  });
  const timeline = make("div", { className: "timeline", tabIndex: 0 }, image);
  timeline.role = "region";
  timeline.ariaLabel = "Timeline";
  const save = make("button", { type: "button", onclick: () => saveFilm(name, film) }, "JSON");
  const cards = film.tracks.map((track, index) => trackCard(track, index, video));
  const none = make("p", { className: "quiet" }, "Nobody is in this video.");
  const section = make("article", { className: "sheet panel" },
    make("div", { className: "sheet-head" }, make("h2", {}, name),
      make("p", { className: "quiet" }, [`${film.frames} frames`, peopleWords(film), ...film.problems].join(", ")), save),
    timeline,
    make("div", { className: "columns" }, make("div", { className: "stage" }, video),
      make("div", { className: "cards" }, ...(cards.length ? cards : [none]))));
  return { section, free: () => URL.revokeObjectURL(video.src) };
}

/** @param {Film} film */
export function peopleWords({ tracks }) {
  return tracks.length === 0 ? "nobody" : tracks.length === 1 ? "one person" : `${tracks.length} people`;
}

/** @param {string} name @param {Film} film */
function saveFilm(name, { timeline: _, request_id: __, ...values }) {
  const text = JSON.stringify(values, null, 1);
  download(new Blob([text], { type: "application/json" }), `${name.replace(/\.\w+$/, "")}.faceum.json`);
}

/** @param {Track} track @param {number} index @param {HTMLVideoElement} video */
function trackCard(track, index, video) {
  const title = track.name ?? `Track ${track.track_id}`;
  const crop = track.crop && make("img", { className: "thumbnail", src: `data:image/jpeg;base64,${track.crop}`, alt: "" });
  const seek = make("button", { type: "button", onclick: () => (video.currentTime = track.first) },
    `${track.first.toFixed(1)} to ${track.last.toFixed(1)} s`);
  seek.ariaLabel = `Show ${title}, ${seek.textContent}`;
  const shares = Object.entries(track.expressions).slice(0, 3)
    .map(([label, share]) => `${words(label)} ${Math.round(100 * share)} %`).join(", ");
  const card = make("article", { className: "card" },
    make("div", { className: "card-head" }, crop, make("h3", {}, title), seek),
    track.age && make("p", {}, `Apparent age ${Math.round(track.age.years)} ± ${Math.round(track.age.std)}`),
    shares ? make("p", {}, `Expressions: ${shares}`) : null);
  card.style.setProperty("--face", FACE_COLOURS[index % FACE_COLOURS.length]);
  return card;
}

// @ts-check
/** Live mode: the newest frame goes to the server, its answers are drawn over the video, then the next goes. */

import { analyzeFrame } from "./api.js";

/** Seconds over which the rate is measured. */
const WINDOW = 3;

/** Pixels of the smallest face that is looked for: in front of a camera they are larger, and the search is faster. */
const MIN_FACE = 60;

/** A running camera. */
export class Live {
  /**
   * @param {HTMLVideoElement} video
   * @param {(result: import("./api.js").Result, rate: number) => void} onResult
   * @param {(error: unknown) => void} onEnd called when the camera or the server fails
   */
  constructor(video, onResult, onEnd) {
    this.video = video;
    this.onResult = onResult;
    this.onEnd = onEnd;
    this.frame = document.createElement("canvas");
    this.running = false;
    this.abort = new AbortController();
    /** @type {number[]} */
    this.times = [];
  }

  /** Ask for the camera and begin. */
  async start() {
    if (!navigator.mediaDevices) {
      throw new Error("Browsers offer the camera only on localhost and over HTTPS.");
    }
    const wish = { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" };
    this.stream = await navigator.mediaDevices.getUserMedia({ video: wish, audio: false });
    this.video.srcObject = this.stream;
    await this.video.play();
    this.running = true;
    this.loop();
  }

  /** End, and release the camera. */
  stop() {
    this.running = false;
    this.abort.abort();
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.video.srcObject = null;
  }

  /** Send one frame after the other: a frame is taken only when the answer to the last one is there. */
  async loop() {
    try {
      while (this.running) {
        const result = await analyzeFrame(await this.grab(0.8), MIN_FACE, this.abort.signal);
        if (!this.running) return;
        const now = performance.now();
        this.times = [...this.times.filter((time) => now - time < 1000 * WINDOW), now];
        const span = (now - this.times[0]) / 1000;
        this.onResult(result, span > 0 ? (this.times.length - 1) / span : 0);
      }
    } catch (error) {
      if (this.running) {
        this.stop();
        this.onEnd(error);
      }
    }
  }

  /** @param {number} quality @returns {Promise<Blob>} the newest frame as a JPEG file */
  grab(quality) {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (this.frame.width !== width || this.frame.height !== height) Object.assign(this.frame, { width, height });
    /** @type {CanvasRenderingContext2D} */ (this.frame.getContext("2d")).drawImage(this.video, 0, 0);
    return new Promise((done, fail) => this.frame.toBlob(
      (blob) => (blob ? done(blob) : fail(new Error("The camera gives no frames."))), "image/jpeg", quality));
  }
}

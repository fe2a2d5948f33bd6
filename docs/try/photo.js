// The worker that owns the photograph: it reads it, lets other workers compute its windows, and mixes the results as the
// knobs say. The page itself only draws.

import { metadata } from "./model.js";
import { windows } from "./tiles.js";
import { start } from "./workers.js";

const MOST_WORKERS = 4; // each needs some 200 MB
const SHOWN = 2048; // longest side of what the page draws
const LEVELS = 65535;

let job = 0; // counts photographs: results of an earlier one are dropped
let photo = null; // {name, type, width, height, pixels, result, illuminated}
let crew = null; // a promise of {workers, reach}
let knobs = { strength: 1, denoise: 1, exposure: 0 };
let busy = null; // a promise of the computation under way
let mixing = false;
let changed = false;

onmessage = async ({ data }) => {
  try {
    if (data.file) await open(data.file);
    else if (data.knobs) await mix(data.knobs);
    else if (data.save) await save();
  } catch (error) {
    postMessage({ error: error?.message ?? String(error) });
  }
};

crew = assemble().catch((error) => {
  throw new Error(`The model could not be loaded: ${error.message}`);
});
crew.catch(({ message }) => postMessage({ error: message }));

/** Starts the workers: one for a graphics processor, otherwise one for each core. */
async function assemble() {
  const answer = await fetch(new URL("model.onnx", import.meta.url));
  if (!answer.ok) throw new Error(`model.onnx: ${answer.status}`);
  const model = new Uint8Array(await answer.arrayBuffer());
  const about = metadata(model);
  let started = (await hasGraphics()) ? await hire(1, model, "webgpu").catch(() => null) : null;
  const cores = navigator.hardwareConcurrency ?? 2;
  started ??= await hire(Math.min(MOST_WORKERS, cores), model, "wasm");
  postMessage({ ready: { ...about, device: started.device, workers: started.workers.length } });
  return { workers: started.workers, reach: Number(about.reach) };
}

/** Whether there is a graphics processor. `?device=wasm` and `?device=webgpu` at the page's address decide it. */
async function hasGraphics() {
  const device = new URL(import.meta.url).searchParams.get("device");
  const adapter = device === "wasm" ? null : await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && (device === "webgpu" || !adapter.info?.isFallbackAdapter); // the fallback is software
}

async function hire(count, model, device) {
  const workers = Array.from({ length: count }, () => start("tile.js"));
  await Promise.all(workers.map((worker) => ask(worker, { model, device })));
  return { workers, device };
}

/** The answer of a worker to one message. */
function ask(worker, message, transfer = []) {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data));
    worker.onerror = (event) => reject(new Error(event.message || "a worker could not be started"));
    worker.postMessage(message, transfer);
  });
}

/** Reads a photograph and computes it. */
async function open(file) {
  const current = ++job;
  photo = null;
  const pixels = await read(file).catch(() => null);
  if (current !== job) return;
  if (!pixels) throw new Error(`${file.name} cannot be read: it is damaged, too large, or no image that this browser knows.`);
  const { width, height } = pixels;
  const numbers = () => new Uint16Array(width * height * 3);
  const opened = { name: file.name, type: file.type, width, height, pixels: pixels.data };
  Object.assign(opened, { result: numbers(), illuminated: numbers() });
  const before = await shown(pixels);
  postMessage({ before, width, height }, [before]);
  const { workers, reach } = await crew;
  const waiting = windows(height, width, reach);
  const [total, mean] = [waiting.length, meanOf(pixels.data)];
  let done = 0;
  const work = async (worker) => {
    while (waiting.length && current === job) {
      const { rows, columns } = waiting.shift();
      const window = cut(opened, rows, columns);
      const part = await ask(worker, { pixels: window, rows, columns, mean }, [window.buffer]);
      if (current !== job) return;
      for (const name of ["result", "illuminated"]) paste(opened, name, part);
      postMessage({ progress: ++done / total });
    }
  };
  // A worker has one window at a time: all of them end what they have before the next photograph begins.
  busy = Promise.allSettled([busy]).then(() => Promise.allSettled(workers.map(work)));
  const failure = (await busy).find(({ status }) => status === "rejected");
  if (current !== job) return;
  if (failure) throw failure.reason;
  photo = opened;
  await mix(knobs);
}

/** The photograph upright, as ImageData. */
async function read(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

function meanOf(pixels) {
  let total = 0;
  for (let index = 0; index < pixels.length; index += 4) total += pixels[index] + pixels[index + 1] + pixels[index + 2];
  return total / ((pixels.length / 4) * 3 * 255);
}

function cut({ pixels, width }, rows, columns) {
  const wide = (columns.stop - columns.start) * 4;
  const window = new Uint8Array((rows.stop - rows.start) * wide);
  for (let row = rows.start, to = 0; row < rows.stop; row++, to += wide) {
    const from = (row * width + columns.start) * 4;
    window.set(pixels.subarray(from, from + wide), to);
  }
  return window;
}

function paste(into, name, { rows, columns, [name]: part }) {
  const wide = (columns.last - columns.first) * 3;
  for (let row = rows.first, from = 0; row < rows.last; row++, from += wide) {
    into[name].set(part.subarray(from, from + wide), (row * into.width + columns.first) * 3);
  }
}

/** Mixes the photograph with the last knobs that were asked for, and posts the picture. */
async function mix(wanted) {
  knobs = wanted;
  changed = true;
  if (mixing || !photo) return;
  mixing = true;
  try {
    while (changed && photo) {
      changed = false;
      const current = job;
      const after = await shown(mixed(photo, knobs));
      if (current === job) postMessage({ after }, [after]); // otherwise it is the last photograph's
      await new Promise((resume) => setTimeout(resume)); // let newer knobs in
    }
  } finally {
    mixing = false;
  }
}

/** The photograph as the knobs say, as ImageData: a blend of the input, the image before noise removal, and that after
 * it; then the exposure. Each knob is exact at its neutral value, as in ruas_jax/photos/knobs.py. */
function mixed({ width, height, pixels, result, illuminated }, { strength, denoise, exposure }) {
  const image = new ImageData(width, height);
  const [after, level] = [image.data, exposed(exposure)];
  const ofInput = ((1 - strength) * LEVELS) / 255;
  const [ofResult, ofIlluminated] = [strength * denoise, strength * (1 - denoise)];
  for (let from = 0, to = 0; to < after.length; to++) {
    for (const stop = to + 3; to < stop; to++, from++) {
      after[to] = level[Math.round(ofInput * pixels[to] + ofResult * result[from] + ofIlluminated * illuminated[from])];
    }
    after[to] = pixels[to];
  }
  return image;
}

/** For each 16-bit value of sRGB the 8-bit one whose light is 2**stops times as much. */
function exposed(stops) {
  const gain = 2 ** stops;
  return Uint8ClampedArray.from({ length: LEVELS + 1 }, (_, index) => {
    const value = index / LEVELS;
    if (stops === 0) return value * 255;
    const light = Math.min(1, gain * (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 255 * (light <= 0.0031308 ? 12.92 * light : 1.055 * light ** (1 / 2.4) - 0.055);
  });
}

/** A bitmap for the page, at most `SHOWN` pixels wide and high. */
function shown(image) {
  const scale = Math.min(1, SHOWN / Math.max(image.width, image.height));
  const [resizeWidth, resizeHeight] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * scale)));
  return createImageBitmap(image, scale < 1 ? { resizeWidth, resizeHeight, resizeQuality: "medium" } : {});
}

/** Posts the photograph in full size as a file. */
async function save() {
  if (!photo) return;
  const canvas = new OffscreenCanvas(photo.width, photo.height);
  canvas.getContext("2d").putImageData(mixed(photo, knobs), 0, 0);
  const type = ["image/png", "image/webp"].includes(photo.type) ? photo.type : "image/jpeg";
  const blob = await canvas.convertToBlob({ type, quality: 0.95 });
  const ending = { "image/png": "png", "image/webp": "webp" }[blob.type] ?? "jpg";
  postMessage({ saved: blob, name: `${photo.name.replace(/\.\w+$/, "")}-bright.${ending}` });
}

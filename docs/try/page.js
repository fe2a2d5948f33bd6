// The page: it takes a photograph, hands it to the worker, and draws what comes back.

import { start } from "./workers.js";

const find = (id) => document.getElementById(id);
const [drop, pick, progress, status, stage] = ["drop", "pick", "progress", "status", "stage"].map(find);
const [divide, save, about, reset] = ["divide", "save", "about", "reset"].map(find);
const knobs = ["strength", "denoise", "exposure"].map(find);
const neutral = Object.fromEntries(knobs.map((knob) => [knob.id, knob.value]));
const worker = start(`photo.js${location.search}`);
let [started, picked] = [0, null];

worker.onmessage = ({ data }) => {
  if (data.ready) tellModel(data.ready);
  if (data.before) begin(data);
  if (data.progress) advance(data.progress);
  if (data.after) finish(data.after);
  if (data.saved) download(data.saved, data.name);
  if (data.error) fail(data.error);
};
worker.onerror = (event) => fail(`The page could not be started: ${event.message || "a file of it is missing"}.`);

function tellModel({ name, licence, variant, device, workers }) {
  const where = device === "webgpu" ? "the graphics processor" : `${workers} processor core${workers > 1 ? "s" : ""}`;
  about.textContent = `Weights: ${name}, variant ${variant}, licence ${licence}. Computed by ${where}.`;
}

function open(file) {
  if (!file) return;
  [picked, started] = [file, performance.now()];
  for (const element of [save, reset, ...knobs]) element.disabled = true;
  stage.hidden = true;
  say(`Reading ${file.name}.`);
  progress.hidden = false;
  progress.removeAttribute("value");
  worker.postMessage({ file });
}

function begin({ before, width, height }) {
  draw("before", before);
  draw("after", null);
  stage.style.setProperty("--ratio", width / height);
  stage.hidden = false;
  stage.dataset.done = "no";
  say(`Enhancing ${picked.name}, ${width} by ${height} pixels.`);
}

function advance(share) {
  progress.value = share;
}

function finish(after) {
  draw("after", after);
  if (stage.dataset.done === "yes") return;
  stage.dataset.done = "yes";
  stage.dataset.seconds = (performance.now() - started) / 1000;
  progress.hidden = true;
  for (const element of [save, reset, ...knobs]) element.disabled = false;
  say(`${picked.name} was enhanced in ${Number(stage.dataset.seconds).toFixed(1)} seconds.`);
}

function fail(message) {
  progress.hidden = true;
  say(message, true);
}

function say(message, wrong = false) {
  status.textContent = message;
  status.classList.toggle("wrong", wrong);
}

function draw(id, bitmap) {
  const canvas = find(id);
  [canvas.width, canvas.height] = bitmap ? [bitmap.width, bitmap.height] : [1, 1];
  if (bitmap) canvas.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
}

function turn() {
  const values = Object.fromEntries(knobs.map((knob) => [knob.id, Number(knob.value)]));
  for (const knob of knobs) find(`${knob.id}-value`).textContent = knob.value;
  worker.postMessage({ knobs: values });
}

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

for (const knob of knobs) knob.addEventListener("input", turn);
reset.addEventListener("click", () => {
  for (const knob of knobs) knob.value = neutral[knob.id];
  turn();
});
save.addEventListener("click", () => worker.postMessage({ save: true }));
divide.addEventListener("input", () => stage.style.setProperty("--divide", `${divide.value}%`));
pick.addEventListener("change", () => {
  open(pick.files[0]);
  pick.value = ""; // so that the same file can be picked again
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop") open(event.dataTransfer.files[0]);
  });
}
turn();

// A worker that computes windows of photographs. Several of them work side by side, each with its own onnxruntime:
// threads inside one would need headers of the server.

let session = null;

onmessage = async ({ data }) => {
  try {
    if (data.model) postMessage({ device: await start(data) });
    else await compute(data);
  } catch (error) {
    postMessage({ error: String(error?.message ?? error) });
  }
};

/** Loads onnxruntime and the model. Gives the name of the device. */
async function start({ model, device }) {
  const ort = await import(`./runtime/ort.${device}.min.mjs`);
  ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  session = { ort, run: await ort.InferenceSession.create(model, { executionProviders: [device] }) };
  return device;
}

/** `pixels` is a window, RGBA. Posts the kept part of the results as three 16-bit numbers for each pixel. */
async function compute({ pixels, rows, columns, mean }) {
  const { ort, run } = session;
  const [height, width] = [rows.stop - rows.start, columns.stop - columns.start];
  const values = new Float32Array(height * width * 3);
  for (let from = 0, to = 0; to < values.length; from += 4) {
    for (let colour = 0; colour < 3; colour++) values[to++] = pixels[from + colour] / 255;
  }
  const inputs = {
    image: new ort.Tensor("float32", values, [1, height, width, 3]),
    mean: new ort.Tensor("float32", [mean], [1]),
  };
  const results = await run.run(inputs);
  const parts = { result: null, illuminated: null };
  for (const name in parts) parts[name] = kept(await results[name].getData(true), rows, columns);
  postMessage({ rows, columns, ...parts }, [parts.result.buffer, parts.illuminated.buffer]);
}

function kept(values, rows, columns) {
  const [wide, width] = [columns.stop - columns.start, columns.last - columns.first];
  const part = new Uint16Array((rows.last - rows.first) * width * 3);
  for (let row = rows.first, to = 0; row < rows.last; row++) {
    let from = ((row - rows.start) * wide + columns.first - columns.start) * 3;
    for (const stop = to + width * 3; to < stop; to++, from++) part[to] = values[from] * 65535 + 0.5;
  }
  return part;
}

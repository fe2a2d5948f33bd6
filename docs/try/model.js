// What an ONNX file says of itself: its metadata, which onnxruntime-web does not give.

const METADATA = 14; // field of ONNX's ModelProto: entries with a key (field 1) and a value (field 2)

/** The metadata of an ONNX file, a Uint8Array, as an object of strings. */
export function metadata(bytes) {
  const found = {};
  for (const [field, content] of fields(bytes)) {
    if (field !== METADATA) continue;
    const entry = Object.fromEntries(fields(content));
    found[text(entry[1])] = text(entry[2]);
  }
  return found;
}

/** The fields of a protocol buffer: pairs of a number and, for a field with a length, its bytes. */
function* fields(bytes) {
  let position = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[position++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (position < bytes.length) {
    const tag = varint();
    if ((tag & 7) !== 2) {
      yield [tag >> 3, varint()];
      continue;
    }
    const length = varint();
    yield [tag >> 3, bytes.subarray(position, (position += length))];
  }
}

const text = (bytes) => new TextDecoder().decode(bytes);

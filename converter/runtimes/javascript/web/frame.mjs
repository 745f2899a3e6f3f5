// Arrays by name between Python and JavaScript, the same in Node.js and in a browser. A frame is: the length of its
// header and of its body (two little-endian uint32), the header (JSON), the body (the arrays, one after another, each
// padded to 8 bytes). The header's "tensors" lists name, dtype (as numpy calls it) and dims.
// converter/runtimes/javascript/frames.py is the other end.

const TYPES = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  int32: Int32Array,
  int64: BigInt64Array,
};

const padded = (bytes) => Math.ceil(bytes / 8) * 8;

// {name: ort.Tensor} and further fields of the header -> Uint8Array
export function encode(tensors, more = {}) {
  const entries = Object.entries(tensors);
  const described = entries.map(([name, tensor]) => ({ name, dtype: tensor.type, dims: [...tensor.dims] }));
  const header = new TextEncoder().encode(JSON.stringify({ ...more, tensors: described }));
  const bodies = entries.map(([, { data }]) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  const length = bodies.reduce((sum, body) => sum + padded(body.length), 0);
  const frame = new Uint8Array(8 + header.length + length);
  const view = new DataView(frame.buffer);
  view.setUint32(0, header.length, true);
  view.setUint32(4, length, true);
  frame.set(header, 8);
  let offset = 8 + header.length;
  for (const body of bodies) {
    frame.set(body, offset);
    offset += padded(body.length);
  }
  return frame;
}

// The length of the frame that these first 8 bytes belong to.
export function frameLength(start) {
  const view = new DataView(start.buffer, start.byteOffset, 8);
  return 8 + view.getUint32(0, true) + view.getUint32(4, true);
}

// A whole frame -> {header, tensors: {name: ort.Tensor}}
export function decode(frame, Tensor) {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const split = 8 + view.getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(frame.subarray(8, split)));
  const tensors = {};
  let offset = split;
  for (const { name, dtype, dims } of header.tensors) {
    const Typed = TYPES[dtype];
    if (!Typed) {
      throw new Error(`input ${name}: JavaScript has no array for ${dtype}`);
    }
    const count = dims.reduce((product, size) => product * size, 1);
    const bytes = count * Typed.BYTES_PER_ELEMENT;
    const copy = frame.slice(offset, offset + bytes); // starts at 0 of a new buffer, so that it is aligned
    tensors[name] = new Tensor(dtype, new Typed(copy.buffer, 0, count), dims);
    offset += padded(bytes);
  }
  return { header, tensors };
}

// One call of the session: the outputs and the milliseconds it took.
export async function answer(session, tensors) {
  const started = performance.now();
  const outputs = await session.run(tensors);
  const milliseconds = performance.now() - started;
  return encode(outputs, { milliseconds });
}

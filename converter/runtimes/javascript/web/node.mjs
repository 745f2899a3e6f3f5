// onnxruntime-node or onnxruntime-web (wasm) in Node.js, as a server on standard input and output:
//   node node.mjs PACKAGE MODULES MODEL THREADS
// The first frame written describes the session; then every frame read is a set of inputs, answered by one of outputs.

import { readFileSync, existsSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { answer, decode, encode, frameLength } from "./frame.mjs";

console.log = console.info = console.debug = console.error; // standard output carries frames only

const [package_, modules, model, threads] = process.argv.slice(2);

function write(frame) {
  for (let offset = 0; offset < frame.length; ) {
    try {
      offset += writeSync(1, frame, offset);
    } catch (error) {
      if (error.code !== "EAGAIN") {
        throw error;
      }
    }
  }
}

async function* frames() {
  let kept = Buffer.alloc(0);
  for await (const chunk of process.stdin) {
    kept = Buffer.concat([kept, chunk]);
    while (kept.length >= 8 && kept.length >= frameLength(kept)) {
      const length = frameLength(kept);
      yield new Uint8Array(kept.subarray(0, length));
      kept = kept.subarray(length);
    }
  }
}

async function open(ort) {
  if (package_ === "onnxruntime-node") {
    const session = await ort.InferenceSession.create(model, {
      executionProviders: ["cpu"],
      intraOpNumThreads: Number(threads),
    });
    return { session, provider: "cpu", used: Number(threads) };
  }
  ort.env.wasm.numThreads = Number(threads);
  const sidecar = `${model}.data`;
  const externalData = existsSync(sidecar) ? [{ path: basename(sidecar), data: readFileSync(sidecar) }] : [];
  const session = await ort.InferenceSession.create(readFileSync(model), {
    executionProviders: ["wasm"],
    externalData,
  });
  return { session, provider: "wasm", used: ort.env.wasm.numThreads };
}

try {
  const ort = createRequire(join(modules, "here.js"))(package_);
  const { session, provider, used } = await open(ort);
  write(
    encode(
      {},
      {
        inputs: session.inputNames,
        outputs: session.outputNames,
        facts: { provider, threads: used, node: process.versions.node, v8: process.versions.v8 },
      },
    ),
  );
  for await (const frame of frames()) {
    write(await answer(session, decode(frame, ort.Tensor).tensors));
  }
  process.exit(0);
} catch (error) {
  write(encode({}, { error: String(error?.message ?? error) }));
  process.exit(0);
}

// onnxruntime-web (wasm) in a browser: loads the artifact, takes inputs from the server of this page by GET job, and
// posts outputs to it by POST answer. Nothing is compared here.

import { answer, decode, encode } from "./frame.mjs";

const state = document.getElementById("state");

async function post(frame) {
  const response = await fetch("answer", { method: "POST", body: frame });
  if (!response.ok) {
    throw new Error(`answer: ${response.status}`);
  }
}

async function bytes(path) {
  const response = await fetch(path);
  if (!response.ok) {
    throw new Error(`${path}: ${response.status}`);
  }
  return new Uint8Array(await response.arrayBuffer());
}

try {
  const settings = await (await fetch("settings")).json();
  const ort = await import("./ort/ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = new URL("ort/", location.href).href;
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? settings.threads : 1;
  const externalData = settings.sidecar ? [{ path: settings.sidecar, data: await bytes("model.data") }] : [];
  const session = await ort.InferenceSession.create(await bytes("model"), {
    executionProviders: ["wasm"],
    externalData,
  });
  const facts = {
    provider: "wasm",
    threads: ort.env.wasm.numThreads,
    crossOriginIsolated: globalThis.crossOriginIsolated,
    browser: navigator.userAgent,
  };
  await post(encode({}, { inputs: session.inputNames, outputs: session.outputNames, facts }));
  state.textContent = "ready";
  for (;;) {
    const response = await fetch("job");
    if (response.status === 200) {
      const { tensors } = decode(new Uint8Array(await response.arrayBuffer()), ort.Tensor);
      await post(await answer(session, tensors));
    } else if (response.status !== 204) {
      break; // 204: nothing to do yet
    }
  }
  state.textContent = "done";
} catch (error) {
  state.textContent = String(error);
  await post(encode({}, { error: String(error?.message ?? error) }));
}

"""onnxruntime for JavaScript, in Node.js and in a browser. `web/` is the other end of `frames`."""

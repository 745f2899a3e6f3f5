"""onnxruntime for JavaScript, in Node.js and in a browser. `web/` is the JavaScript end, `session` the Python end."""

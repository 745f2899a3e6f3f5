"""Attacks in what else is read: images, labels, lists of models, samples, answers of a server."""

from __future__ import annotations

import http.server
import struct
import threading
import zlib

import numpy as np
from attack import Place, attack


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@attack("image", "a PNG of 60,000 x 60,000 pixels in 10 kB", 3, "pixels", "the size is read before the pixels")
def image_of_any_size(place: Place) -> list[str]:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10 << 20), 9)
    content = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    (place.work / "evil.png").write_bytes(content)
    return ["predict", str(place.export), "evil.png", "--preprocessing", "tf", "--quiet"]


@attack("image", "PostScript under the name of an image", 3, "evil.png", "formats that run programs are not read")
def image_that_is_a_program(place: Place) -> list[str]:
    text = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({place.target}) (w) file closefile\nshowpage\n"
    (place.work / "evil.png").write_text(text)
    return ["predict", str(place.export), "evil.png", "--preprocessing", "tf", "--quiet"]


@attack("samples", "pickled objects as the samples of `--inputs`", 3, "evil.npz", "arrays are read without pickles")
def pickle_as_samples(place: Place) -> list[str]:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (open, (str(place.target), "w"))

    np.savez(place.work / "evil.npz", image=np.array([Evil()] * 3, dtype=object))
    return ["tiny_nets:stock", "--inputs", "evil.npz", "--format", "onnx", "--quiet"]


@attack("samples", "a header of an array that is a Python expression", 3, "evil.npz", "a header is a literal or none")
def header_that_is_an_expression(place: Place) -> list[str]:
    text = f"{{'descr': open({str(place.target)!r}, 'w'), 'fortran_order': False, 'shape': (3,)}}".ljust(117) + "\n"
    import zipfile

    with zipfile.ZipFile(place.work / "evil.npz", "w") as archive:
        archive.writestr("image.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode())
    return ["tiny_nets:stock", "--inputs", "evil.npz", "--format", "onnx", "--quiet"]


@attack(
    "fleet", "the name of a model that leaves the target directory", 2, "name", "names of a list stay in the target"
)
def fleet_that_leaves(place: Place) -> list[str]:
    (place.work / "evil.toml").write_text('[[model]]\nsource = "resnet18"\nname = "../../outside/created"\n')
    return ["fleet", "evil.toml", "--quiet"]


class _Endless(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"[" * 65536)
        except OSError:
            return

    do_POST = do_GET

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@attack("server", "a server whose answer never ends", 5, "larger than", "the size of an answer is bounded")
def answer_without_end(place: Place) -> list[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Endless)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/v2/models/net"
    return ["verify", str(place.export), "--runtime", "onnxruntime", "--server", address, "--quiet"]

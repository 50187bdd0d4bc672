"""Serves one registered model on localhost: pictures in, class names and probabilities out.

``make serve MODEL=relearn-zap ALIAS=champion PORT=5001`` runs
``python -m relearn.pipelines.promote.serve``. It speaks the paths of MLflow's scoring server
(``GET /ping``, ``GET /version``, ``POST /invocations``) and needs no other process:

- ``curl --data-binary @picture.png -H 'Content-Type: image/png' localhost:5001/invocations``
- a JSON body ``{"inputs": [[[[0, 255, ...]]]]}``: uint8 values (n, channels, height, width)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import numpy.typing as npt

from relearn.errors import DataError, RelearnError

MOST_BYTES = 64 * 2**20
MOST_PIXELS = 64_000_000
TOP = 5
HOST = "127.0.0.1"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A loaded model and what it takes to answer with it.

    Attributes:
        name: Name in the registry.
        version: Version that the alias pointed to.
        class_names: One per output.
        channels: Colour channels the model takes.
        image_size: Height = width the model takes.
        predict: uint8 (n, channels, height, width) to probabilities (n, classes).
    """

    name: str
    version: str
    class_names: tuple[str, ...]
    channels: int
    image_size: int
    predict: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def answer(served: Served, body: bytes, content_type: str) -> dict[str, Any]:
    """Return the predictions for a request.

    Args:
        served: The model.
        body: A picture file, or JSON with ``inputs``.
        content_type: ``image/...`` or ``application/json``.

    Raises:
        DataError: The body is neither, or has another shape than the model takes.
    """
    kind = content_type.split(";", maxsplit=1)[0].strip().lower()
    images = _picture(served, body) if kind.startswith("image/") else _arrays(served, body)
    probabilities = served.predict(images)
    return {
        "model": served.name,
        "version": served.version,
        "predictions": [_prediction(row, served.class_names) for row in probabilities],
    }


def _prediction(row: npt.NDArray[np.float32], names: Sequence[str]) -> dict[str, Any]:
    order = np.argsort(-row, kind="stable")[:TOP]
    top = [{"class": names[i], "probability": round(float(row[i]), 6)} for i in order]
    return {**top[0], "top": top}


def _picture(served: Served, body: bytes) -> npt.NDArray[np.uint8]:
    from relearn.data.decode import ImageShape, decode_bytes

    shape = ImageShape(size=served.image_size, channels=served.channels)
    try:
        pixels = decode_bytes(body, shape, max_pixels=MOST_PIXELS)
    except DataError as error:
        raise DataError(f"request: the picture {error}") from error
    except Exception as error:  # Pillow raises what it likes on damaged bytes
        raise DataError("request: no picture that can be read; send a PNG or JPEG") from error
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return np.ascontiguousarray(planes[None])


def _arrays(served: Served, body: bytes) -> npt.NDArray[np.uint8]:
    wanted = (served.channels, served.image_size, served.image_size)
    expected = f'expected JSON {{"inputs": (n, {", ".join(map(str, wanted))}) integers 0 to 255}}'
    try:
        values = np.asarray(json.loads(body)["inputs"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"request: {expected}, or a picture with Content-Type: image/png"
        ) from error
    whole = values.ndim == 4 and values.shape[1:] == wanted and values.dtype.kind in "iu"
    if not whole or len(values) == 0 or values.min() < 0 or values.max() > 255:
        raise DataError(f"request: got {values.dtype} of shape {values.shape}, {expected}")
    return values.astype(np.uint8)


def handler_of(served: Served) -> type[BaseHTTPRequestHandler]:
    """Return the request handler of a model.

    Args:
        served: The model.
    """

    class Handler(BaseHTTPRequestHandler):
        """Answers one request."""

        def do_GET(self) -> None:
            """Say that the server is up, and which version it serves."""
            if self.path not in ("/ping", "/health", "/version"):
                self._reply(404, {"error": "paths: GET /ping, GET /version, POST /invocations"})
                return
            self._reply(200, {"model": served.name, "version": served.version})

        def do_POST(self) -> None:
            """Answer with predictions, or with 400 and one line."""
            length = int(self.headers.get("Content-Length") or 0)
            if self.path != "/invocations" or not 0 < length <= MOST_BYTES:
                self.close_connection = True
                self._reply(400, {"error": f"POST /invocations with 1 to {MOST_BYTES} bytes"})
                return
            body, kind = self.rfile.read(length), self.headers.get("Content-Type", "")
            try:
                self._reply(200, answer(served, body, kind))
            except RelearnError as error:
                self._reply(400, {"error": str(error)})

        def _reply(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Log instead of writing to the screen."""
            logger.info(format, *args)

    return Handler


def open_server(served: Served, port: int) -> ThreadingHTTPServer:
    """Return a server bound to localhost; ``serve_forever`` starts it.

    Args:
        served: The model.
        port: Port; 0 takes a free one.

    Raises:
        DataError: The port is taken.
    """
    try:
        return ThreadingHTTPServer((HOST, port), handler_of(served))
    except OSError as error:
        raise DataError(
            f"PORT={port}: cannot be opened ({error.strerror}); choose another one"
        ) from error


def load_served(address: str, name: str, alias: str) -> Served:
    """Return the registered version that an alias points to, ready to answer.

    Args:
        address: Absolute tracking address.
        name: Name in the registry.
        alias: Such as ``champion``.

    Raises:
        TrackingError: There is no such model, or the registry does not answer.
        CheckpointError: Its files are not those that were registered.
    """
    import torch

    from relearn.tracking import load_model

    found = load_model(address, name, alias=alias)
    channels, image_size, _ = found.image_shape

    def predict(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            probabilities: npt.NDArray[np.float32] = found.module(torch.from_numpy(images)).numpy()
        return probabilities

    return Served(name, found.version, found.class_names, channels, image_size, predict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; return the exit code.

    Args:
        arguments: Command line without the program; None reads ``sys.argv``.
    """
    from relearn.tracking.__main__ import storage_root
    from relearn.tracking.client import absolute_address

    parser = argparse.ArgumentParser(prog="python -m relearn.pipelines.promote.serve")
    parser.add_argument("model", help="name in the registry, such as relearn-zap")
    parser.add_argument("--alias", default="champion", help="alias of the version")
    parser.add_argument("--port", type=int, default=5001, help="port on localhost")
    parser.add_argument("--address", default="", help="tracking address; empty = the local store")
    asked = parser.parse_args(arguments)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    try:
        address = absolute_address(asked.address, storage_root())
        server = open_server(load_served(address, asked.model, asked.alias), asked.port)
    except RelearnError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    place = f"http://{HOST}:{server.server_address[1]}"
    sys.stdout.write(f"{asked.model}@{asked.alias} on {place}/invocations (Ctrl-C ends it)\n")
    sys.stdout.flush()
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

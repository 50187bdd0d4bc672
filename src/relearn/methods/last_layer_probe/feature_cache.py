"""Features kept on disk, under the digest of all that they depend on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from relearn.atomic import written_atomically
from relearn.errors import one_of
from relearn.methods.last_layer_probe.bodies import body_digest
from relearn.methods.last_layer_probe.features import stream_features
from relearn.provenance import digest, digest_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from relearn.methods.last_layer_probe.bodies import Body
    from relearn.methods.last_layer_probe.tap_points import TapPoint

_TYPES = {"float32": torch.float32, "float16": torch.float16}


@dataclass(frozen=True)
class FeatureCache:
    """A folder of feature files, one for each body, tap point and set of images.

    Attributes:
        folder: Made when the first file is written.
        dtype: ``float32``, or ``float16`` for half the space and about three digits.
    """

    folder: Path
    dtype: str = "float32"

    def features(
        self,
        body: Body,
        images: Tensor,
        tap: TapPoint,
        *,
        batch: int = 256,
        progress: str | None = None,
    ) -> Tensor:
        """Return features of shape (n, width) that lie in a file; they are made if they are not.

        Reading them takes up memory only as the system sees fit. A file that a kill left unfinished
        is never read.

        Args:
            body: The net.
            images: As for ``stream_features``.
            tap: Where the body is read.
            batch: Images a pass.
            progress: Text before the progress bar; None shows none.

        Raises:
            DataError: As for ``stream_features``.
            ParameterError: ``dtype`` is not known, or as for ``stream_features``.
            TrainingError: As for ``stream_features``.
            OSError: The folder cannot be written, or the disk is full.
        """
        if self.dtype not in _TYPES:
            raise one_of("last_layer_probe.features.dtype", self.dtype, _TYPES)
        path = self.folder / f"{self.key(body, images, tap)}.npy"
        if not path.is_file():
            stream = stream_features(
                body, images, [tap], batch=batch, dtype=_TYPES[self.dtype], progress=progress
            )
            with written_atomically(path) as temporary:
                file = np.lib.format.open_memmap(
                    temporary, mode="w+", dtype=self.dtype, shape=(len(images), tap.width)
                )
                for rows, found in stream:
                    file[rows] = found[tap.name].cpu().numpy()
                file.flush()
        # copy on write: a consumer that centres in place does not spoil the file
        return torch.from_numpy(np.load(path, mmap_mode="c"))

    def key(self, body: Body, images: Tensor, tap: TapPoint) -> str:
        """Return the digest of what the features depend on.

        Args:
            body: Its numbers but for the last layer's, the kind of its net, and how it is fed.
            images: Every pixel.
            tap: With its pooling.
        """
        return digest(
            {
                "body": body_digest(body),
                "kind": repr(body.net),
                "normalisation": [body.mean, body.std],
                "images": digest_tensors({"images": images}),
                "tap": asdict(tap),
                "dtype": self.dtype,
            }
        )

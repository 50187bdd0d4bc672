"""Figures as PNG, previewed in kedro-viz."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.datasets.files import FileDataset

if TYPE_CHECKING:
    from kedro_datasets._typing import ImagePreview
    from matplotlib.figure import Figure


class FigureDataset(FileDataset):
    """A matplotlib ``Figure`` on the way in, the bytes of the PNG on the way out."""

    def __init__(
        self, *, filepath: str, dots_per_inch: int = 120, metadata: dict[str, Any] | None = None
    ) -> None:
        """Remember where the picture is.

        Args:
            filepath: Path of the PNG.
            dots_per_inch: Resolution.
            metadata: See ``FileDataset``.
        """
        super().__init__(filepath=filepath, metadata=metadata)
        self.dots_per_inch = dots_per_inch

    def preview(self) -> ImagePreview:
        """Return the picture for kedro-viz, base64."""
        return base64.b64encode(self.load()).decode()

    def _read(self, path: Path) -> bytes:
        data = path.read_bytes()
        if not data.startswith(b"\x89PNG"):
            raise ValueError("not a PNG")
        return data

    def _write(self, data: Figure, path: Path) -> None:
        # No date and version in the file: equal figures are equal bytes.
        data.savefig(path, format="png", dpi=self.dots_per_inch, metadata={"Software": None})

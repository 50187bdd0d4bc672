"""Whether stream and base checkpoint belong to the present parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.provenance import Provenance, digest

if TYPE_CHECKING:
    from relearn.data.config import DataConfig
    from relearn.data.images import Stream
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.config import PretrainConfig


def require_present(
    base: Checkpoint, stream: Stream, *, pretrain: PretrainConfig, data: DataConfig
) -> None:
    """Check that stream and base checkpoint belong to the present parameters.

    Args:
        base: Its provenance names configuration and stream.
        stream: The present stream.
        pretrain: The present parameters of pre-training.
        data: The present parameters of the data.

    Raises:
        StaleInputError: Naming the pipeline to run again.
    """
    if stream.provenance is not None:
        stream.provenance.require(config=data.stream_digest())
    told = base.provenance
    made = Provenance(
        "base",
        "pretrain",
        config=str(told.get("config", "")),
        inputs={"stream": str(told.get("stream", ""))},
    )
    made.require(config=digest(pretrain), inputs={"stream": stream.digest})

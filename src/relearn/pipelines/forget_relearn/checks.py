"""What must hold before the first training: layers, images and judging fit net and data."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.methods.forget_relearn.config import ForgetRelearnConfig
    from relearn.models.checkpoint import Checkpoint


def require_runnable(
    base: Checkpoint, stream: Stream, config: ForgetRelearnConfig, *, seed: int
) -> None:
    """Open every training without a step, so that what cannot work is refused before any time.

    Args:
        base: Architecture, and weights where trainings continue them.
        stream: Frozen data.
        config: Knobs.
        seed: Any seed of the pairs: the counts of images are the same for all.

    Raises:
        ParameterError: Layers, samples or judging do not fit net or images.
        DataError: There are too few images.
    """
    from relearn.methods.forget_relearn.arms import trainings_of
    from relearn.methods.forget_relearn.run import open_session

    for training in trainings_of(config).values():
        open_session(base, stream, config, training=training, seed=seed)

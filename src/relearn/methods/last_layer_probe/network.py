"""The random network of a skeleton: r replicas of every node and a linear head.

Daniely, Frostig, Singer, arXiv 1602.05897: realisation N(S, r, k). Its body x -> R_w(x) gives the
empirical kernel <R_w(x), R_w(x')> / r, which tends to the dual kernel as r grows. The head is zero,
or normal with variance 1 / r.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from relearn.data.randomness import generator_of
from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.input_norm import (
    InputNorm,
    check_inputs,
    default_norm,
    place,
)
from relearn.methods.last_layer_probe.random_layer import RandomLayer, random_layers
from relearn.methods.last_layer_probe.skeleton_graph import INPUT

if TYPE_CHECKING:
    from relearn.methods.last_layer_probe.skeleton import Skeleton


class WeightedLayer(nn.Module):
    """A layer of a skeleton with weights that are kept.

    Args:
        shapes: Its shapes.
        seed: Of the network.
    """

    def __init__(self, shapes: RandomLayer, *, seed: int) -> None:
        super().__init__()
        weight, bias = shapes.draw(range(shapes.replicas), seed=seed)
        self.shapes = shapes
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Return the normalised activations of all replicas.

        Args:
            inputs: Of each layer that is seen, shape (n, channels, height, width).

        Returns:
            Shape (n, replicas, height above, width above).
        """
        return self.shapes.apply(inputs, self.weight, self.bias)


class SkeletonBody(nn.Module):
    """x -> R_w(x), flat over the positions of the sink.

    Args:
        skeleton: Which.
        replicas: r.
        dimension: Of the vectors at the input nodes.
        seed: Of the weights.
        norm: How inputs are placed on spheres.
        patch: As in ``embed``.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        *,
        replicas: int,
        dimension: int,
        seed: int,
        norm: InputNorm,
        patch: int = 3,
    ) -> None:
        super().__init__()
        self.skeleton, self.norm, self.patch = skeleton, norm, patch
        shapes = random_layers(skeleton, replicas=replicas, dimension=dimension)
        self.layers = nn.ModuleList(WeightedLayer(each, seed=seed) for each in shapes)
        self.features = replicas * skeleton.outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of inputs.

        Args:
            x: Floating, shape (n, channels, height, width), or (n, ...) where one node sees it all.

        Returns:
            Shape (n, features); inner products over r are the empirical kernel.

        Raises:
            DataError: Inputs that cannot be placed on spheres; not checked while being exported.
        """
        if not torch.compiler.is_compiling():
            check_inputs(x, self.skeleton, self.norm, patch=self.patch)
        known = {INPUT: place(x, self.skeleton, self.norm, patch=self.patch)}
        for layer, module in zip(self.skeleton.layers, self.layers, strict=True):
            known[layer.name] = module([known[name] for name in layer.inputs])
        return known[self.skeleton.layout.sink].flatten(1) / math.sqrt(self.skeleton.outputs)


class RandomNetwork(nn.Module):
    """A skeleton's random body with a linear head.

    Args:
        body: Gives the features.
        head: Gives the classes' scores.
    """

    def __init__(self, body: SkeletonBody, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Return scores, shape (n, classes).

        Args:
            x: As in ``SkeletonBody``.
        """
        scores: Tensor = self.head(self.body(x))
        return scores


def random_network(
    skeleton: Skeleton,
    *,
    replicas: int,
    inputs_shape: tuple[int, ...],
    seed: int,
    classes: int,
    zero_head: bool = True,
    input_norm: InputNorm | None = None,
    patch: int = 3,
) -> RandomNetwork:
    """Return the random network of a skeleton, the same for the same seed.

    Args:
        skeleton: Which.
        replicas: r, at least 1: channels of a convolution, width of a fully connected layer.
        inputs_shape: Of one input, such as (channels, height, width).
        seed: Of body and head.
        classes: Outputs of the head, at least 1.
        zero_head: The head begins at 0; otherwise normal with variance 1 / r.
        input_norm: How inputs are placed on spheres; None: ``default_norm``.
        patch: As in ``embed``.

    Raises:
        ParameterError: No replica or class.
        DataError: Inputs of that shape do not fit the skeleton.
    """
    check_replicas(replicas)
    if classes < 1:
        raise ParameterError(f"last_layer_probe.classes: got {classes}, expected 1 or more")
    norm = default_norm(skeleton) if input_norm is None else input_norm
    body = SkeletonBody(
        skeleton,
        replicas=replicas,
        dimension=input_dimension(skeleton, inputs_shape, norm, patch=patch),
        seed=seed,
        norm=norm,
        patch=patch,
    )
    head = nn.utils.skip_init(nn.Linear, body.features, classes)
    with torch.no_grad():
        nn.init.zeros_(head.bias)
        generator = generator_of(seed, "last_layer_probe.head")
        drawn = torch.randn(head.weight.shape, generator=generator) / math.sqrt(replicas)
        head.weight.copy_(torch.zeros_like(drawn) if zero_head else drawn)
    return RandomNetwork(body, head)


def check_replicas(replicas: int) -> None:
    """Raise an error unless there is at least one replica.

    Args:
        replicas: r.

    Raises:
        ParameterError: There is none.
    """
    if replicas < 1:
        raise ParameterError(f"last_layer_probe.replicas: got {replicas}, expected 1 or more")


def input_dimension(
    skeleton: Skeleton, inputs_shape: tuple[int, ...], norm: InputNorm, *, patch: int = 3
) -> int:
    """Return the dimension of the vectors at the input nodes.

    Args:
        skeleton: Whose input nodes.
        inputs_shape: Of one input.
        norm: How it is placed on spheres.
        patch: As in ``embed``.

    Raises:
        DataError: The shape does not fit the skeleton.
    """
    example = torch.full((1, *inputs_shape), 0.5)
    check_inputs(example, skeleton, norm, patch=patch)
    return place(example, skeleton, norm, patch=patch).shape[1]

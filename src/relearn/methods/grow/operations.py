"""Names of torch operations by what they do with the numbers they are given.

What is on no list, and has no rule of its own, is taken to mix everything it touches.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTWISE = _names(
    "relu relu6 leaky_relu rrelu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh "
    "sigmoid tanh softplus softsign logsigmoid log_sigmoid threshold tanhshrink hardshrink "
    "softshrink abs absolute neg negative exp expm1 log log1p log2 log10 sqrt rsqrt reciprocal "
    "square pow sin cos tan atan sinh cosh erf erfc floor ceil round trunc sign clamp clip "
    "clamp_min clamp_max add sub subtract mul multiply div divide true_divide floor_divide rsub "
    "remainder fmod maximum minimum fmax fmin where lerp addcmul addcdiv gt ge lt le eq ne "
    "greater less bitwise_and bitwise_or bitwise_xor bitwise_not logical_and logical_or "
    "logical_not isnan isinf isfinite nan_to_num masked_fill dropout dropout1d dropout2d "
    "dropout3d alpha_dropout feature_dropout feature_alpha_dropout pos positive"
)
"""Operations that treat every number by itself."""

REDUCTIONS = _names(
    "mean sum amax amin max min std var norm vector_norm logsumexp prod any all argmax argmin "
    "median count_nonzero linalg_vector_norm"
)
"""Operations that make one number of many."""

ALONG = _names("softmax log_softmax softmin cumsum cumprod normalize")
"""Operations that keep the shape and mix numbers along one dimension."""

SPATIAL = _names(
    "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d "
    "adaptive_max_pool3d lp_pool1d lp_pool2d interpolate upsample upsample_nearest "
    "upsample_bilinear pad reflection_pad2d replication_pad2d"
)
"""Operations that mix positions of a channel, in the last dimensions."""

MOVES = _names(
    "view reshape reshape_as view_as flatten unflatten ravel transpose swapaxes swapdims permute "
    "movedim moveaxis squeeze unsqueeze expand expand_as broadcast_to repeat tile "
    "repeat_interleave chunk split split_with_sizes tensor_split unbind __getitem__ select narrow "
    "index_select roll flip rot90 pixel_shuffle pixel_unshuffle channel_shuffle t adjoint"
) | {"get T", "get mT"}
"""Operations that only move numbers."""

KEEPS = _names(
    "contiguous clone detach to type float double half bfloat16 type_as cuda cpu alias _to_copy "
    "identity"
) | {"get data", "get real"}
"""Operations that hand on the same numbers."""

JOINS = _names("cat concat concatenate stack")
"""Operations that put tensors side by side."""

SILENT = _names(
    "size dim ndimension numel nelement stride is_contiguous storage_offset data_ptr element_size "
    "is_floating_point is_complex get_device __len__ __hash__ __repr__ __format__ __dir__ "
    "_set_grad_enabled is_tensor is_pinned is_nested __deepcopy__ untyped_storage "
    "has_torch_function requires_grad_ result_type can_cast _assert is_signed is_same_size "
    "is_inference register_hook retain_grad"
)
"""Operations that read no numbers."""

CONSTANTS = _names(
    "new_zeros new_ones new_full new_empty new_tensor zeros_like ones_like full_like empty_like "
    "rand_like randn_like"
)
"""Operations whose result does not depend on the numbers in what they are given."""

DECISIONS = _names(
    "__bool__ item tolist __float__ __int__ __index__ __complex__ numpy __array__ __contains__ "
    "equal allclose is_nonzero nonzero argwhere unique unique_consecutive masked_select"
)
"""Operations by which Python learns the value of a number."""

NUMBERS = ELEMENTWISE | REDUCTIONS | ALONG | SPATIAL | {"scaled_dot_product_attention"}
"""Operations that compute with the numbers they are given beside activations."""

"""Products of activations: attention copies whole heads."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from relearn.methods.grow.columns import part_of
from relearn.methods.grow.labels import (
    Label,
    ParameterView,
    aligned,
    constant,
    ids_of,
    only,
    varying,
)
from relearn.methods.grow.layer_rules import affine
from relearn.methods.grow.tape import Misfit
from relearn.methods.grow.tensor_rules import einsum, times_matrix
from relearn.methods.grow.value_rules import combined

if TYPE_CHECKING:
    from relearn.methods.grow.columns import Part
    from relearn.methods.grow.execution import Call, Execution
    from relearn.methods.grow.tape import Site


def matmul(run: Execution, site: Site, call: Call) -> Any:
    """Follow a product of two activations.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    one, other = call.args[:2] if len(call.args) > 1 else (call.args[0], call.kwargs["other"])
    labels = run.label(one), run.label(other)
    if isinstance(labels[0], Label) and isinstance(labels[1], ParameterView):
        return times_matrix(run, site, call, (one, other))
    if not all(isinstance(k, Label) for k in labels) or min(one.ndim, other.ndim) < 2:
        return run.unknown(site, call, "a product with something that is not an activation")
    result = torch.zeros(
        torch.matmul(
            torch.empty(one.shape, device="meta"), torch.empty(other.shape, device="meta")
        ).shape,
        dtype=one.dtype,
    )
    return run.mark(result, product(run, site, (one, other), tuple(result.shape)))


def product(
    run: Execution, site: Site, pair: tuple[Tensor, Tensor], shape: tuple[int, ...]
) -> Label:
    """Return the label of a matrix product.

    Args:
        run: The run of the labels.
        site: The operation.
        pair: Labelled activations, shapes (..., n, k) and (..., k, m).
        shape: Of the result, (..., n, m).
    """
    one, other = pair
    site.flops += 2 * int(torch.Size(shape).numel()) * one.shape[-1]
    ndim = len(shape)
    left = aligned(_codes(run, one), ndim)
    right = aligned(_codes(run, other), ndim)
    over_channels = ndim - 1 in varying(left) or ndim - 2 in varying(right)
    if over_channels and not _contract(run, site, left, right):
        return constant(shape)
    first = left.narrow(-1, 0, 1)
    second = right.narrow(-2, 0, 1)
    if ndim - 2 in varying(first) and ndim - 1 in varying(second):
        for codes in (first, second):
            run.journal.freeze(site, codes, "every channel meets every other")
        return constant(shape)
    stand_ins = []
    for codes in (first, second):
        tensor = torch.empty(codes.shape, device="meta")
        stand_ins.append(run.mark(tensor, Label(codes, codes)))
    made = combined(run, site, stand_ins, shape)
    return made if isinstance(made, Label) else constant(shape)


def _codes(run: Execution, tensor: Tensor) -> Tensor:
    label = run.label(tensor)
    if not isinstance(label, Label):
        raise TypeError("a product needs labelled activations")
    return label.codes


def _contract(run: Execution, site: Site, left: Tensor, right: Tensor) -> bool:
    """Note a sum over channels: each head's channels stay together, in this order."""
    ndim = left.ndim
    outer = tuple(d for d in range(ndim - 2) if d in {*varying(left), *varying(right)})
    simple = ndim - 2 not in varying(left) and ndim - 1 not in varying(right)
    both = all(d in varying(left) and d in varying(right) for d in outer)
    if not outer or not simple or not both:
        for codes in (left, right):
            run.journal.freeze(site, codes, "a product sums over all these channels at once")
        return False
    one = only(left, (*outer, ndim - 1)).reshape(-1, left.shape[-1])
    turned = right.transpose(-1, -2)
    other = only(turned, (*outer, ndim - 1)).reshape(-1, left.shape[-1])
    run.journal.fresh(site, [one.flatten(), other.flatten()])
    run.journal.block(site, one)
    run.journal.block(site, other)
    run.journal.heads(site, run.module, one.shape[1], one[:, 0])
    return True


def attention(run: Execution, site: Site, call: Call) -> Any:
    """Follow softmax(q k^T + mask) v.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    query, key, value = (call.value(i, n) for i, n in enumerate(("query", "key", "value")))
    mask = call.value(3, "attn_mask")
    if not all(isinstance(run.label(t), Label) for t in (query, key, value)):
        return run.unknown(site, call, "attention over something that is not an activation")
    if call.kwargs.get("enable_gqa"):
        return run.unknown(site, call, "attention with shared keys")
    shape = (*query.shape[:-1], key.shape[-2])
    turned = run.mark(
        torch.empty(key.transpose(-1, -2).shape, device="meta"),
        Label(_codes(run, key).transpose(-1, -2), _codes(run, key).transpose(-1, -2)),
    )
    logits = torch.empty(shape, device="meta")
    run.mark(logits, product(run, site, (query, turned), shape))
    if mask is not None:
        made = combined(run, site, [logits, mask], shape)
        logits = run.mark(torch.empty(shape, device="meta"), made)
    size = (*query.shape[:-1], value.shape[-1])
    return run.mark(query.new_zeros(size), product(run, site, (logits, value), size))


_MHA = tuple(inspect.signature(F.multi_head_attention_forward).parameters)


def multi_head_attention(run: Execution, site: Site, call: Call) -> Any:
    """Follow torch's own attention layer; sequences come first, as it hands them over.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        The result, labelled, and its weights; None in their place where they are not asked for.

    Raises:
        Misfit: The heads and the channels that come in would grow apart.
    """
    given = {n: call.value(i, n) for i, n in enumerate(_MHA)}
    inputs = [given[n] for n in ("query", "key", "value")]
    odd = given["bias_k"] is not None or given["use_separate_proj_weight"]
    odd = odd or given["add_zero_attn"] or not all(isinstance(run.label(t), Label) for t in inputs)
    if odd or part_of(run, given["in_proj_weight"]) is None:
        return run.unknown(site, call, "a form of attention that is not known")
    width = run.journal.width(site, given["embed_dim_to_check"] // given["num_heads"])
    parts = [_thirds(run, given["in_proj_weight"]), _thirds(run, given["in_proj_bias"])]
    heads = []
    for third, x in enumerate(inputs):
        weight, bias = (p[third] if p is not None else None for p in parts)
        if weight is None:
            return run.unknown(site, call)
        made = affine(run, site, x, (weight, bias))
        if made.shape[-1] != given["query"].shape[-1]:
            reason = "its heads and the channels that come in must grow alike"
            raise Misfit(site, ids_of(torch.cat([_line(run, made), _line(run, x)])), reason)
        with run:
            split = made.reshape(*made.shape[:-1], -1, width).permute(1, 2, 0, 3)
        heads.append(split)
    with run:
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        joined = mixed.permute(2, 0, 1, 3).flatten(2)
    output, bias = part_of(run, given["out_proj_weight"]), part_of(run, given["out_proj_bias"])
    if output is None:
        return run.unknown(site, call)
    result = affine(run, site, joined, (output, bias))
    if not given["need_weights"] and given["attn_mask"] is None:
        return result, None
    return result, _weights(run, site, given, heads[0])


def _line(run: Execution, tensor: Tensor) -> Tensor:
    """Return the codes along the last dimension, at the first place of the others."""
    codes = _codes(run, tensor)
    return codes.reshape(-1, codes.shape[-1])[0]


def _thirds(run: Execution, value: Tensor | None) -> list[Part] | None:
    part = part_of(run, value)
    if part is None:
        return None
    third = len(run.journal.rows(part[0], 0)) // 3
    return [(part[0], torch.arange(i * third, (i + 1) * third)) for i in range(3)]


def _weights(run: Execution, site: Site, given: dict[str, Any], heads: Tensor) -> Tensor | None:
    """Keep the heads as they are where their weights are handed out or masked one by one."""
    mask = given["attn_mask"]
    if given["need_weights"]:
        run.journal.freeze(site, _codes(run, heads), "attention weights are averaged over heads")
    elif mask is not None and mask.ndim > 2:
        run.journal.freeze(site, _codes(run, heads), "there is a mask for each head")
    if not given["need_weights"]:
        return None
    length, batch = given["query"].shape[:2]
    weights = given["query"].new_zeros(batch, length, given["key"].shape[0])
    marked: Tensor = run.mark(weights, constant(tuple(weights.shape)))
    return marked


RULES = {
    "matmul": matmul,
    "bmm": matmul,
    "mm": matmul,
    "einsum": einsum,
    "scaled_dot_product_attention": attention,
    "multi_head_attention_forward": multi_head_attention,
}

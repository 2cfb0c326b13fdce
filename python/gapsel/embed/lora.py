"""The gradient of every document's loss with respect to LoRA's parameters, one backward pass for a whole batch.

LoRA adds B A to the weight W of a linear layer. At its beginning B = 0 and A is random; the gradient with respect to A
is then 0, and with x_t what the layer reads at token t and d_t the gradient at what it says,

    dloss/dB = sum_t d_t (A x_t)'                                 (outputs, rank)

which needs no LoRA in the model: A x_t is taken on the way forward, d_t on the way back. Documents of a batch do not
touch each other, so that the sum of their losses gives each its own d_t. No weight has a gradient, so that the way back
costs what the way forward does. A has entries +-1/sqrt(rank): with W's whole gradient G the above is G A', and inner
products of these are those of G on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gapsel.embed.projection import signs
from gapsel.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from transformers import PreTrainedModel

    from gapsel.embed.encoder import Padded
    from gapsel.embed.language import Language

RANK = 8
_REMEDY = "use --features hidden with it"


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer, with A' of LoRA as ``down`` (inputs, RANK)."""

    name: str
    module: torch.nn.Module
    down: torch.Tensor
    outputs: int


def lora_layers(network: PreTrainedModel) -> tuple[Layer, ...]:
    """Return the linear layers of a model, but for its head, and let its weights be fixed.

    Raises DataError where there are none that could learn.
    """
    import torch

    network.requires_grad_(requires_grad=False)
    exact = torch.promote_types(network.dtype, torch.float32)
    head: object = cast("Any", network).get_output_embeddings()
    found: list[Layer] = []
    for name, module in network.named_modules():
        shape = _shape(module)
        if shape is not None and module is not head:
            a = torch.from_numpy(signs(shape[0] * RANK, "down", len(found)).reshape(shape[0], RANK) / np.sqrt(RANK))
            found.append(Layer(name, module, a.to(network.device, exact), shape[1]))
    if not found:
        msg = f"{type(network).__name__} has no linear layers of floating point numbers to take gradients of: {_REMEDY}"
        raise DataError(msg)
    return tuple(found)


def _shape(module: torch.nn.Module) -> tuple[int, int] | None:
    """Return inputs and outputs of a linear layer, or of GPT-2's Conv1D, which is one; None for all others."""
    import torch

    weight: Any = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor) or not weight.is_floating_point():
        return None
    if type(module) is torch.nn.Linear:
        return int(weight.shape[1]), int(weight.shape[0])
    return (int(weight.shape[0]), int(weight.shape[1])) if type(module).__name__ == "Conv1D" else None


def lora_gradients(
    language: Language, layers: tuple[Layer, ...], batch: Padded, seen: Callable[[int, torch.Tensor], None]
) -> None:
    """Show ``seen`` the gradients (rows, outputs, RANK) of a batch's documents, layer by layer with its number.

    A layer that is used twice is shown twice, and its gradient is the sum. Raises DataError for a model that passes
    none back, and one whose layers do not read documents side by side.
    """
    import torch

    rows, width = language.started(batch).ids.shape
    network = language.network

    def takes_part(_module: object, _given: object, output: torch.Tensor) -> torch.Tensor:
        return output.detach().requires_grad_()

    def watched(at: int, layer: Layer, _module: object, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if not output.requires_grad:
            return
        low = _by_document(layer, given[0].detach(), rows, width).to(layer.down.dtype) @ layer.down

        def back(gradient: torch.Tensor) -> None:
            errors = _by_document(layer, gradient.detach(), rows, width).to(low.dtype)
            seen(at, errors.transpose(1, 2) @ low)

        output.register_hook(back)  # type: ignore[no-untyped-call]

    handles = [network.get_input_embeddings().register_forward_hook(takes_part)]
    handles += [layer.module.register_forward_hook(partial(watched, at, layer)) for at, layer in enumerate(layers)]
    try:
        with torch.enable_grad():
            losses = language.losses(batch)
            if not losses.requires_grad:
                msg = f"{type(network).__name__} passes no gradients back to its layers: {_REMEDY}"
                raise DataError(msg)
            losses.sum().backward()  # type: ignore[no-untyped-call]
    finally:
        for handle in handles:
            handle.remove()


def _by_document(layer: Layer, values: torch.Tensor, rows: int, width: int) -> torch.Tensor:
    """Return what a layer reads or says as (rows, width, features)."""
    if values.shape[:-1].numel() != rows * width:
        msg = f"layer {layer.name} does not read every token of every document (a mixture of experts?): {_REMEDY}"
        raise DataError(msg)
    return values.reshape(rows, width, -1)

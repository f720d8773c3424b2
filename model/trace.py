"""Finds the tensor that was the first not to be finite in a step of a training."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


def find_first_not_finite(network: nn.Module, run_step: Callable[[], Tensor]) -> str | None:
    """Runs one step and says in words which tensor was the first that held a NaN or an infinity; None where none did.

    run_step: computes the network, the loss and its gradients, and returns the loss. It is not run when weights are
    not finite as they are. Tensors are looked at in the order in which they come to be: weights and buffers before the
    step, then what goes into a module and comes out of it, then the loss, then gradients from the last layer to the
    first. Each look waits for the device: a slow step.
    """
    for kind, entries in (("weights", network.named_parameters()), ("buffer", network.named_buffers())):
        for name, tensor in entries:
            if not _is_finite(tensor):
                return f"the {kind} {name} ({_share(tensor)})"
    found: list[str] = []
    hooks = list(_watch(network, found))
    try:
        loss = run_step()
    finally:
        for hook in hooks:
            hook.remove()
    # Gradients are made from the loss: one that is not finite comes before them, whatever they show.
    at_forward = [words for words in found if not words.startswith(_GRADIENT)]
    if at_forward:
        return at_forward[0]
    if not _is_finite(loss):
        return f"the loss ({float(loss.detach())})"
    return found[0] if found else None


_GRADIENT = "the gradient of "


def _watch(network: nn.Module, found: list[str]) -> Iterator[RemovableHandle]:
    """Hooks on all modules and weights that add to `found` what is not finite, in words."""

    def note(words: str, tensor: Tensor) -> None:
        if not _is_finite(tensor):
            found.append(f"{words} ({_share(tensor)})")

    for name, module in network.named_modules():
        where = f"{name} ({type(module).__name__})" if name else "the network"

        def look_in(_module: nn.Module, given: Any, where: str = where) -> None:
            for tensor in _tensors(given):
                note(f"the input of {where}", tensor)

        def look_out(_module: nn.Module, _given: Any, made: Any, where: str = where) -> None:
            for tensor in _tensors(made):
                note(f"the output of {where}", tensor)
                if tensor.requires_grad:
                    tensor.register_hook(partial(note, f"{_GRADIENT}the output of {where}"))  # type: ignore[no-untyped-call]

        yield module.register_forward_pre_hook(look_in)
        yield module.register_forward_hook(look_out)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            yield parameter.register_hook(partial(note, f"{_GRADIENT}{name}"))  # type: ignore[no-untyped-call]


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors in what modules take and give: a tensor, or lists and tuples of such."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.detach().isfinite().all())


def _share(tensor: Tensor) -> str:
    """How many of its values are no finite numbers, as "3 of 16 values"."""
    return f"{int((~tensor.detach().isfinite()).sum()):,} of {tensor.numel():,} values"

"""Compiles a network for the steps of its training, or says why this machine cannot."""

import logging
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from data.input_error import InputError
from model.unet import UNet

BACKEND = "inductor"
NOTES = ("torch._inductor", "torch.utils.cpp_extension")  # loggers of what compiles, and looks for what it takes


def compile_passes(network: UNet, device: torch.device) -> Callable[[Tensor], list[Tensor]]:
    """The network's `logits_of_passes`, compiled when it is first called; the network itself stays as it is.

    It is compiled once more when weights are held still or learn again, and for parts of a batch: for the second number
    of samples that comes, in a form that serves all others but one, and for one. What this process has compiled before
    is forgotten: it counts against how often torch compiles a function before it gives up.

    Raises InputError where this machine cannot compile for the device.
    """
    # What these note says nothing to who trains; what TORCH_LOGS asks for still shows, and that torch gives up.
    for name in NOTES:
        logger = logging.getLogger(name)
        logger.setLevel(logger.level or logging.ERROR)
    warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
    torch.compiler.reset()
    try:
        torch.compile(lambda numbers: numbers + 1, backend=BACKEND)(torch.ones(8, device=device))
    except (RuntimeError, OSError) as error:
        reason = getattr(error, "inner_exception", error)  # in words of its own, without torch's advice for debugging
        words = str(reason).strip().partition("\n")[0]
        raise InputError(
            f"compiled True cannot be had on {device} here ({words}): install what compiles for it, such as g++ and "
            "Python's headers, let TORCHINDUCTOR_CACHE_DIR name a folder that can be written, or turn compiled off."
        ) from error
    return torch.compile(network.logits_of_passes, backend=BACKEND)

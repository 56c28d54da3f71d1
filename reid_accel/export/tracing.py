"""Tracing a graph for any batch size, and errors of the tracers as sentences."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from reid_accel.errors import InputError, first_line
from reid_accel.export.graph import ExportGraph

EXAMPLES = 2  # tracers take a batch of 1 for a constant
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
_NOISY = ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")


@contextmanager
def traceable(graph: ExportGraph, form: str) -> Iterator[None]:
    """Raise InputError for a backbone that can't be traced, and keep the tracers' notes off the terminal."""
    levels = {name: logging.getLogger(name).level for name in _NOISY}
    try:
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except _FAILURES as error:
        backbone = graph.network.architecture.model.backbone
        raise InputError(
            f"the backbone {backbone} cannot be exported to {form} ({first_line(error)}): its forward pass must not "
            "depend on the values in the images or on the number of images. ResNets, OSNets, MobileNets, "
            "EfficientNets, ConvNeXts, ViTs and Swins can be exported; the model folder itself runs with "
            "ReIDModel.from_pretrained"
        ) from error
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def example(graph: ExportGraph) -> Tensor:
    """A batch to trace with."""
    size = graph.network.architecture
    return torch.zeros(EXAMPLES, 3, size.height_px, size.width_px)


def exported_program(graph: ExportGraph) -> torch.export.ExportedProgram:
    """The graph as torch.export sees it, with a symbolic batch."""
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(graph, (example(graph),), dynamic_shapes=({0: batch},), strict=False)

"""The last stride of a convolutional network set to 1, which doubles the resolution of its last map (Luo et al. 2019).

Legend: B batch, C channels, H W pixels or positions of a map.
"""

import torch
import torch.nn as nn
from timm.layers import BlurPool2d
from torch import Tensor
from torch.func import functional_call

from reid_accel.errors import InputError

_Strided = nn.Conv2d | nn.AvgPool2d | nn.MaxPool2d | BlurPool2d
_REDUCTION = 32  # pixels of the image per position of the last map, before and in each direction


class _Maps(nn.Module):
    """The backbone's last map, B x C x H x W, or whatever else its `forward_features` returns."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images_B3HW: Tensor) -> Tensor:
        maps: Tensor = self.backbone.forward_features(images_B3HW)  # type: ignore[operator]
        return maps


def keep_last_resolution(backbone: nn.Module, name: str) -> None:
    """Set the strides of a newly built backbone's last strided layers, in all branches, to 1; nothing is dilated.

    The layers are found, and the result is checked, by forward passes without computation (on the meta device).
    Raises InputError when this doesn't double height and width of the last map, as for transformers.
    """
    size = (8 * _REDUCTION, 4 * _REDUCTION)
    before, layers = _last_map(backbone, size)
    if before == (8, 4):
        for layer in layers:
            _set_stride_1(layer)
    if before != (8, 4) or _last_map(backbone, size)[0] != (16, 8):
        raise InputError(
            "model.last-stride 1 is for convolutional networks that halve the resolution before their last stage by "
            f"strided layers, which {name} doesn't. Set --model.last-stride 2"
        )


def _last_map(backbone: nn.Module, size: tuple[int, int]) -> tuple[tuple[int, int] | None, list[_Strided]]:
    """Height and width of the last map, None without one, and the strided layers that lead to it."""
    passed: list[tuple[_Strided, tuple[int, int], tuple[int, int]]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, _Strided)
        passed.append((layer, _shape(inputs[0]), _shape(output)))

    strided = [module for module in backbone.modules() if isinstance(module, _Strided)]
    hooks = [layer.register_forward_hook(note) for layer in strided]
    training = {module: module.training for module in backbone.modules()}
    try:
        maps = _on_meta(backbone.eval(), size)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    if maps is None or maps.ndim != 4:
        return None, []
    shapes = (_shape(maps), _shape(maps.movedim(-1, 1)))  # channels first or last
    last = next((after for _, _, after in reversed(passed) if after in shapes), None)
    if last is None:
        return None, []
    return last, [layer for layer, before, after in passed if after == last and before != last]


def _on_meta(backbone: nn.Module, size: tuple[int, int]) -> Tensor | None:
    """The output of `forward_features` as a tensor without content; None if it can't be had."""
    wrapped = _Maps(backbone)
    tensors = {name: value.to("meta") for name, value in (*wrapped.named_parameters(), *wrapped.named_buffers())}
    try:
        maps = functional_call(wrapped, tensors, (torch.empty(1, 3, *size, device="meta"),))
    except (AttributeError, AssertionError, RuntimeError, NotImplementedError):
        return None
    return maps if isinstance(maps, Tensor) else None


def _shape(maps_BCHW: Tensor) -> tuple[int, int]:
    height, width = maps_BCHW.shape[-2:]
    return height, width


def _set_stride_1(layer: _Strided) -> None:
    if isinstance(layer, BlurPool2d):
        layer.stride = 1
    elif isinstance(layer, nn.Conv2d):
        layer.stride = (1, 1)
        if layer.kernel_size == (2, 2) and layer.padding == (0, 0):  # would lose a row and a column
            # zeros at the bottom and right, which `padding` cannot say
            layer.padding_mode = "constant"  # type: ignore[assignment]
            layer._reversed_padding_repeated_twice = [0, 1, 0, 1]
    else:
        if layer.kernel_size == layer.stride:  # a window per output position: now each position its own
            layer.kernel_size = 1
        layer.stride = 1

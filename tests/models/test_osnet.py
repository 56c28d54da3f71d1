import pytest
import torch
from torch import nn

from reid_accel.models.osnet import (
    OSNET_WIDTHS,
    AggregationGate,
    InstanceNorms,
    Lite3x3,
    OmniScaleBlock,
    OSNet,
)

# Zhou et al. 2019, the table of width multipliers: millions of parameters and of multiply-adds at 256 x 128, with
# the 512-unit layer
PAPER = {
    "osnet_x1_0": (2.2, 978.9),
    "osnet_x0_75": (1.3, 571.8),
    "osnet_x0_5": (0.6, 272.9),
    "osnet_x0_25": (0.2, 82.3),
}


def multiply_adds(network: nn.Module, images: torch.Tensor) -> int:
    """Those of all convolutions and linear layers in one pass over one image."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.Linear)
        counts.append(output.numel() * module.weight[0].numel())  # each output value sums one filter

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        network.eval()(images)
    return sum(counts)


@pytest.mark.parametrize("name", PAPER)
def test_parameters_and_multiply_adds_are_the_papers(name: str) -> None:
    backbone = OSNet(OSNET_WIDTHS[name])
    network = nn.Sequential(backbone, nn.Linear(backbone.head_hidden_size, 512), nn.BatchNorm1d(512))
    parameters, mult_adds = PAPER[name]
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == parameters
    assert round(multiply_adds(network, torch.zeros(1, 3, 256, 128)) / 1e6, 1) == mult_adds


@pytest.mark.parametrize("kind", ["ibn", "ain"])
def test_instance_norm_removes_an_images_brightness_and_contrast(kind: InstanceNorms) -> None:
    images = torch.randn(1, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network, plain = OSNet(1.0, kind).eval(), OSNet(1.0).eval()
    with torch.no_grad():
        torch.testing.assert_close(network(2 * images), network(images), rtol=1e-3, atol=1e-4)
        assert not torch.allclose(plain(2 * images), plain(images), rtol=1e-3, atol=1e-4)
    instance = [path for path, module in network.named_modules() if isinstance(module, nn.InstanceNorm2d)]
    expected = {"ibn": ["conv1.1", "conv2.0.after", "conv2.1.after"], "ain": ["conv1.1"]}
    places = [f"conv{stage}.expand.1" for stage in ("2.0", "2.1", "3.1", "4.0")]
    assert instance == expected[kind] + (places if kind == "ain" else [])


def test_every_width_is_one_of_the_papers() -> None:
    assert set(PAPER) == set(OSNET_WIDTHS)


def test_maps_are_a_sixteenth_of_the_image() -> None:
    network = OSNet(0.25).eval()
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    maps = network.forward_features(images)
    assert maps.shape == (2, 128, 4, 2)
    torch.testing.assert_close(network(images), maps.mean((2, 3)))


@pytest.mark.parametrize(("depth", "reach"), [(1, 3), (2, 5), (3, 7), (4, 9)])
def test_the_streams_see_three_to_nine_pixels(depth: int, reach: int) -> None:
    torch.manual_seed(0)
    stream = OmniScaleBlock(64, 64).eval().streams[depth - 1]
    for module in stream.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)  # nothing cancels and no ReLU closes
    pixel = torch.zeros(1, 16, 15, 15)
    pixel[..., 7, 7] = 1
    seen = stream(pixel)[0, 0] > 0
    assert (int(seen.any(0).sum()), int(seen.any(1).sum())) == (reach, reach)


def test_a_block_is_the_gated_sum_of_its_streams() -> None:
    torch.manual_seed(0)
    block = OmniScaleBlock(32, 64).eval()
    maps = torch.randn(2, 32, 6, 5)
    inner = torch.relu(block.reduce[1](block.reduce[0](maps)))
    fused = torch.zeros(2, 16, 6, 5)
    for stream in block.streams:
        scale = inner
        for layer in stream:
            scale = torch.relu(layer.norm(layer.depthwise(layer.pointwise(scale))))
        hidden = torch.relu(nn.functional.conv2d(scale.mean((2, 3), keepdim=True), *block.gate.squeeze.parameters()))
        fused = fused + torch.sigmoid(nn.functional.conv2d(hidden, *block.gate.excite.parameters())) * scale
    torch.testing.assert_close(block(maps), torch.relu(block.expand(fused) + block.downsample(maps)))


def test_the_gate_is_shared_and_the_pointwise_step_is_linear() -> None:
    block = OmniScaleBlock(64, 64)
    assert len([m for m in block.modules() if isinstance(m, AggregationGate)]) == 1
    assert [len(stream) for stream in block.streams] == [1, 2, 3, 4]
    lite = Lite3x3(8)
    assert sum(p.numel() for p in lite.parameters()) == 8 * 8 + 9 * 8 + 2 * 8


def test_memory_order_changes_no_feature() -> None:
    network = OSNet(0.25).eval()
    images = torch.randn(1, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    plain = network(images)
    last = network.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)

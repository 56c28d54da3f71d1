import copy

import pytest
import timm
import torch

from reid_accel.config.schema import ModelConfig
from reid_accel.models.backbone import build_backbone, normalization, pooled_size
from reid_accel.models.swin import SOLIDER_SWINS


@pytest.fixture(scope="module")
def tiny() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_backbone(ModelConfig(backbone="solider_swin_tiny", height_px=224, width_px=224)).eval()


def timms(size: tuple[int, int], weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    plain = timm.create_model(
        "swin_tiny_patch4_window7_224", num_classes=0, img_size=size, window_size=7, always_partition=True
    )
    plain.load_state_dict({key: value for key, value in weights.items() if not key.endswith("reduction.bias")})
    return plain.eval()


def test_where_windows_fit_it_is_timms_network(tiny: torch.nn.Module) -> None:
    """At 224 x 224 nothing is padded, so that padding before or after the shift is the same."""
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = timms((224, 224), tiny.state_dict())(images)
        torch.testing.assert_close(tiny(images), expected, rtol=1e-4, atol=1e-5)


def test_where_they_do_not_fit_it_is_another_network(tiny: torch.nn.Module) -> None:
    network = build_backbone(ModelConfig(backbone="solider_swin_tiny", height_px=128, width_px=64)).eval()
    network.load_state_dict(tiny.state_dict())
    images = torch.randn(1, 3, 128, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(network(images), timms((128, 64), tiny.state_dict())(images), atol=1e-4)
        assert torch.equal(copy.deepcopy(network)(images), network(images)), "a copy, as of the EMA, is its own network"


def test_it_trains_and_states_its_size(tiny: torch.nn.Module) -> None:
    assert pooled_size(tiny) == 768
    assert set(SOLIDER_SWINS) == {"solider_swin_tiny", "solider_swin_small", "solider_swin_base"}
    assert normalization("solider_swin_tiny") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    network = build_backbone(ModelConfig(backbone="solider_swin_tiny", height_px=64, width_px=32)).train()
    network(torch.zeros(2, 3, 64, 32)).sum().backward()
    assert all(value.grad is not None for value in network.parameters())

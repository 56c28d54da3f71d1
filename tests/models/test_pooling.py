import pytest
import torch
from torch import nn

from reid_accel.config.schema import ModelConfig
from reid_accel.errors import InputError
from reid_accel.models.backbone import build_backbone
from reid_accel.models.pooling import GeM, set_pooling, stripe_rows

CONVOLUTIONAL = ["resnet18", "resnet50", "resnet18_ibn_a", "osnet_x0_25", "convnext_atto", "mobilenetv3_small_050"]
CONVOLUTIONAL += ["efficientnet_b0"]
CHANNELS_LAST = "swin_s3_tiny_224"


def built(name: str, pooling: str, stripes: tuple[int, ...] = (1,)) -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(
        ModelConfig(backbone=name, last_stride=2, height_px=64, width_px=32, pooling=pooling, stripes=stripes)
    ).eval()


def generalized_mean(values: list[float], exponent: float) -> float:
    return (sum(max(v, 1e-6) ** exponent for v in values) / len(values)) ** (1 / exponent)


def pooled(maps: torch.Tensor, pooling: str) -> torch.Tensor:
    """The definition, number by number: B x C x H x W to B x C."""
    rows = maps.double().flatten(2).tolist()
    of_one = {"avg": lambda v: sum(v) / len(v), "max": max, "gem": lambda v: generalized_mean(v, 3.0)}[pooling]
    return torch.tensor([[of_one(values) for values in channels] for channels in rows])


@pytest.mark.parametrize("exponent", [1.0, 2.5, 3.0])
def test_gem_is_its_definition(exponent: float) -> None:
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = [[generalized_mean(values, exponent) for values in rows] for rows in maps.flatten(2).tolist()]
    torch.testing.assert_close(GeM(start=exponent)(maps), torch.tensor(expected))


def test_gem_lies_between_mean_and_maximum_and_nears_either() -> None:
    maps = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) + 0.1
    mean, maximum = maps.mean((2, 3)), maps.amax((2, 3))
    assert bool((mean < GeM()(maps)).all() and (GeM()(maps) < maximum).all())
    torch.testing.assert_close(GeM(start=1.0)(maps), mean)
    torch.testing.assert_close(GeM(start=300.0)(maps), maximum, rtol=0.02, atol=0)


def test_gem_learns_its_exponent() -> None:
    maps = torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).float()
    pool = GeM()
    pool(maps).sum().backward()
    step = 1e-2
    slope = (GeM(start=3 + step)(maps).sum() - GeM(start=3 - step)(maps).sum()) / (2 * step)
    assert pool.exponent.grad is not None
    torch.testing.assert_close(pool.exponent.grad[0], slope.detach(), rtol=1e-3, atol=1e-4)


def test_gem_s_gradient_is_finite_on_empty_maps() -> None:
    maps, pool = torch.zeros(1, 2, 3, 3, requires_grad=True), GeM()
    pool(maps).sum().backward()
    assert pool.exponent.grad is not None
    assert maps.grad is not None
    assert bool(pool.exponent.grad.isfinite().all() and maps.grad.isfinite().all())


def test_gem_computes_in_float32_under_autocast() -> None:
    maps = (torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(0)) * 100).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):  # 100^3 is above float16's largest number
        assert torch.equal(GeM()(maps), GeM()(maps.float()).half())
    assert GeM()(maps).dtype == torch.float16


@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
@pytest.mark.parametrize("name", [*CONVOLUTIONAL, CHANNELS_LAST])
def test_a_backbone_pools_its_maps_by_the_definition(name: str, pooling: str) -> None:
    backbone = built(name, pooling)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    path = next(path for path, _ in backbone.named_modules() if path.split(".")[-1] == "global_pool")
    backbone.get_submodule(path).register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = backbone(images)
    assert features.shape == (2, backbone.head_hidden_size)
    ((maps, output),) = seen
    maps = maps.movedim(-1, 1) if name == CHANNELS_LAST else maps
    torch.testing.assert_close(output.flatten(1), pooled(maps, pooling), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
@pytest.mark.parametrize("name", [*CONVOLUTIONAL, CHANNELS_LAST])
def test_stripes_are_pooled_one_by_one(name: str, pooling: str) -> None:
    backbone = built(name, pooling, stripes=(1, 2))
    path = next(path for path, _ in backbone.named_modules() if path.split(".")[-1] == "global_pool")
    maps = torch.rand(2, 6, 4, 3, generator=torch.Generator().manual_seed(1)) + 0.1
    whole, upper, lower = (pooled(part, pooling) for part in (maps, maps[:, :, :2], maps[:, :, 2:]))
    output = backbone.get_submodule(path)(maps.movedim(1, -1) if name == CHANNELS_LAST else maps)
    expected = torch.stack([whole, upper, lower], dim=2).flatten(1)
    torch.testing.assert_close(output.flatten(1), expected, rtol=1e-4, atol=1e-5, check_dtype=False)
    with torch.no_grad():
        features = backbone(torch.zeros(2, 3, 64, 32))
    assert features.shape == (2, 3 * backbone.head_hidden_size)


@pytest.mark.parametrize(("height", "count"), [(8, 1), (8, 4), (7, 3), (24, 6), (3, 2)])
def test_stripes_are_cut_where_torch_cuts_them(height: int, count: int) -> None:
    maps = torch.randn(1, 2, height, 4, generator=torch.Generator().manual_seed(0))
    rows = stripe_rows(height, count)
    ours = torch.stack([maps[:, :, top:bottom].mean((2, 3)) for top, bottom in rows], dim=2)
    torch.testing.assert_close(ours, nn.functional.adaptive_avg_pool2d(maps, (count, 1))[..., 0])


def test_stripes_of_a_vit_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"model\.stripes is for convolutional networks; test_vit .*--model\.stripes 1"
    ):
        built("test_vit", "avg", stripes=(1, 2))


@pytest.mark.parametrize("name", [*CONVOLUTIONAL, CHANNELS_LAST])
def test_only_the_pooling_differs(name: str) -> None:
    with_mean, with_gem = built(name, "avg").state_dict(), built(name, "gem").state_dict()
    (exponent,) = set(with_gem) - set(with_mean)
    assert exponent.split(".")[-2:] == ["global_pool", "exponent"]
    assert all(torch.equal(value, with_gem[key]) for key, value in with_mean.items())


def test_convnext_normalizes_what_gem_pooled() -> None:
    backbone = built("convnext_atto", "gem")
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    expected = pooled(backbone.forward_features(images), "gem")
    norm = backbone.head.norm
    expected = nn.functional.layer_norm(expected, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    torch.testing.assert_close(backbone(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pooling", ["max", "gem"])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "test_vit"])
def test_a_vit_keeps_its_own_pooling(name: str, pooling: str) -> None:
    message = rf"model\.pooling {pooling} is for convolutional networks; {name} .*Set --model\.pooling avg"
    with pytest.raises(InputError, match=message):
        built(name, pooling)
    assert built(name, "avg")(torch.zeros(1, 3, 64, 32)).shape[0] == 1


def test_avg_leaves_the_backbone_as_it_is() -> None:
    backbone = built("resnet18", "avg")
    before = backbone.global_pool
    set_pooling(backbone, "avg", "resnet18")
    assert backbone.global_pool is before

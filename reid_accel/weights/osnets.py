"""OSNet in torchreid's names (Zhou et al. 2019 and 2021), with or without instance norm."""

from reid_accel.weights.necks import (
    FULLY_CONNECTED_LEFT_OUT,
    fully_connected_made,
    fully_connected_names,
    fully_connected_settings,
)
from reid_accel.weights.recognized import TRAINING_ONLY, Recognized, Tensors, backbone_names

OSNET_RULES = (
    (r"^conv([15])\.conv\.", r"conv\1.0."),
    (r"^conv([15])\.bn\.", r"conv\1.1."),
    (r"^conv(\d)\.2\.0\.conv\.", r"conv\1.2."),  # from a stage to the next
    (r"^conv(\d)\.2\.0\.bn\.", r"conv\1.3."),
    (r"^pool(\d)\.0\.conv\.", r"conv\1.2."),
    (r"^pool(\d)\.0\.bn\.", r"conv\1.3."),
    (r"\.conv2a\.", ".streams.0.0."),
    (r"\.conv2b\.", ".streams.1."),
    (r"\.conv2c\.", ".streams.2."),
    (r"\.conv2d\.", ".streams.3."),
    (r"\.conv2\.(\d)\.layers\.", r".streams.\1."),
    (r"(\.streams\.\d\.\d)\.conv1\.", r"\1.pointwise."),
    (r"(\.streams\.\d\.\d)\.conv2\.", r"\1.depthwise."),
    (r"(\.streams\.\d\.\d)\.bn\.", r"\1.norm."),
    (r"\.conv1\.conv\.", ".reduce.0."),
    (r"\.conv1\.bn\.", ".reduce.1."),
    (r"\.conv3\.conv\.", ".expand.0."),
    (r"\.conv3\.bn\.", ".expand.1."),
    (r"\.downsample\.conv\.", ".downsample.0."),
    (r"\.downsample\.bn\.", ".downsample.1."),
    (r"\.gate\.fc1\.", ".gate.squeeze."),
    (r"\.gate\.fc2\.", ".gate.excite."),
    (r"\.IN\.", ".after."),
)
AIN_RULES = (*OSNET_RULES[:-1], (r"\.IN\.", ".expand.1."))
_WIDTHS = {16: "x0_25", 32: "x0_5", 48: "x0_75", 64: "x1_0"}


def osnet_name(tensors: Tensors) -> str | None:
    """Our name of the OSNet with these tensors, None if they are another network's."""
    stem = tensors.get("conv1.conv.weight")
    if stem is None or "conv2.0.gate.fc1.weight" not in tensors or len(stem) not in _WIDTHS:
        return None
    has_instance_norm = any(".IN." in name for name in tensors)
    kind = "ain_" if _is_ain(tensors) else "ibn_" if has_instance_norm else ""
    return f"osnet_{kind}{_WIDTHS[len(stem)]}"


def _is_ain(tensors: Tensors) -> bool:
    return "pool2.0.conv.weight" in tensors


def osnet_rules(tensors: Tensors) -> tuple[tuple[str, str], ...]:
    """How torchreid's names become ours."""
    return AIN_RULES if _is_ain(tensors) else OSNET_RULES


def osnet(tensors: Tensors) -> Recognized | None:
    """torchreid's OSNet: a re-ID model, or one that only classified ImageNet."""
    name = osnet_name(tensors)
    if name is None:
        return None
    names = backbone_names(tensors, osnet_rules(tensors), without=lambda each: each.startswith(("fc.", "classifier.")))
    has_fc = "fc.0.weight" in tensors
    return Recognized(
        scheme="torchreid's OSNet",
        names=names | (fully_connected_names(tensors) if has_fc else {}),
        made=fully_connected_made(tensors) if has_fc else {},
        model={"backbone": name, "metric": "euclidean"} | (fully_connected_settings(tensors) if has_fc else {}),
        left_out={r"classifier\..*": TRAINING_ONLY} | FULLY_CONNECTED_LEFT_OUT,
    )

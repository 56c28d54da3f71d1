"""The graph that a tool needs, from the settings of an export."""

from dataclasses import replace
from typing import Literal

from reid_accel.config.export import ExportConfig
from reid_accel.config.export_graph import GraphOptions
from reid_accel.errors import InputError
from reid_accel.models.architecture import Architecture


def tool_graph(
    config: ExportConfig,
    *,
    flavor: Literal["raw", "inside"],
    caller: Literal["model", "imagenet"] = "model",
    pixel_range: Literal[1, 255] = 1,
    attributes: bool = False,
) -> GraphOptions:
    """RGB under the usual names, with the export's precision; tools that want one output get one."""
    return replace(
        config.graph,
        flavor=flavor,
        caller=caller,
        pixel_range=pixel_range,
        bgr=False,
        with_attributes=config.with_attributes and attributes,
        input_name="images",
        output_name="output0",
    )


def require_stretch(architecture: Architecture, tool: str) -> None:
    """Raise InputError for a model that was trained on letterboxed images, which the tool doesn't make."""
    if architecture.fit != "stretch":
        raise InputError(
            f"--for {tool}: {tool} can't letterbox crops as this model was trained (--model.fit {architecture.fit}), "
            "and stretched ones would give other features: train with --model.fit stretch, or leave this tool out"
        )

"""Repeat the proof of an exported model: python check.py MODEL.onnx (or .xml). Needs numpy and the model's runtime."""

import json
import sys
from pathlib import Path

import numpy as np


def main(path):  # type: ignore[no-untyped-def]
    if path.endswith(".onnx"):
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        info = json.loads(session.get_modelmeta().custom_metadata_map["reid_accel"])
        run = lambda images: session.run(None, {info["input_name"]: images})[0]  # noqa: E731
    else:
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        info = json.loads(model.get_rt_info(["reid_accel"]).value)
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        run = lambda images: compiled(images)[0]  # noqa: E731
    golden = Path(__file__).with_name("golden.safetensors").read_bytes()
    start = 8 + int.from_bytes(golden[:8], "little")
    entries, types = json.loads(golden[8:start]), {"images": np.uint8, "features": np.float32}
    images, wanted = (
        np.frombuffer(golden[start:][slice(*entries[name]["data_offsets"])], kind).reshape(entries[name]["shape"])
        for name, kind in types.items()
    )
    pixels = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    if info["normalize"] == "caller":
        pixels = (pixels - np.reshape(info["mean"], (3, 1, 1))) / np.reshape(info["std"], (3, 1, 1))
    pixels = (pixels[:, ::-1] if info["color"] == "bgr" else pixels) * info["pixel_range"]
    lowest = 1.0
    for size in (1, 2, 7, 32):
        parts = [np.ascontiguousarray(pixels[at : at + size], np.float32) for at in range(0, len(pixels), size)]
        found = np.concatenate([run(part) for part in parts])
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
        lowest = min(lowest, ((found * wanted).sum(1) / np.maximum(lengths, 1e-12))[wanted.any(1)].min(initial=1))
    needed = {"float32": 0.9999, "half": 0.999, "int8": 0.9}[info["precision"]]
    print(f"{path}: the lowest cosine with {len(wanted)} golden features at batch sizes 1, 2, 7, 32 is {lowest:.6f}")
    return 0 if lowest >= needed else f"{path} does not return the golden features: {needed} is needed"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) if len(sys.argv) == 2 else "usage: python check.py MODEL")

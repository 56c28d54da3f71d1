"""Compare an exported model (.onnx or .xml) with its golden features: python check.py MODEL

Needs numpy and the model's runtime, and nothing else.
"""

import json
import sys
from pathlib import Path

import numpy as np

TYPES = {"U8": np.uint8, "F32": np.float32}
LIMITS = {"float32": 0.9999, "half": 0.999, "int8": 0.9}


def main(path):  # type: ignore[no-untyped-def]
    golden = Path(__file__).with_name("golden.safetensors").read_bytes()
    start = 8 + int.from_bytes(golden[:8], "little")
    arrays = {}
    for name, entry in json.loads(golden[8:start]).items():
        if name != "__metadata__":
            first, end = entry["data_offsets"]
            arrays[name] = np.frombuffer(golden[start + first : start + end], TYPES[entry["dtype"]]).reshape(
                entry["shape"]
            )
    run, info = opened(path)
    pixels = arrays["images"].transpose(0, 3, 1, 2).astype(np.float32) / 255
    if info["normalize"] == "caller":
        mean, std = (np.array(info[name], np.float32).reshape(1, 3, 1, 1) for name in ("mean", "std"))
        pixels = (pixels - mean) / std
    pixels = (pixels[:, ::-1] if info["color"] == "bgr" else pixels) * info["pixel_range"]
    lowest = 1.0
    for size in (1, 2, 7, 32):
        found = np.concatenate([run(np.ascontiguousarray(part, np.float32)) for part in batches(pixels, size)])
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(arrays["features"], axis=1)
        cosines = (found * arrays["features"]).sum(1) / np.where(lengths > 0, lengths, 1)
        lowest = min(lowest, float(cosines[lengths > 0].min(initial=1)))
    limit = LIMITS[info["precision"]]
    print(f"{path}: lowest cosine with {len(pixels)} golden features at batch sizes 1, 2, 7, 32: {lowest:.6f}")
    return 0 if lowest >= limit else f"{path} does not return the golden features: the cosine must be {limit} or more"


def batches(pixels, size):  # type: ignore[no-untyped-def]
    return [pixels[first : first + size] for first in range(0, len(pixels), size)]


def opened(path):  # type: ignore[no-untyped-def]
    if path.endswith(".onnx"):
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        info = json.loads(session.get_modelmeta().custom_metadata_map["reid_accel"])
        return lambda part: session.run(None, {info["input_name"]: part})[0], info
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda part: compiled(part)[0], json.loads(model.get_rt_info(["reid_accel"]).value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) if len(sys.argv) == 2 else "usage: python check.py MODEL")

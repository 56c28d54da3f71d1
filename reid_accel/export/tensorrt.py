"""TensorRT builds its engine on its own GPU: the command that does so, from the ONNX file."""

from reid_accel.export.job import Written

TENSORRT_FILE = "trtexec.sh"
BATCHES = (1, 8, 32)


def trtexec_line(onnx: Written) -> str:
    """The `trtexec` command for a file: 16 bits, batches from 1 to 32."""
    info = onnx.info
    shapes = [f"{info.input_name}:{batch}x3x{info.height_px}x{info.width_px}" for batch in BATCHES]
    engine = onnx.path.with_suffix(".engine").name
    words = ["trtexec", f"--onnx={onnx.path.name}", f"--saveEngine={engine}", "--fp16"]
    words += [f"--{kind}Shapes={shape}" for kind, shape in zip(("min", "opt", "max"), shapes, strict=True)]
    return " ".join(words) + "\n"

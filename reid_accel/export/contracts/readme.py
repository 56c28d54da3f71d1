"""The README.md in a tool's folder: where its files go, in a few lines."""

from pathlib import Path

from reid_accel.export.job import Written
from reid_accel.files import write_text

RESIZES = {
    "bilinear": "Pillow's bilinear filter, which antialiases",
    "bicubic": "Pillow's bicubic filter, which antialiases",
    "cv2": "OpenCV's INTER_LINEAR",
}


def write_readme(folder: Path, tool: str, lines: list[str], written: Written | None = None) -> None:
    """Write the lines under the tool's name, and what a file was proven on."""
    proof = [] if written is None else [proven(written)]
    text = "\n".join([f"# For {tool}", "", *(f"{number}. {line}" for number, line in enumerate([*lines, *proof], 1))])
    write_text(folder / "README.md", text + "\n")


def proven(written: Written) -> str:
    """One sentence on a file's proof."""
    proof = written.proof
    return (
        f"Proven: `{written.path.name}` returned the model's features for {proof.num_images} images at batch sizes "
        f"{', '.join(map(str, proof.batches))} (lowest cosine {proof.lowest_cosine:.6f})."
    )


def resize_line(tool: str, does: str, interpolation: str) -> str:
    """How the tool brings crops to the network's size, and how the model was trained."""
    trained = RESIZES[interpolation]
    if does == trained:
        return f"{tool} resizes crops by {does}, as the model was trained."
    remedy = "; `--model.interpolation cv2` trains for it" if does == RESIZES["cv2"] else ""
    return f"{tool} resizes crops by {does}; the model was trained with {trained}{remedy}."

"""The package's core in one process: train, resume, score, predict. Run as a script, with `remove` or `keep`."""

import multiprocessing
import os
import sys
from pathlib import Path

TINY = (
    "--model.backbone=test_resnet", "--model.no-pretrained", "--model.neck=fc", "--model.height-px=64",
    "--model.width-px=32", "--run.mixed-precision=no", "--run.cpu-threads=1", "--data.synthetic-identities=30",
    "--data.cache-dir=cache", "--train.batch-size=16", "--train.ema-decay=0.9", "--run.dir=run", "--run.deterministic",
    "--augment.trivial-augment=0.5", "--augment.erase-probability=0.5", "--score.shown-queries=1",
)  # fmt: skip


def main() -> None:
    """Everything that a run leaves is in the working folder afterwards."""
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import huggingface_hub  # noqa: F401
    import rich.progress  # noqa: F401
    import timm  # noqa: F401

    if sys.argv[1] == "remove":
        import sitecustomize

        sitecustomize.remove()
        os.environ["OTHER_SYSTEM"] = "at the start"  # of the processes that this one spawns
        assert not hasattr(os, "sched_getaffinity")
        assert not hasattr(os, "fork")
    from reid_accel.cli import run_script

    run_script("train", [*TINY, "--train.epochs=1"])
    run_script("train", [*TINY, "--train.epochs=2", "--run.resume=auto", "--run.resume-anyway"])
    data = ["--data.name=synthetic", "--data.synthetic-identities=30", "--data.cache-dir=cache"]
    run_script("score", ["--model=run/model", *data, "--features=features", "--dir=score", "--score.rerank"])
    gallery = next(Path("cache").rglob("bounding_box_test"))
    images = [f"--queries={gallery.parent / 'query'}", f"--test={gallery}", "--cache-dir=cache"]
    run_script("predict", ["--model=run/model", *images, "--dir=predict"])
    print("start method:", multiprocessing.get_start_method())


if __name__ == "__main__":
    main()

"""Score a saved model on a data set, on any number of processes.

accelerate launch reid_accel/score.py --model RUN/model --data.name market1501 --data.root FOLDER
"""

import sys
from collections.abc import Sequence

from reid_accel.config import RunConfig, ScoringConfig, parse, to_dict
from reid_accel.finish import data_facts, score_and_report
from reid_accel.models.reid import load_model, on_device
from reid_accel.reporting.report import ReportFrame
from reid_accel.reporting.tables import print_report
from reid_accel.reporting.terminal import open_console, sentences_for_users
from reid_accel.training.agreement import start_accelerator
from reid_accel.training.run_data import open_data, split_training_images
from reid_accel.training.run_folder import choose_run_folder


def main(arguments: Sequence[str] | None = None) -> None:
    """The script: a model and a data set in, a report out; a user's mistake becomes a sentence."""
    with sentences_for_users():
        score(parse(ScoringConfig, sys.argv[1:] if arguments is None else arguments))


def score(config: ScoringConfig) -> None:
    """Embed the data set's test images on all processes, score and report on process 0."""
    accelerator = start_accelerator("no")
    console = open_console(accelerator.is_main_process)
    with accelerator.local_main_process_first():  # one download per machine
        model = load_model(config.model)
    model = on_device(model, accelerator.device)
    data = open_data(config.data, model.architecture, accelerator, console.print)
    training, held_out = split_training_images(data.splits["train"], config.data.validation_share)
    validation = None if data.labelled_test else held_out  # without labels the held-out people are all there is
    folder = choose_run_folder(RunConfig(name="score", dir=config.dir), accelerator)
    frame: ReportFrame = {
        "title": f"{config.model} on {config.data.name}",
        "config": to_dict(config),
        "data": data_facts(data, config.data.name, config.data.root),
        "training": None,
    }
    report = score_and_report(
        model,
        data,
        validation,
        training.images,
        accelerator,
        config.score,
        folder,
        seed=config.seed,
        frame=frame,
        console=console,
    )
    if report is not None:
        print_report(console, report)
        console.print(f"report: {folder / 'report.html'}", soft_wrap=True)


if __name__ == "__main__":
    main()

"""A report for the tests of page, card and terminal."""

import numpy as np

from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.reporting.schema import Report


def example_report() -> Report:
    """A complete report with made-up numbers, as the trainer builds it."""
    groups = [group.name for group in MARKET_GROUPS]
    rng = np.random.default_rng(7)
    baselines = rng.uniform(0.4, 0.95, len(groups))
    accuracies = baselines + rng.uniform(-0.02, 0.6, len(groups)) * (1 - baselines)
    history = [
        {
            "epoch": epoch,
            "loss": 5.0 * 0.85**epoch + 0.5 + 1.4 * 0.9**epoch + 0.3,
            "losses": {"identity": 5.0 * 0.85**epoch + 0.5, "attributes": 1.4 * 0.9**epoch + 0.3},
            "identity_accuracy": 1 - 0.9 * 0.88**epoch,
            "attribute_accuracy": 1 - 0.35 * 0.88**epoch,
            "learning_rate": 3e-4 * min(1.0, epoch / 3) * (0.5 + 0.5 * np.cos(np.pi * epoch / 24)),
            "images_per_second": 182 + 8 * rng.random(),
            "validation_protocol": "market1501",
            "validation_mAP": 0.72 - 0.55 * 0.86**epoch + 0.01 * rng.random(),
            "validation_attribute_accuracy": 0.88 - 0.2 * 0.85**epoch,
        }
        for epoch in range(1, 25)
    ]
    scores = {
        "split": "query vs. gallery",
        "protocol": "market",
        "average_precision": "standard",
        "metric": "euclidean",
        "rerank": None,
        "query_expansion": None,
        "flip": False,
        "crops": 1,
        "stamp": "protocol=market ap=standard metric=euclidean rerank=none queries=240 gallery=1200",
        "mAP": 0.6873,
        "mINP": 0.3321,
        "cmc": {"1": 0.8417, "5": 0.9333, "10": 0.9625, "20": 0.9792},
        "tpr_at_fpr": {"0.001": 0.4312, "0.01": 0.7021, "0.1": 0.9312},
        "num_queries": 242,
        "num_valid": 240,
        "num_left_out": 2,
        "num_gallery": 1200,
    }
    return {
        "format": 1,
        "title": "quickstart: ResNet-18 on the synthetic mini-Market",
        "created": "2026-03-04T15:09:26+00:00",
        "software": {
            "reid_accel": "0.1.0",
            "python": "3.11.9",
            "torch": "2.8.0",
            "accelerate": "1.15.0",
            "timm": "1.0.31",
            "commit": "117bdb9",
        },
        "hardware": {
            "device": "cpu",
            "processes": 1,
            "mixed_precision": "bf16",
            "cpu": "Example CPU 8480",
            "threads": 2,
            "deterministic": False,
        },
        "config": {
            "data": {"name": "synthetic", "seed": 0, "size": [128, 64]},
            "model": {"backbone": "resnet18", "last_stride": 1, "pretrained": False},
            "optim": {"name": "adamw", "learning_rate": 0.0003, "weight_decay": 0.0005},
        },
        "data": {
            "name": "synthetic",
            "root": "/home/user/.cache/reid_accel/synthetic-0",
            "fingerprint": "9f2c1a7b30de",
            "splits": {
                "train": {"images": 2400, "identities": 120, "cameras": 6},
                "query": {"images": 242, "identities": 60, "cameras": 6},
                "gallery": {"images": 1200, "identities": 62, "cameras": 6},
            },
            "warnings": ["query/0031_c2_000045.jpg: 2 queries have no other picture of the same person."],
            "skipped_images": [{"name": "0042_c1_000017.jpg", "reason": "image file is truncated"}],
        },
        "training": {
            "epochs": 24,
            "steps": 1800,
            "minutes": 3.9,
            "images_per_second": 184.2,
            "best_epoch": 22,
            "seed": 0,
            "history": history,
        },
        "retrieval": [
            scores,
            {**scores, "rerank": "k-reciprocal", "mAP": 0.7712, "mINP": 0.48, "tpr_at_fpr": {}},
            {**scores, "protocol": "course-strict", "mAP": 0.7214, "num_left_out": 0, "tpr_at_fpr": {}},
            {**scores, "protocol": "course", "mAP": 0.7391, "num_left_out": 0, "tpr_at_fpr": {}},
        ],
        "attributes": {
            "split": "gallery",
            "train_split": "train",
            "conventions": {
                "12 groups": {"accuracy": 0.8472, "majority_baseline": 0.7123, "num_images": 1200},
                "27 columns": {"accuracy": 0.9214, "majority_baseline": 0.8632, "num_images": 1200},
                "30 binaries": {
                    "accuracy": 0.9182,
                    "majority_baseline": 0.8604,
                    "num_images": 1200,
                    "mA": 0.8011,
                    "instance_accuracy": 0.7012,
                    "instance_precision": 0.8112,
                    "instance_recall": 0.8223,
                    "instance_f1": 0.8167,
                    "columns_left_out": ["downpurple"],
                },
            },
            "per_group": [
                {
                    "name": name,
                    "accuracy": float(accuracy),
                    "majority_baseline": float(baseline),
                    "balanced_accuracy": float(accuracy) * 0.9,
                    "macro_f1": float(accuracy) * 0.88,
                    "num_images": 1200,
                }
                for name, accuracy, baseline in zip(groups, accuracies, baselines, strict=True)
            ],
        },
        "junk": {"auc": 0.8734, "num_people": 1000, "num_junk": 200},
    }

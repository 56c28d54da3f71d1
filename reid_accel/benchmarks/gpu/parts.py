"""All parts of the benchmark in order of value, with the time that each needs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reid_accel.benchmarks.gpu import correctness, limits, ranking, real_images, scoring, speed, usual_loop
from reid_accel.benchmarks.gpu.rows import REAL, RIGHT, SCORING, TRAINING, Row
from reid_accel.benchmarks.gpu.setup import Setup


@dataclass(frozen=True)
class Part:
    """seconds: what it needs on a GPU, by estimate; it isn't started with less time left."""

    section: str
    title: str
    run: Callable[[Setup], Iterator[Row]]
    seconds: float


RIGHT_PARTS = (
    Part(RIGHT, "a step against the CPU", correctness.step_against_cpu, 15),
    Part(RIGHT, "bf16 against float32", correctness.bf16_against_float32, 8),
    Part(RIGHT, "the same seed twice", correctness.same_seed_twice, 12),
    Part(RIGHT, "stop and resume", correctness.stop_and_resume, 12),
    Part(RIGHT, "augmentation against the CPU", correctness.augmentation_against_cpu, 5),
    Part(RIGHT, "embeddings against the CPU", ranking.embeddings_against_cpu, 10),
    Part(RIGHT, "ranking against the CPU", ranking.ranking_against_cpu, 10),
    Part(RIGHT, "EMA", correctness.ema_by_hand, 5),
    Part(RIGHT, "no wait for the device within a step", correctness.no_host_reads, 5),
    Part(RIGHT, "out of memory", limits.out_of_memory, 10),
    Part(RIGHT, "collectives with one process", limits.collectives, 8),
    Part(RIGHT, "FSDP with one process", limits.sharded_weights, 10),
)
COMPILED = Part(RIGHT, "torch.compile on and off", correctness.compiled_against_eager, 60)


def all_parts(*, large: bool) -> tuple[Part, ...]:
    """The parts at the sizes of a GPU, or at small ones for the CPU."""
    batches, workers = (speed.BATCHES, (8, 16)) if large else (speed.SMALL_BATCHES, (1,))
    training = [Part(TRAINING, f"batch {size}", speed.speed_at(size), 12) for size in batches]
    training += [Part(TRAINING, f"usual loop, {count} workers", usual_loop.usual_loop(count), 15) for count in workers]
    training.append(Part(TRAINING, "profile", speed.profiled_loop, 10))
    compiled = [Part(TRAINING, "batch 256, compiled", speed.speed_at(256, compiled=True), 60)] if large else []
    scores = [
        Part(SCORING, "embedding", scoring.embedding_speed, 10),
        Part(SCORING, "ranking", scoring.ranking_speed(scoring.MARKET), 6),
        Part(SCORING, "ranking with distractors", scoring.ranking_speed(scoring.DISTRACTORS), 20),
        Part(SCORING, "re-ranking", scoring.ranking_speed(scoring.MARKET_RERANKED), 30),
    ]
    real = [Part(REAL, real_images.RECIPE.name, real_images.recipe_run, 60)]
    last = [Part(SCORING, "re-ranking with distractors", scoring.ranking_speed(scoring.DISTRACTORS_RERANKED), 150)]
    return (*RIGHT_PARTS, COMPILED, *training, *compiled, *scores, *real, *(last if large else []))

"""How a run's processes start, in the environments of launchers, job scripts, notebooks and threads."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import GradientAccumulationPlugin
from helpers.launch_answers import environment_of
from helpers.launching import TINY
from helpers.trainers import trainer

from reid_accel.config.environment import ignored_settings
from reid_accel.config.schema import Config, OptimConfig, RunConfig, TrainConfig
from reid_accel.distributed.setup import process_group_scope, start_accelerator
from reid_accel.errors import InputError
from reid_accel.train import main as train
from reid_accel.training.metrics import EpochSums


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No state and no variables of a launcher but those that a test sets."""
    for name in list(os.environ):
        if name.startswith(("ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_", "MASTER_")):
            monkeypatch.delenv(name)
    yield
    for state in (PartialState, AcceleratorState, GradientState):
        state._shared_state.clear()


WORKS = "works"
ANSWERS: list[tuple[str, dict[str, Any], str]] = [
    ("one process", {}, WORKS),
    ("CPU only", {"use_cpu": True}, WORKS),
    ("debug", {"debug": True}, WORKS),
    ("numa efficiency", {"enable_cpu_affinity": True}, WORKS),
    ("one GPU by number", {"gpu_ids": "0"}, WORKS),
    ("fp16", {"mixed_precision": "fp16"}, WORKS),
    ("bf16", {"mixed_precision": "bf16"}, WORKS),
    ("several GPUs", {"distributed_type": "MULTI_GPU", "num_processes": 2}, WORKS),
    ("several NPUs", {"distributed_type": "MULTI_NPU", "num_processes": 2}, WORKS),
    ("several XPUs", {"distributed_type": "MULTI_XPU", "num_processes": 2}, WORKS),
    ("several CPU processes", {"distributed_type": "MULTI_CPU", "num_processes": 2, "use_cpu": True}, WORKS),
    (
        "several machines",
        {"distributed_type": "MULTI_GPU", "num_processes": 4, "num_machines": 2, "machine_rank": 1}
        | {"main_process_ip": "127.0.0.1", "main_process_port": 29511},
        WORKS,
    ),
    *(
        (f"dynamo {backend}", {"dynamo_config": {"dynamo_backend": backend, **more}}, WORKS)
        for backend, more in (
            ("INDUCTOR", {"dynamo_mode": "max-autotune", "dynamo_use_fullgraph": True}),
            ("EAGER", {"dynamo_use_dynamic": True}),
            ("AOT_EAGER", {"dynamo_use_regional_compilation": True}),
            ("CUDAGRAPHS", {}),
            ("TENSORRT", {}),
        )
    ),
    *(
        (
            f"DeepSpeed stage {stage}",
            {"distributed_type": "DEEPSPEED", "num_processes": 2}
            | {"deepspeed_config": {"zero_stage": stage, "gradient_accumulation_steps": 4, "gradient_clipping": 1.0}},
            r"enables DeepSpeed \(ACCELERATE_USE_DEEPSPEED\)",
        )
        for stage in (0, 1, 2, 3)
    ),
    (
        "a DeepSpeed file",
        {"distributed_type": "DEEPSPEED", "num_processes": 2, "mixed_precision": None}
        | {"deepspeed_config": {"deepspeed_config_file": "ds.json", "zero3_init_flag": True}},
        r"enables DeepSpeed \(ACCELERATE_USE_DEEPSPEED\)",
    ),
    *(
        (
            f"FSDP {version}",
            {"distributed_type": "FSDP", "num_processes": 2}
            | {"fsdp_config": {"fsdp_version": version, "fsdp_offload_params": True}},
            r"enables Accelerate's FSDP \(ACCELERATE_USE_FSDP\)",
        )
        for version in (1, 2)
    ),
    (
        "tensor parallelism",
        {"distributed_type": "FSDP", "num_processes": 2, "fsdp_config": {"fsdp_version": 2}}
        | {"parallelism_config": {"parallelism_config_tp_size": 2}},
        "enables Accelerate's FSDP",
    ),
    (
        "Megatron-LM",
        {"distributed_type": "MEGATRON_LM", "num_processes": 2}
        | {"megatron_lm_config": {"megatron_lm_tp_degree": 2, "megatron_lm_num_micro_batches": 4}},
        r"enables Megatron-LM \(ACCELERATE_USE_MEGATRON_LM\)",
    ),
]


@pytest.mark.parametrize(("answers", "outcome"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_each_answer_to_accelerate_config_works_or_is_refused_with_a_sentence(
    answers: dict[str, Any], outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment_of(tmp_path, **answers).items():
        monkeypatch.setenv(name, value)
    with process_group_scope():
        if outcome != WORKS:
            with pytest.raises(InputError, match=outcome):
                start_accelerator("no", accumulation_steps=2, asked_threads=1)
            return
        accelerator = start_accelerator("no", accumulation_steps=2, asked_threads=1)
        assert accelerator.gradient_accumulation_steps == 2
        assert accelerator.mixed_precision == "no"
        assert accelerator.state.dynamo_plugin.backend.value == "NO"
        assert (accelerator.distributed_type.value, accelerator.num_processes) == ("NO", 1)


def test_a_launchers_fp8_is_refused_unless_the_run_names_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    from reid_accel.hardware import choose_precision

    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(InputError, match="the launcher asks for precision fp8"):
        choose_precision("auto", 64)
    assert choose_precision("bf16", 64) == "bf16"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "BF16")
    assert choose_precision("auto", 32) == "bf16"


CHANGING = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1", "4", "3"),
    "ACCELERATE_DYNAMO_BACKEND": ("INDUCTOR", "eager", "aot_eager"),
    "ACCELERATE_DYNAMO_MODE": ("max-autotune",),
    "ACCELERATE_DYNAMO_USE_FULLGRAPH": ("true",),
    "ACCELERATE_GRADIENT_CLIPPING": ("0.001",),
    "ACCELERATE_MIXED_PRECISION": ("bf16", "fp16", "fp8"),
    "ACCELERATE_USE_CPU": ("1", "yes", "True", "false"),
    "ACCELERATE_TORCH_DEVICE": ("cpu",),
    "ACCELERATE_DOWNCAST_BF16": ("true",),
    "ACCELERATE_DEBUG_MODE": ("1",),
    "ACCELERATE_CPU_AFFINITY": ("1",),
    "ACCELERATE_BYPASS_DEVICE_MAP": ("true",),
    "ACCELERATE_FP8_BACKEND": ("NO",),
    "ACCELERATE_FP8_USE_AUTOCAST_DURING_EVAL": ("true",),
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": ("3",),
    "ACCELERATE_ALLOW_CP_STANDALONE": ("true",),
    "FSDP_OFFLOAD_PARAMS": ("true",),
    "MEGATRON_LM_GRADIENT_CLIPPING": ("0.1",),
    "PARALLELISM_CONFIG_TP_SIZE": ("2",),
    "FORK_LAUNCHED": ("1",),
}


def weights_after_three_steps(root: Path) -> list[torch.Tensor]:
    more = ("--train.accumulation-steps=2", "--train.ema-decay=0.9", "--loss.center=0.001")
    with process_group_scope():
        torch.manual_seed(0)
        built = trainer(root, *more)
        sums = EpochSums.restored({}, built.accelerator)
        batches = built.open_batches(built.epoch_batches(0)[:3], epoch=0)
        for step in range(3):
            sums = built.step(batches, step, sums)
        assert built.updates.number == 3
        return [value.clone() for value in built.unwrapped.state_dict().values()]


def test_no_variable_changes_what_a_run_computes(small_market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = weights_after_three_steps(small_market)
    for name, values in CHANGING.items():
        for value in values:
            with monkeypatch.context() as changed:
                changed.setenv(name, value)
                got = weights_after_three_steps(small_market)
            assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True)), f"{name}={value}"


def test_a_launchers_compiler_does_not_disturb_averages_and_centers(
    small_market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`accelerate launch --dynamo_backend inductor`, and a job script's accumulation."""
    arguments = [
        *TINY, "--data.name=market-layout", f"--data.root={small_market}", f"--data.cache-dir={tmp_path / 'cache'}",
        "--data.validation-share=0", "--train.epochs=1", "--train.batch-size=8", "--train.ema-decay=0.9",
        "--loss.center=0.001", "--train.accumulation-steps=2",
    ]  # fmt: skip
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    train([*arguments, f"--run.dir={tmp_path / 'plain'}"])
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    capsys.readouterr()
    train([*arguments, f"--run.dir={tmp_path / 'launched'}"])
    said = capsys.readouterr().out
    assert "ACCELERATE_DYNAMO_BACKEND=INDUCTOR is not used: the run's own setting, --run.compile, wins" in said
    assert "ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4 is not used" in said
    model = "model/model.safetensors"
    assert (tmp_path / "plain" / model).read_bytes() == (tmp_path / "launched" / model).read_bytes()


def test_a_compiled_run_has_averages_and_centers(small_market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiling = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiling(module, backend="eager"))  # in seconds
    more = ("--run.compile", "--train.ema-decay=0.9", "--loss.center=0.001")
    with process_group_scope():
        built = trainer(small_market, *more)
        assert built.ema is not None
        before = built.unwrapped.center_IE.clone()
        batches = built.open_batches(built.epoch_batches(0)[:1], epoch=0)
        built.step(batches, 0, EpochSums.restored({}, built.accelerator))
        assert built.updates.number == 1
        assert not torch.equal(built.unwrapped.center_IE, before)
        assert built.ema.model.state_dict().keys() == built.unwrapped.state_dict().keys()
        assert not any("_orig_mod" in name for name in built.unwrapped.state_dict())
    torch.compiler.reset()


REFUSED = [
    *(
        (name, value, "launch file or environment enables")
        for name in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_MEGATRON_LM")
        for value in ("true", "1", "True")
    ),
    ("ACCELERATE_USE_PARALLELISM_CONFIG", "true", "tensor and context parallelism"),
    ("ACCELERATE_USE_SAGEMAKER", "true", "SageMaker"),
    ("ACCELERATE_FP8_BACKEND", "TE", "enables 8-bit training"),
    ("ACCELERATE_FP8_BACKEND", "MSAMP", "enables 8-bit training"),
    ("ACCELERATE_FP8_BACKEND", "ao", "enables 8-bit training"),
    ("ACCELERATE_USE_CPU", "perhaps", "must be true or false, got 'perhaps'"),
    ("ACCELERATE_USE_CPU", "", "is set but empty"),
    ("ACCELERATE_DEBUG_MODE", "2", "must be true or false"),
    ("ACCELERATE_TORCH_DEVICE", "meta", "must be one of cpu, cuda"),
    ("ACCELERATE_TORCH_DEVICE", "cuda:x", "must be one of cpu, cuda"),
    ("ACCELERATE_TORCH_DEVICE", "cuda:99", "cannot compute on cuda:99"),
    ("WORLD_SIZE", "two", "must be an integer, got 'two'"),
    ("LOCAL_RANK", "", "must be an integer, got ''"),
    ("TORCHELASTIC_RESTART_COUNT", "x", "must be an integer"),
    ("WORLD_SIZE", "2", "the launcher started 2 processes, but accelerate connected 1"),
]


@pytest.mark.parametrize(("name", "value", "sentence"), REFUSED)
def test_what_a_run_cannot_be_started_with_is_refused(
    name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    if name == "WORLD_SIZE":
        monkeypatch.setattr("torch.accelerator.is_available", lambda: True)  # a GPU that accelerate doesn't find
    with process_group_scope(), pytest.raises(InputError, match=sentence):
        start_accelerator("no")


def test_processes_of_mpirun_are_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with process_group_scope(), pytest.raises(InputError, match="mpirun has started 2 processes"):
        start_accelerator("no")


def test_what_the_launcher_asked_for_in_vain_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(train=TrainConfig(accumulation_steps=2), optim=OptimConfig(clip_norm=1.0))
    assert list(ignored_settings(config)) == []
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "NO")
    monkeypatch.setenv("ACCELERATE_GRADIENT_CLIPPING", "1.0")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")  # auto takes it
    assert list(ignored_settings(config)) == []
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    said = list(ignored_settings(Config(run=RunConfig(mixed_precision="no"))))
    for setting in ("--train.accumulation-steps", "--optim.clip-norm", "--run.compile", "--run.mixed-precision"):
        assert sum(setting in sentence for sentence in said) == 1


def test_an_optimizer_that_makes_other_steps_than_the_run_ends_it(small_market: Path) -> None:
    with process_group_scope():
        built = trainer(small_market, "--train.accumulation-steps=2")
        for wrong in (1, 4, 3):
            built.accelerator.step, built.accelerator.gradient_state.plugin_kwargs["num_steps"] = 0, wrong
            batches = built.open_batches(built.epoch_batches(0)[:1], epoch=0)
            with pytest.raises(InputError, match=r"made \d updates of the weights instead of one"):
                built.step(batches, 0, EpochSums.restored({}, built.accelerator))


def test_the_callers_accelerator_is_set_aside_and_is_the_same_afterwards() -> None:
    plugin = GradientAccumulationPlugin(num_steps=5)
    callers = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_plugin=plugin, dynamo_backend="eager")
    for _ in range(2):
        with process_group_scope():
            accelerator = start_accelerator("no", accumulation_steps=2, asked_threads=1)
            assert (accelerator.mixed_precision, accelerator.gradient_accumulation_steps) == ("no", 2)
            assert accelerator.state.dynamo_plugin.backend.value == "NO"
        assert (callers.mixed_precision, callers.gradient_accumulation_steps) == ("bf16", 5)
        assert callers.state.dynamo_plugin.backend.value == "EAGER"


def test_a_second_run_in_another_thread_has_to_wait_for_the_first() -> None:
    said: list[str] = []

    def second() -> None:
        try:
            with process_group_scope():
                pass
        except InputError as error:
            said.append(str(error))

    with process_group_scope():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "another thread of this Python process" in said[0]
    thread = threading.Thread(target=second)
    thread.start()
    thread.join()
    assert len(said) == 1

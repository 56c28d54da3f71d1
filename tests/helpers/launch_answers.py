"""What `accelerate launch` puts into the environment for the answers given to `accelerate config`."""

from pathlib import Path
from typing import Any

import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import (
    prepare_deepspeed_cmd_env,
    prepare_multi_gpu_env,
    prepare_simple_launcher_cmd_env,
    prepare_tpu,
)

ANSWERED = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "NO",
    "num_processes": 1,
    "num_machines": 1,
    "machine_rank": 0,
    "mixed_precision": "no",
    "main_process_port": 0,
    "use_cpu": False,
    "debug": False,
    "downcast_bf16": "no",
    "enable_cpu_affinity": False,
    "main_training_function": "main",
    "rdzv_backend": "static",
    "same_network": True,
}


def environment_of(folder: Path, **answers: Any) -> dict[str, str]:
    """The variables of the started processes, by Accelerate's own code; `answers` replace the defaults."""
    file = folder / "default_config.yaml"
    file.write_text(yaml.safe_dump(ANSWERED | answers), encoding="utf-8")
    parsed = launch_command_parser().parse_args(["--config_file", str(file), "train.py"])
    arguments, _, _ = _validate_launch_command(parsed)
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = "gradient_accumulation_steps"
        return dict(prepare_deepspeed_cmd_env(arguments)[1])
    if arguments.tpu:
        return dict(prepare_tpu(arguments, {})[1])
    if arguments.use_fsdp or arguments.use_megatron_lm or arguments.multi_gpu:
        return dict(prepare_multi_gpu_env(arguments))
    return dict(prepare_simple_launcher_cmd_env(arguments)[1])

#!/bin/bash
# Two machines of 4 GPUs under SLURM:  sbatch launch/slurm.sh --config configs/market1501.yaml --data.root /data/Market-1501
# Run it from the repository's root, in the environment where reid_accel is installed. A job that is ended before its
# time (preemption, time limit) gets SIGTERM 120 s before, writes a checkpoint, and is put back into the queue to go on.
#SBATCH --job-name=reid_accel
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
#SBATCH --signal=TERM@120
set -euo pipefail

folder=runs/slurm-${SLURM_JOB_ID}
gpus_per_node=${SLURM_GPUS_ON_NODE:-4}
first_machine=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

export SLURM_FIRST_MACHINE=$first_machine SLURM_RUN_PROCESSES=$((SLURM_NNODES * gpus_per_node))
srun --kill-on-bad-exit=1 bash -c '
  exec accelerate launch --config_file launch/multi_node.yaml \
    --num_machines "$SLURM_NNODES" --num_processes "$SLURM_RUN_PROCESSES" --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$SLURM_FIRST_MACHINE" --main_process_port 29500 \
    reid_accel/train.py "$@"' launcher "$@" --run.dir "$folder" --run.resume auto || code=$?

if [ -f "$folder/STOPPED" ]; then # an orderly stop with a checkpoint, not a failure
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "${code:-0}"

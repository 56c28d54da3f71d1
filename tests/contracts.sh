#!/usr/bin/env bash
# Loads exports by the classes of the tools that they are for, BoxMOT and ultralytics too: both are AGPL and large, so they
# get an environment of their own, which is removed at the end. Takes minutes and a package index.
#   tests/contracts.sh            with a small random network
#   tests/contracts.sh MODEL      with the model folder MODEL, which gives the numbers in README.md
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
python3 -m venv "$environment/venv"
if python3 -c "import torch" 2>/dev/null; then # gigabytes that needn't be downloaded again
  python3 -c "import torch, pathlib; print(pathlib.Path(torch.__file__).parents[1])" \
    >"$environment/venv/lib/$(ls "$environment/venv/lib")/site-packages/torch.pth"
fi
# shellcheck disable=SC1091
source "$environment/venv/bin/activate"
export HF_HUB_OFFLINE=1 YOLO_OFFLINE=true YOLO_CONFIG_DIR="$environment/yolo"

pip install --quiet -e ".[test,export,contracts]" boxmot==25.0.0 ultralytics==8.4.190
CONTRACTS_MODEL=${1:-} python -m pytest -s -m contracts tests/export tests/data/test_images.py ${1:+-k "boxmots_own or ultralytics_own"}

#!/usr/bin/env bash
# The main job on a fresh machine: install, prepare the built-in text, train and record every step, export, compare, slice.
# Everything it makes is in .venv and demo; run it again to make demo anew.
set -euo pipefail
cd "$(dirname "$0")/.."

python3 -m venv .venv
.venv/bin/pip install --quiet -c constraints.txt -e '.[train,fast]'
export PATH=$PWD/.venv/bin:$PATH

trainer prepare demo/data --overwrite
trainer run --preset demo --data demo/data --out demo/run --overwrite --export
trajectory-store info demo/run/trajectory
trajectory-store compare demo/run/trajectory demo/run/demo_trajectory.safetensors
trajectory-store slice demo/run/trajectory W "::50, 17, :4"

#!/bin/sh
# Times the networks in Squall and, where Python finds PyTorch, in eager PyTorch on the same weights and inputs.
# Arguments are passed on to the example `bench_forward`, such as --config full --threads 2.
set -eu
cd "$(dirname "$0")/../.."
out=$(mktemp)
trap 'rm -f "$out"' EXIT
cargo run --release -q -p squall-models --example bench_forward -- "$@" | tee "$out"
if python3 -c 'import torch' 2>/dev/null; then
    python3 models/benches/pytorch_eager.py "$out"
else
    echo "Python finds no PyTorch: no comparison (pip install torch==2.11.0 numpy)" >&2
fi

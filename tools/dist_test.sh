#!/usr/bin/env bash
# Test on several devices: tools/dist_test.sh CONFIG WEIGHTS NUM [options of main.py]
set -eu
if [ "$#" -lt 3 ]; then
    echo "usage: tools/dist_test.sh CONFIG WEIGHTS NUM [options of main.py]" >&2
    exit 2
fi
config=$1 weights=$2 num=$3
shift 3
main=$(dirname "$0")/../main.py
exec "${PYTHON:-python}" -m paddle.distributed.launch --log_dir output/launch --nproc_per_node="$num" \
    "$main" -c "$config" --test --weights "$weights" "$@"

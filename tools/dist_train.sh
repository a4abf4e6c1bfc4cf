#!/usr/bin/env bash
# Train on several devices: tools/dist_train.sh CONFIG NUM [options of main.py]
set -eu
if [ "$#" -lt 2 ]; then
    echo "usage: tools/dist_train.sh CONFIG NUM [options of main.py]" >&2
    exit 2
fi
config=$1 num=$2
shift 2
main=$(dirname "$0")/../main.py
exec "${PYTHON:-python}" -m paddle.distributed.launch --log_dir output/launch --nproc_per_node="$num" \
    "$main" -c "$config" "$@"

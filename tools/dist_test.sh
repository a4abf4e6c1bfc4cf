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
# further options of the launcher go into LAUNCH, as in LAUNCH="--master=10.0.0.1:8090 --nnodes=2"
# shellcheck disable=SC2086
exec "${PYTHON:-python}" -m paddle.distributed.launch --log_dir "${LOG_DIR:-output/launch}" --nproc_per_node="$num" ${LAUNCH:-} \
    "$main" -c "$config" --test --weights "$weights" "$@"

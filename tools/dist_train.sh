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
# further options of the launcher go into LAUNCH, as in LAUNCH="--master=10.0.0.1:8090 --nnodes=2"
# shellcheck disable=SC2086
exec "${PYTHON:-python}" -m paddle.distributed.launch --log_dir "${LOG_DIR:-output/launch}" --nproc_per_node="$num" ${LAUNCH:-} \
    "$main" -c "$config" "$@"

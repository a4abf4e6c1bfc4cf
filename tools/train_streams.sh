#!/usr/bin/env bash
# Train one model a stream, one after the other: tools/train_streams.sh CONFIG [options of main.py]
# The streams are j b jm bm; STREAMS="j b k" chooses others. Each writes to an output folder of its own.
set -eu
if [ "$#" -lt 1 ]; then
    echo "usage: tools/train_streams.sh CONFIG [options of main.py]" >&2
    exit 2
fi
config=$1
shift
for stream in ${STREAMS:-j b jm bm}; do
    echo "== stream $stream"
    "${PYTHON:-python}" "$(dirname "$0")/../main.py" -c "$config" -o stream="$stream" --validate "$@"
done

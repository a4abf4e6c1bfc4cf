#!/usr/bin/env bash
# Repeat the results of docs/results.md: tools/reproduce.sh nwucla | nwucla_shallow | nwucla_long | nwucla_lt | nwucla_choice
#
#   nwucla         every stream and seed of ST-GCN++, one seed of CTR-GCN and DG-STGCN, the fusions
#   nwucla_shallow the same of networks six blocks deep; of ST-GCN++ one on all streams, and each learning from the four
#   nwucla_long    every stream and seed of ST-GCN++ by the longer recipe
#   nwucla_lt      long-tailed NW-UCLA: plain training against a class-balanced sampler, three seeds
#   nwucla_choice  the runs on camera 1, validated on camera 2, by which the recipe was chosen
#
# The data: data/nw_ucla.pkl, or DATA=FILE. SEEDS="1 2 3", STREAMS="j b jm bm" and JOBS=2 (runs side by side, a core each)
# can be set. Runs that are finished are not repeated; a run that was interrupted goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-}
data=${DATA:-data/nw_ucla.pkl}
seeds=${SEEDS:-1 2 3}
first=${seeds%% *}
streams=${STREAMS:-j b jm bm}
jobs=${JOBS:-2}
python=${PYTHON:-python}
case $what in nwucla | nwucla_shallow | nwucla_long | nwucla_lt | nwucla_choice) ;; *)
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
if [ ! -f "$data" ]; then
    echo "$data: no such file; docs/results.md says where NW-UCLA comes from, DATA=FILE names another place" >&2
    exit 2
fi
files=(-o "DATASET.train.file=$data" -o "DATASET.valid.file=$data" -o "DATASET.test.file=$data")
cores=$(nproc)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > jobs ? cores / jobs : 1))}

# run FOLDER CONFIG [options]: train into FOLDER, test the last epoch's weights into FOLDER/test.npz
run() {
    local folder=$1 config=$2
    shift 2
    [ -f "$folder/test.npz" ] && return
    mkdir -p "$folder"
    "$python" main.py -c "$config" "${files[@]}" -o "output_dir=$folder" -o DATASET.num_workers=0 "$@" \
        --resume auto --test-last --out "$folder/test.npz" >>"$folder/log.txt" 2>&1 ||
        { echo "$folder: failed; $folder/log.txt says why" >&2; return 1; }
}

# wait_all: wait for the runs in the background; stop if one failed
wait_all() { while [ -n "$(jobs -rp)" ]; do wait -n || exit 1; done; }

# start FOLDER CONFIG [options]: the same in the background, at most $jobs at a time
start() {
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || exit 1; done
    run "$@" &
}

# four FOLDER CONFIG [options]: a run of every stream
four() {
    local folder=$1 config=$2 stream
    shift 2
    for stream in $streams; do start "$folder/$stream" "$config" -o "stream=$stream" "$@"; done
}

configs=configs/recognition
out=${OUTPUT:-output}/$what
case $what in
nwucla)
    for seed in $seeds; do
        four "$out/stgcn_plusplus/seed$seed" $configs/stgcn_plusplus/stgcn_plusplus_nwucla.yaml -o "seed=$seed"
    done
    for network in ctrgcn dgstgcn; do
        four "$out/$network/seed$first" "$configs/$network/${network}_nwucla.yaml" -o "seed=$first"
    done
    ;;
nwucla_shallow)
    config=$configs/stgcn_plusplus/stgcn_plusplus_shallow_nwucla.yaml
    for seed in $seeds; do
        four "$out/stgcn_plusplus/seed$seed" "$config" -o "seed=$seed"
        start "$out/early_fusion/seed$seed/j+b+jm+bm" "$config" -o "seed=$seed" -o stream=j+b+jm+bm
    done
    for network in ctrgcn dgstgcn; do
        four "$out/$network/seed$first" "$configs/$network/${network}_shallow_nwucla.yaml" -o "seed=$first"
    done
    wait_all
    for seed in $seeds; do
        teachers=("$out/stgcn_plusplus/seed$seed"/{j,b,jm,bm}/STGCN_PlusPlus_shallow_nwucla_last.pdparams)
        for file in "${teachers[@]}"; do
            [ -f "$file" ] || { echo "distilled, seed $seed: left out; it learns from all four streams" >&2; continue 2; }
        done
        weights=$(printf '%s,' "${teachers[@]}")
        four "$out/distilled/seed$seed" "$config" -o "seed=$seed" \
            -o "MODEL.teacher.weights=[${weights%,}]" -o "MODEL.teacher.weigh=[2,2,1,1]"
    done
    ;;
nwucla_long)
    for seed in $seeds; do
        four "$out/stgcn_plusplus/seed$seed" $configs/stgcn_plusplus/stgcn_plusplus_nwucla_long.yaml -o "seed=$seed"
    done
    ;;
nwucla_lt)
    for seed in $seeds; do
        start "$out/plain/seed$seed/j" $configs/stgcn_plusplus/stgcn_plusplus_lt_nwucla.yaml -o "seed=$seed"
        start "$out/balanced/seed$seed/j" $configs/stgcn_plusplus/stgcn_plusplus_lt_nwucla.yaml -o "seed=$seed" \
            -o DATASET.train.sampler=EffectiveNumber
    done
    ;;
nwucla_choice)
    # camera 1 trains, camera 2 scores; a row's options, -c of another config among them, change the recipe
    camera2=(-o DATASET.train.match=v01 -o DATASET.valid.split=xview_train -o DATASET.valid.match=v02
        -o DATASET.test.split=xview_train -o DATASET.test.match=v02 -o "seed=$first")
    while read -r name options; do
        # shellcheck disable=SC2086
        start "$out/$name/seed$first/j" $configs/stgcn_plusplus/stgcn_plusplus_nwucla.yaml "${camera2[@]}" $options
    done <tools/reproduce_choice.txt
    ;;
esac
wait_all
"$python" tools/results_table.py "$out"

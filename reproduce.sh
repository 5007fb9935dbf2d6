#!/usr/bin/env bash
# Regenerates Table 1: images, scores, quality, table, figures and report, in runs/ beside this file.
# Sets up an environment first where none is. May be stopped and started again at any time.
#
#   ./reproduce.sh                      the systems on the embedded data, miniature models, a CPU
#   ./reproduce.sh --ablations          TCIG's ablations beside
#   ./reproduce.sh --baselines          further baselines beside; of other profiles ControlNet and GLIGEN too
#   ./reproduce.sh --robust             this project's own rows too: guides that see random views
#   ./reproduce.sh --profile paper      COCO and the real weights, fetched first, on a GPU
#       --coco FOLDER                   COCO's folder (default: runs/coco)
#   ./reproduce.sh --limit 97           other options of `tcig run` too
case " $* " in *" --help "* | *" -h "*)
    sed -n '2,/^case/{/^case/!s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"
    exit
    ;;
esac
source "$(dirname "${BASH_SOURCE[0]}")/.ci/environment.sh"
cd "$root"
rows=(real paste empty text-only si bld multidiffusion-no-bootstrap multidiffusion tcig)
more=() baselines= profile=mini coco=runs/coco
while [ $# -gt 0 ]; do
    case $1 in
        --ablations) more+=(tcig-stage1 tcig-two-guides tcig-no-clip tcig-no-guidance tcig-no-stage1); shift ;;
        --baselines) baselines=yes; shift ;;
        --robust) more+=(tcig-robust-stage1 tcig-robust direct-guidance-robust); shift ;;
        --profile) profile=$2; shift 2 ;;
        --coco) coco=$2; shift 2 ;;
        *) break ;;
    esac
done
for row in ${more[@]+"${more[@]}"}; do
    # Experts for two guides are published nowhere: the row needs a profile that names some.
    [ "$row" = tcig-two-guides ] && [ "$profile" != mini ] || rows+=("$row")
done
if [ "$baselines" ]; then
    rows+=(t2i-adapter direct-guidance)
    # No miniature of these two is shipped.
    [ "$profile" = mini ] || rows+=(controlnet gligen)
fi
if [ "$profile" = mini ]; then
    out=runs layouts=runs/layouts-mini.jsonl
    set -- --limit 24 "$@"
else
    out=runs/$(basename "$profile" .toml) layouts=$out/layouts.jsonl
    mkdir -p "$out"
    tcig run --profile "$profile" --methods "${rows[@]}" --check
    tcig weights fetch --profile "$profile" --methods "${rows[@]}"
    tcig layouts --coco "$coco" --download --out "$layouts"
    tcig plan --profile "$profile" --layouts "$layouts" --coco "$coco" --pilot --out "$out" --methods "${rows[@]}"
    set -- --layouts "$layouts" --coco "$coco" "$@"
fi
[ $# -gt 2 ] || [ "$profile" != mini ] || stored=results/mini
status=0
folders=$(tcig run --profile "$profile" --methods "${rows[@]}" --out "$out" "$@") || status=$?
[ "$status" -le 1 ] || exit "$status" # 1: some samples failed, the table says how many
[ "$profile" = mini ] && photographs=() || photographs=(--coco "$coco")
tcig quality $folders --layouts "$layouts" ${photographs[@]+"${photographs[@]}"} >/dev/null
tcig table $folders --out "$out" >/dev/null
tcig report $folders --layouts "$layouts" --out "$out/report.html"
tcig figures "$out" --profile "$profile" --layouts "$layouts" --out "$out/figures"
cat "$out/table.md"
if [ -n "${stored:-}" ]; then # fails where a row leaves its tolerance
    echo
    tcig compare "$stored/result.json" "$out/result.json" --within "$stored/tolerance.csv"
fi
exit "$status"

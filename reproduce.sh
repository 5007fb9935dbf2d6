#!/usr/bin/env bash
# Regenerates Table 1 on the embedded data: images, scores, table and figures, in runs/ beside this file.
# Sets up an environment first where none is. May be stopped and started again at any time.
#
#   ./reproduce.sh                the systems
#   ./reproduce.sh --ablations    TCIG's ablations beside
#   ./reproduce.sh --limit 97     all layouts instead of the first 24; other options of `tcig run` too
source "$(dirname "${BASH_SOURCE[0]}")/.ci/environment.sh"
cd "$root"
rows=(real paste empty text-only si bld multidiffusion-no-bootstrap multidiffusion tcig)
if [ "${1:-}" = --ablations ]; then
    shift
    rows+=(tcig-stage1 tcig-two-guides tcig-no-clip tcig-no-guidance tcig-no-stage1)
fi
status=0
folders=$(tcig run --profile mini --methods "${rows[@]}" --limit 24 --out runs "$@") || status=$?
[ "$status" -le 1 ] || exit "$status" # 1: some samples failed, the table says how many
for form in md csv latex; do
    tcig table $folders --format "$form" >runs/.table.part
    mv runs/.table.part "runs/table.${form/latex/tex}"
done
tcig figures runs --out runs/figures
cat runs/table.md
exit "$status"

#!/usr/bin/env bash
# The whole straight way on real recorded speech; regenerates the table on the README. Resumes where it was stopped.
#     bash recipes/realdata/road.sh OUT
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?"usage: road.sh OUT"}
mkdir -p "$out/runs"
out=$(cd "$out" && pwd)
python "$here/prepare.py" "$out/data"
roots=()
for split in train dev test; do roots+=(--root "$split=$out/data/speech/$split"); done
roots+=(--root "ambience=$out/data/noise" --root "music=$out/data/music")
cp "$here"/{plain,cdm1,cdm2,cdm2-dat,evaluation}.yaml "$out/"
stillroom build "$here/road.yaml" "$out/corpus" --workers "$(nproc)" "${roots[@]}"
stillroom verify "$out/corpus" --workers "$(nproc)"
stillroom show "$out/corpus"
for student in plain cdm1 cdm2 cdm2-dat; do
  stillroom train "$out/$student.yaml" "$out/runs/$student"
done
stillroom evaluate "$out/evaluation.yaml" "$out/results"
stillroom report "$out/results"

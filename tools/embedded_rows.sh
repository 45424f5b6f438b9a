#!/usr/bin/env bash
# The embedded model's rows of the board, from the answers that the commands in docs/leaderboards.md leave behind.
#
#   tools/embedded_rows.sh ablation urial controls
#
# ablation: of `implicit-if ablate`; urial: the task's save= folder; controls: of tools/make_controls.py. The tuned
# systems' answers are the named references. Judges, submits, verifies and rebuilds; JOBS=2 works on two rows at once.
set -euo pipefail
ablation=$1 urial=$2 controls=$3
references=harness/references/gemma-3-270m
reference=gemma-3-270m/instruction-full-s1
judged=$(mktemp -d)
trap 'rm -r "$judged"' EXIT

row() { # outputs name options...
  while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-1}" ]; do wait -n; done
  one_row "$@" &
}

one_row() {
  implicit-if judge "$1" --reference "$reference" --judge embedded --instructions builtin \
    --annotations "$judged/$2.jsonl"
  implicit-if submit "$1" --annotations "$judged/$2.jsonl" --name "implicit-if/gemma-3-270m-$2" \
    --reference "$references/instruction-full-s1/builtin@b0ca9101.json" --judge embedded --instructions builtin \
    --template tulu --licence Gemma --base-model google/gemma-3-270m --base-licence Gemma --replace "${@:3}"
}

tuned() { # system options...
  row "$references/$1-full-s1/builtin@b0ca9101.json" "$1-full-s1" --recipe "$1" --seed 1 "${@:2}"
}

lima=(--data "LIMA=CC BY-NC-SA 4.0 or stricter,https://huggingface.co/datasets/GAIR/lima")
row "$ablation/outputs/base.json" base --system base
row "$ablation/outputs/rules.json" rules --system rules --preset paper
for rule in eos uniform diversity; do
  row "$ablation/outputs/without-$rule.json" "without-$rule" --system rules --preset paper --without "$rule"
  row "$ablation/outputs/only-$rule.json" "only-$rule" --system rules --preset paper --only "$rule"
done
tuned instruction --system instruction "${lima[@]}"
tuned response --system response "${lima[@]}"
tuned gsm --system single_task --task gsm --data "GSM8K=MIT,https://huggingface.co/datasets/openai/gsm8k"
tuned mbpp --system single_task --task mbpp \
  --data "MBPP=CC-BY-4.0,https://huggingface.co/datasets/google-research-datasets/mbpp"
row "$urial/outputs.json" urial --system urial
for control in $(python -c "from implicit_if.harness.controls import CONTROLS; print(*CONTROLS)"); do
  row "$controls/$control.json" "control-$control" --system control --control "$control"
done
while [ -n "$(jobs -rp)" ]; do wait -n; done
implicit-if verify leaderboards/submissions --rejudge
implicit-if leaderboard

#!/usr/bin/env bash
# The embedded model's rows of the board, from the answers that the commands in docs/leaderboards.md leave behind.
#
#   tools/embedded_rows.sh ablation answers controls
#
# ablation: of `implicit-if ablate`; answers/<system>/outputs.json for instruction, response, gsm, mbpp, urial: the task's
# save= folders; controls: of tools/make_controls.py. Judges what is not judged yet, submits, verifies, rebuilds.
set -euo pipefail
ablation=$1 answers=$2 controls=$3
reference=gemma-3-270m/instruction
file="harness/references/$reference/builtin@b0ca9101.json"
lima=(--data "LIMA=CC BY-NC-SA 4.0 or stricter,https://huggingface.co/datasets/GAIR/lima" --seed 42)

submit() { # outputs annotations name options...
  implicit-if submit "$1" --annotations "$2" --name "implicit-if/gemma-3-270m-$3" --reference "$file" --judge embedded \
    --instructions builtin --template tulu --licence Gemma --base-model google/gemma-3-270m --base-licence Gemma \
    --replace "${@:4}"
}

judged() { # outputs name options...
  implicit-if judge "$1" --reference "$reference" --judge embedded --instructions builtin \
    --annotations "${1%.json}.embedded.jsonl"
  submit "$1" "${1%.json}.embedded.jsonl" "$2" "${@:3}"
}

submit "$ablation/outputs/base.json" "$ablation/annotations.jsonl" base --system base
submit "$ablation/outputs/rules.json" "$ablation/annotations.jsonl" rules --system rules --preset paper
for rule in eos uniform diversity; do
  submit "$ablation/outputs/without-$rule.json" "$ablation/annotations.jsonl" "without-$rule" \
    --system rules --preset paper --without "$rule"
  submit "$ablation/outputs/only-$rule.json" "$ablation/annotations.jsonl" "only-$rule" \
    --system rules --preset paper --only "$rule"
done
judged "$answers/instruction/outputs.json" instruction --system instruction --recipe instruction "${lima[@]}"
judged "$answers/response/outputs.json" response --system response --recipe response "${lima[@]}"
judged "$answers/gsm/outputs.json" gsm --system single_task --task gsm --recipe gsm --seed 42 \
  --data "GSM8K=MIT,https://huggingface.co/datasets/openai/gsm8k"
judged "$answers/mbpp/outputs.json" mbpp --system single_task --task mbpp --recipe mbpp --seed 42 \
  --data "MBPP=CC-BY-4.0,https://huggingface.co/datasets/google-research-datasets/mbpp"
judged "$answers/urial/outputs.json" urial --system urial
for control in empty constant echo echo_lead_in template token_soup other_instruction longest_of_two; do
  judged "$controls/$control.json" "control-$control" --system control --control "$control"
done
implicit-if verify leaderboards/submissions --rejudge
implicit-if leaderboard

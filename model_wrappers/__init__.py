"""What changes a base model while it answers, as lm-eval model classes.

Each line may import what stands above it, never what stands below:

embedded_model   the embedded base model, from pip packages
answer_cache     answers kept in a file as they are made
generate         decoding a batch
identity         what a wrapper tells about itself
rules/           the rules, presets, their product with a model, likelihoods
implicit_lm      what all wrappers share
rules_poe        `--model rules_poe`
urial            `--model urial`
proxy_tuned      `--model proxy_tuned`
vllm/            `--model rules_poe_vllm`
ablation/        `ablate`: what each rule is for
chat/            `chat`: base, rules and tuned models side by side
"""

"""What changes a base model while it answers, as lm-eval model classes.

Each line may import what stands above it, never what stands below:

embedded_model   the embedded base model, from pip packages
arguments        model and generation arguments: they work, are noted or are refused
prompt_tokens    a prompt's tokens: what users write stays text
prompt_batches   prompts as batches of tokens; a long one loses its middle
sampling         samples that do not depend on the batch
generate         decoding a batch
answer_cache     answers kept in a file as they are made
identity         what a wrapper tells about itself
rules/           the rules, presets, their product with a model, likelihoods
loading          the model as lm-eval loads it, checked before its weights are read
implicit_lm      what all wrappers share
rules_poe        `--model rules_poe`
urial            `--model urial`
proxy_tuned      `--model proxy_tuned`
vllm/            `--model rules_poe_vllm`
ablation/        `ablate`: what each rule is for
chat/            `chat`: base, rules and tuned models side by side
"""

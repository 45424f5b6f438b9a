"""The engine: instruction sets, references, judging, scores and tuning. It knows neither lm-eval's tasks nor boards.

Each line may import what stands above it, never what stands below:

errors              the one error class, with did-you-mean
locks               locks between processes
storage             strict reading, atomic writing, canonical bytes, hashes
records             JSON Lines that grow
csv_rows            rows of CSV files
child_process       commands that can be stopped and continued
hub                 the Hugging Face hub, asked in bounded time
safe_text           text from outside, made safe where it is shown
plain_text          our Markdown as a terminal shows it
side_by_side        answers beside each other, as text
cpu_threads         CPU threads: how they wait, and how many
commands            sub-commands: found, grouped, their parsers
cli                 the command, argument types, `NAME=VALUE`
system_kinds        kinds of systems: label, order, colour
published_numbers/  numbers that papers published
embedded_base       the embedded base model's names
svg                 shapes and panels of bars as SVG text
thoughts            what a model thought before it answered
outputs             contract: answers
answer_settings     contract: what shaped answers, as signatures tell it
annotations         contract: verdicts, append-only
signature           contract: what produced a number
scores              contract: numbers with interval, coverage and signature
provenance          contract: how a tuned model was made
generation          prompts, answers as they are made, and by which model
model_fingerprint   a model's identity, over content
chat_templates/     the one renderer, sandboxed
answer_form         measures of an answer that need no judge
columns             the columns of every table
controls            control answers
instructions/       instruction sets at pinned revisions
references/         named answers that systems are judged against
stats/              win rates, intervals, comparisons, length control
judging/            judges, the runner, from verdicts to scores, cards
web/                pages to read in a browser: document, style, scripts
tuning/             recipes, one runner, `tune` and `select`
analysis/           response ranking, token shift, openings, task adherence, the audit
replicate/          `replicate`: matrices, their plan, and what runs it
comparing/          `compare`: which of several systems is better
model_folders       folders of models that a command line names
lm_eval_plugin      how lm_eval finds us
installation/       `doctor`, `cache`, `completion`: what works here, what is kept here
"""

"""`implicit-if replicate`: the paper's tables from base models, as cells that any workflow engine can run."""

"""Side-by-side measurements: what the bus costs beside floors and peers, in one run.

python -m benchmarks [--short] [--only WORD] [--json FILE] [--svg FILE]
"""

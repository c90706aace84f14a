"""Benchmarks of the bus against lower bounds and other libraries, measured in one run.

python -m benchmarks [--short] [--only WORD] [--write-table] [--json FILE] [--svg FILE]
"""

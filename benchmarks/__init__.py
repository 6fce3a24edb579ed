"""Side by side with what a user would take instead: `make bench`, or `python -m benchmarks trajectory` for one of them.

Each module holds one benchmark, ``run(say)``, which returns its part of the record (`record.result`). Alternatives run
on the same work, where they are quick in turns in one process, and their accuracy is checked before their time counts.
"""

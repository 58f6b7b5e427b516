"""The report's ablations at toy scale, one file a study. Read from `study.py` and `ratio.py` on.

A study is variants x seeds -> measurements -> mean and spread -> a figure, JSON and a sentence beside what
the report says. `catalogue.py` lists them; `gemmary study NAME` runs one.
"""

"""Readers and parsers under mutation: whatever comes in, an error is one of ours, at once, and never a crash.

``test_mutations.py`` gives each reader some hundred inputs, the same every time; by hand as many as you like:

    python -m tests.fuzz --minutes 30
    python -m tests.fuzz --minutes 5 tar reference

An input that fails is kept in ``seeds/`` and tried first from then on.
"""

"""Measuring speed: steps in processes of their own, run in turns, so that two implementations meet the same machine."""

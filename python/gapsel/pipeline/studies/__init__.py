"""Beside the corridor: the selection against others, and what a pool is best mixed of.

compare.py   other methods' selections, measured with the same yardstick; examples.py what a choice is to each task
mixing.py    vectors -> domain weights
trials.py    a language model trained on each method's choice: choices.py, trained.py, pretrained.py
"""

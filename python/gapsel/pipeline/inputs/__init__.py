"""What is said about the rows, beside their vectors, each read and checked in a file of its own.

targets.py says which task an example is of; weights.py, own_weights.py and losses.py what rows weigh; labels.py what
they are called; barred.py which may not be chosen, rules.py what a choice has to keep to; arrays.py is for those who
bring arrays. unchanged.py looks whether files are still what they were.
"""

"""Documents to vectors: those of texts written to the run folder, ready-made ones used where they lie.

sides.py says what the sides of a run are and opens them, fingerprints.py what they are known by; given.py looks at
ready-made vectors and brings those from elsewhere; encoding.py and making.py bring documents to a store, ahead.py one
batch ahead; moments.py is what gradients are divided by.
"""

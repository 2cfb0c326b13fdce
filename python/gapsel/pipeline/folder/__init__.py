"""The run folder: its record of what is done, and what keeps it whole and its own.

run_folder.py is the record, lock.py keeps other commands out, journal.py what long sweeps answered until their step is
done; parts.py are the files of scores, results.py those that tell of a choice; stamps.py tells files that are as
they were.
"""

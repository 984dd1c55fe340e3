"""What lies below everything that trains is computed once: its states are kept on disk and read in later epochs.

`part` finds it, `replay` takes its states from the model and puts them back, `store` keeps them, `reuse` decides
whether that pays and does it while a variant trains.
"""

"""A folder for PYTHONPATH, of trainings with `train.seed_libraries`."""

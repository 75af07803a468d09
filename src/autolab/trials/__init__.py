"""One run: inputs, jobs, scores, seals, calibration, champion."""

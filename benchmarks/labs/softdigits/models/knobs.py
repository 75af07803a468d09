"""What a candidate may change: constants of the network, of its training and of its random streams."""

WIDTH = 32
EPOCHS = 40
LR = 0.005
NOISE = 0.19
STREAM = 0
"""Which order of pictures and which noise a seed stands for: another number, other draws of the same distribution."""

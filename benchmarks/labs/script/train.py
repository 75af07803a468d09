"""A training script as people write them: settings at the top, one number at the end. Digits, one hidden layer, SGD.

    AUTOLAB_SEED=3 python train.py

Trains on 298 pictures of digits.npz and prints the mean loss on the other 1,499. The settings are poor on purpose:
there is something to find.
"""

import os

import numpy as np

LR = 0.03
MOMENTUM = 0.8
WEIGHT_DECAY = 0.003
DROPOUT = 0.4
LABEL_SMOOTHING = 0.05
BATCH_SIZE = 32
HIDDEN_SIZE = 32
EPOCHS = 100

random = np.random.default_rng(int(os.environ.get("AUTOLAB_SEED", "0")))


def forward(weights, pictures, keep):
    """Hidden activations and log-probabilities; `keep` scales each hidden unit."""
    hidden = np.maximum(pictures @ weights[0] + weights[1], 0) * keep
    scores = hidden @ weights[2] + weights[3]
    scores -= scores.max(axis=1, keepdims=True)
    return hidden, scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def gradients(weights, pictures, targets):
    keep = (random.random((len(pictures), HIDDEN_SIZE)) >= DROPOUT) / (1 - DROPOUT)
    hidden, logs = forward(weights, pictures, keep)
    error = (np.exp(logs) - targets) / len(pictures)
    inner = (error @ weights[2].T) * (hidden > 0) * keep
    return [pictures.T @ inner, inner.sum(axis=0), hidden.T @ error, error.sum(axis=0)]


def train(pictures, labels):
    weights = [
        random.standard_normal((64, HIDDEN_SIZE)) * (2 / 64) ** 0.5,
        np.zeros(HIDDEN_SIZE),
        random.standard_normal((HIDDEN_SIZE, 10)) * (1 / HIDDEN_SIZE) ** 0.5,
        np.zeros(10),
    ]
    speeds = [np.zeros_like(weight) for weight in weights]
    targets = np.eye(10)[labels] * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / 10
    for _ in range(EPOCHS):
        order = random.permutation(len(labels))
        for rows in np.split(order, range(BATCH_SIZE, len(order), BATCH_SIZE)):
            slopes = gradients(weights, pictures[rows], targets[rows])
            for weight, speed, slope in zip(weights, speeds, slopes, strict=True):
                speed *= MOMENTUM
                speed -= LR * (slope + WEIGHT_DECAY * weight)
                weight += speed
    return weights


def main():
    with np.load("digits.npz") as data:
        weights = train(data["pictures"] / 16, data["labels"])
        _, logs = forward(weights, data["held_out_pictures"] / 16, 1.0)
        labels = data["held_out_labels"]
    loss = -logs[np.arange(len(labels)), labels].mean()
    accuracy = (logs.argmax(axis=1) == labels).mean()
    print(f"accuracy: {accuracy:.4f}")
    print(f"val_loss: {loss:.5f}")


if __name__ == "__main__":
    main()

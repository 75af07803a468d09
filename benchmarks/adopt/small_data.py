"""Small data in the formats of public repositories, made of one text or of random numbers, without a download.

    python small_data.py words FOLDER TEXT    train.txt, valid.txt, test.txt (pytorch/examples, word_language_model)
    python small_data.py llmc FOLDER TEXT     a random GPT-2 of 2 layers, a tokenizer of bytes, files of tokens (llm.c)
    python small_data.py mnist FOLDER [N]     N (70,000) made-up pictures of ten classes in MNIST's files, one
                                              of seven for tests, below MNIST/raw

Standard library only. The same text gives the same bytes.
"""

from __future__ import annotations

import array
import random
import struct
import sys
from pathlib import Path

HEADER = 256
"""Each file of llm.c begins with so many whole numbers of 32 bits."""
MODEL_MAGIC, TOKENIZER_MAGIC, TOKENS_MAGIC = 20240326, 20240328, 20240520
VOCABULARY, PADDED, LONGEST, LAYERS, HEADS, CHANNELS = 257, 384, 64, 2, 2, 32
"""All bytes and the end of a text; llm.c pads the vocabulary to a multiple of 128."""
END_OF_TEXT = 256
PIXELS = 28 * 28


def words(folder: Path, text: str) -> None:
    """The first 150,000 characters for training, 15,000 each for validation and test. Rare words become <unk>."""
    lines = [f" {line} \n" for line in text[:180_000].split("\n")]
    counts: dict[str, int] = {}
    for word in "".join(lines).split():
        counts[word] = counts.get(word, 0) + 1
    kept = [" ".join(word if counts[word] > 4 else "<unk>" for word in line.split()) + "\n" for line in lines]
    cuts = (0, int(len(kept) * 0.84), int(len(kept) * 0.92), len(kept))
    folder.mkdir(parents=True, exist_ok=True)
    for name, start, end in zip(("train", "valid", "test"), cuts, cuts[1:], strict=False):
        (folder / f"{name}.txt").write_text("".join(kept[start:end]))


def llmc(folder: Path, text: str) -> None:
    """The four files that train_gpt2.c opens, below the root of a checkout."""
    header = [MODEL_MAGIC, 3, LONGEST, VOCABULARY, LAYERS, HEADS, CHANNELS, PADDED]
    (folder / "gpt2_124M.bin").write_bytes(_header(header) + array.array("f", _parameters()).tobytes())
    entries = [bytes([1, byte]) for byte in range(256)] + [b"\x05<end>"]
    tokenizer = _header([TOKENIZER_MAGIC, 2, VOCABULARY, END_OF_TEXT]) + b"".join(entries)
    (folder / "gpt2_tokenizer.bin").write_bytes(tokenizer)
    place = folder / "dev" / "data" / "tinyshakespeare"
    place.mkdir(parents=True, exist_ok=True)
    tokens = list(text.encode())
    for name, part in (("train", tokens[20_000:]), ("val", tokens[:20_000])):
        content = _header([TOKENS_MAGIC, 1, len(part)]) + array.array("H", part).tobytes()
        (place / f"tiny_shakespeare_{name}.bin").write_bytes(content)


def mnist(folder: Path, pictures: int = 70_000) -> None:
    """Each class has a pattern of its own, each picture one of 40 noisy copies of it."""
    draw = random.Random(0)
    copies: list[list[bytes]] = []
    for _ in range(10):
        pattern = [draw.choice((0, 0, 16)) for _ in range(PIXELS)]
        copies.append([bytes(min(255, value + draw.randrange(200)) for value in pattern) for _ in range(40)])
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", pictures - pictures // 7), ("t10k", pictures // 7)):
        labels = bytes(draw.randrange(10) for _ in range(count))
        rows = b"".join(draw.choice(copies[label]) for label in labels)
        head = struct.pack(">iiii", 0x803, count, 28, 28)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(head + rows)
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 0x801, count) + labels)


def _header(values: list[int]) -> bytes:
    return array.array("i", values + [0] * (HEADER - len(values))).tobytes()


def _parameters() -> list[float]:
    """Weights in the order of the checkpoint: normal with deviation 0.02, those of layer norms 1, biases 0."""
    draw = random.Random(0)
    layers, channels = LAYERS, CHANNELS
    values = [draw.gauss(0, 0.02) for _ in range((PADDED + LONGEST) * channels)]
    values += [1.0] * (layers * channels) + [0.0] * (layers * channels)
    values += [draw.gauss(0, 0.02) for _ in range(layers * 3 * channels * channels)] + [0.0] * (layers * 3 * channels)
    values += [draw.gauss(0, 0.02) for _ in range(layers * channels * channels)] + [0.0] * (layers * channels)
    values += [1.0] * (layers * channels) + [0.0] * (layers * channels)
    values += [draw.gauss(0, 0.02) for _ in range(layers * 4 * channels * channels)] + [0.0] * (layers * 4 * channels)
    values += [draw.gauss(0, 0.02) for _ in range(layers * 4 * channels * channels)] + [0.0] * (layers * channels)
    return values + [1.0] * channels + [0.0] * channels


if __name__ == "__main__":
    kind, place, *source = sys.argv[1:]
    if kind == "mnist":
        mnist(Path(place), *map(int, source))
    else:
        {"words": words, "llmc": llmc}[kind](Path(place), Path(source[0]).read_text())

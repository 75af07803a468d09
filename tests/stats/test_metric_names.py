"""What the words of a metric's name say."""

from __future__ import annotations

import pytest

from autolab.stats import metric_names


def test_no_word_says_both_ways() -> None:
    assert not metric_names.LOWER & metric_names.HIGHER


@pytest.mark.parametrize(
    ("metric", "direction", "share"),
    [
        ("val_loss", "minimize", False),
        ("Val/BPB", "minimize", False),
        ("loss2", "minimize", False),
        ("word-error.rate", "minimize", False),
        ("accuracy", "maximize", True),
        ("val/acc1", "maximize", True),
        ("top5", "maximize", True),
        ("macro_f1", "maximize", True),
        ("bleu", "maximize", False),
        ("accuracy_loss", None, True),
        ("parameters", None, False),
        ("glossary", None, False),
        ("", None, False),
    ],
)
def test_words_of_a_name_say_which_way_is_good_and_whether_it_is_a_share(
    metric: str, direction: str | None, share: bool
) -> None:
    assert metric_names.direction_of(metric) == direction
    assert metric_names.is_share(metric) is share


def test_a_loss_is_never_below_0_and_an_accuracy_counts_right_answers() -> None:
    assert metric_names.is_loss("val_rmse") and not metric_names.is_loss("accuracy")
    assert metric_names.is_accuracy("train/top1") and not metric_names.is_accuracy("f1")
    assert metric_names.is_of_training("train_accuracy") and not metric_names.is_of_training("val_accuracy")


def test_an_axis_has_range_and_direction_where_they_are_known() -> None:
    assert metric_names.axis_label("accuracy", "maximize") == "accuracy (0 to 1, higher is better)"
    assert metric_names.axis_label("accuracy", "maximize", highest=98.0) == "accuracy (percent, higher is better)"
    assert metric_names.axis_label("val_loss", "minimize") == "val_loss (lower is better)"
    assert metric_names.axis_label("parameters", None) == "parameters"

"""The schedule of a training run: its budget, learning rate and validations."""

from __future__ import annotations

import math

from wavenet.config import FrameTrainingConfig, TrainingConfig

FIRST_VALIDATION_MINUTES = 1.0


def budget_spent(config: TrainingConfig, step: int, seconds: float) -> float:
    """Share of the budget spent: 0 at the start, 1 or more at the end."""
    return step / config.steps if config.steps else seconds / (60 * config.minutes)


def seconds_left(config: TrainingConfig, step: int, seconds: float) -> float:
    """Estimated time to the end of the budget; NaN before the first step of a budget in steps."""
    if not config.steps:
        return max(0.0, 60 * config.minutes - seconds)
    return max(0, config.steps - step) * seconds / step if step else math.nan


def learning_rate(config: TrainingConfig | FrameTrainingConfig, step: int, fraction: float) -> float:
    """Linear warm-up, then a cosine from the peak to its `final_rate` share at the end of the budget.

    step: counted from 0. fraction: share of the budget spent.
    """
    warm = min(1.0, (step + 1) / (config.warmup + 1))
    cosine = (1 + math.cos(math.pi * min(fraction, 1.0))) / 2
    return config.learning_rate * warm * (config.final_rate + (1 - config.final_rate) * cosine)


def validation_is_due(
    config: TrainingConfig, step: int, seconds: float, validated_step: int, validated_seconds: float
) -> bool:
    """Whether to validate after a step: every `validate_steps` or `validate_minutes`, and at the end of the budget.

    With `validate_minutes` the first one is due after a minute.
    """
    if step == validated_step:
        return False
    if budget_spent(config, step, seconds) >= 1:
        return True
    if config.validate_steps:
        return step - validated_step >= config.validate_steps
    minutes = config.validate_minutes if validated_step else min(config.validate_minutes, FIRST_VALIDATION_MINUTES)
    return seconds - validated_seconds >= 60 * minutes

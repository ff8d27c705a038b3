"""Watches or stops a run at its updates through torch's public hooks for optimisers, without touching the run's modules."""

from __future__ import annotations

import contextlib

from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

MOST_OF_A_CRITIC = 4


def is_student(optimiser):
    """Critics have two layers, so four tensors; a student has many more."""
    return sum(len(group["params"]) for group in optimiser.param_groups) > MOST_OF_A_CRITIC


class Updates:
    """What each update of the student did, and each of the critic after the student's first.

    Attributes: gradients, weights: lists over updates of lists over parameters, as they are given to the optimiser; rates.
    """

    def __init__(self):
        self.gradients, self.weights, self.rates, self.critic = [], [], [], []

    def before(self, optimiser, _args, _kwargs):
        if is_student(optimiser):
            (group,) = optimiser.param_groups
            self.rates.append(group["lr"])
            self.gradients.append([None if one.grad is None else one.grad.clone() for one in group["params"]])

    def after(self, optimiser, _args, _kwargs):
        weights = [one.detach().clone() for group in optimiser.param_groups for one in group["params"]]
        if is_student(optimiser):
            self.weights.append(weights)
        elif self.weights:
            self.critic.append((len(self.weights), weights))


@contextlib.contextmanager
def recorded_updates():
    """Records every update while it is entered."""
    updates = Updates()
    hooks = [register_optimizer_step_pre_hook(updates.before), register_optimizer_step_post_hook(updates.after)]
    try:
        yield updates
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def before_update(number, act):
    """Calls `act` right before the student's update of that number, counted from 1 from here on."""
    count = 0

    def hook(optimiser, _args, _kwargs):
        nonlocal count
        if is_student(optimiser):
            count += 1
            if count == number:
                act()

    handle = register_optimizer_step_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()

"""Steps of an optimiser whose numbers lie in tensors, so that they can be part of a CUDA graph.

PyTorch's own `capturable` steps read the learning rate from a tensor, but Adam's β₁, which a one-cycle schedule changes
in every step, would keep the value it was recorded with. State and result are those of PyTorch's optimisers: a training
can change between the two at any step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

Group = dict[str, Any]


class RecordableSteps(ABC):
    """Steps of an optimiser that has done at least one of its own, which made its state."""

    names: ClassVar[tuple[str, ...]]
    """Numbers of a step, each a scalar tensor on the device."""

    def __init__(self, optimizer: Optimizer, device: torch.device) -> None:
        self.optimizer = optimizer
        self._tensors = [{name: torch.zeros((), device=device) for name in self.names} for _ in optimizer.param_groups]

    @torch.no_grad()
    def prepare(self) -> None:
        """Write the next step's numbers, which the schedule has set, into the tensors."""
        for group, tensors in zip(self.optimizer.param_groups, self._tensors, strict=True):
            for name, value in self._numbers(group).items():
                tensors[name].fill_(value)

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients; reads nothing but tensors on the device."""
        for group, tensors in zip(self.optimizer.param_groups, self._tensors, strict=True):
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._step(group, parameters, [p.grad for p in parameters], tensors)

    def _states(self, parameters: list[Tensor], name: str) -> list[Tensor]:
        return [self.optimizer.state[p][name] for p in parameters]

    @abstractmethod
    def _numbers(self, group: Group) -> dict[str, float]:
        """Of the next step, which from now on counts as done."""

    @abstractmethod
    def _step(self, group: Group, parameters: list[Tensor], gradients: list[Tensor], n: dict[str, Tensor]) -> None:
        """One step of the parameters of a group."""


class RecordableAdam(RecordableSteps):
    """Adam (arXiv 1412.6980) and AdamW (arXiv 1711.05101), without amsgrad."""

    names = "kept", "beta", "new", "size", "scale"

    def _numbers(self, group: Group) -> dict[str, float]:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        done = [state["step"] for p in group["params"] if "step" in (state := self.optimizer.state.get(p, {}))]
        if done:
            torch._foreach_add_(done, 1)  # on the CPU, where PyTorch keeps them
        count = float(done[0]) if done else 1.0
        return {
            "kept": 1 - lr * group["weight_decay"],
            "beta": beta1,
            "new": 1 - beta1,
            "size": lr / (1 - beta1**count),
            "scale": (1 - beta2**count) ** -0.5,
        }

    def _step(self, group: Group, parameters: list[Tensor], gradients: list[Tensor], n: dict[str, Tensor]) -> None:
        mean, square = self._states(parameters, "exp_avg"), self._states(parameters, "exp_avg_sq")
        if group["decoupled_weight_decay"]:
            torch._foreach_mul_(parameters, n["kept"])
        elif group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
        torch._foreach_mul_(mean, n["beta"])
        torch._foreach_add_(mean, torch._foreach_mul(gradients, n["new"]))
        beta2 = group["betas"][1]
        torch._foreach_mul_(square, beta2)
        torch._foreach_addcmul_(square, gradients, gradients, 1 - beta2)
        root = torch._foreach_sqrt(square)
        torch._foreach_mul_(root, n["scale"])
        torch._foreach_add_(root, group["eps"])
        change = torch._foreach_div(mean, root)
        torch._foreach_mul_(change, n["size"])
        torch._foreach_sub_(parameters, change)


class RecordableSgd(RecordableSteps):
    """Stochastic gradient descent with momentum, without damping and Nesterov's form."""

    names = ("lr",)

    def _numbers(self, group: Group) -> dict[str, float]:
        return {"lr": group["lr"]}

    def _step(self, group: Group, parameters: list[Tensor], gradients: list[Tensor], n: dict[str, Tensor]) -> None:
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
        momentum = self._states(parameters, "momentum_buffer")
        torch._foreach_mul_(momentum, group["momentum"])
        torch._foreach_add_(momentum, gradients)
        torch._foreach_sub_(parameters, torch._foreach_mul(momentum, n["lr"]))


def recordable_steps(optimizer: Optimizer, device: torch.device) -> RecordableSteps | None:
    """The steps of this optimiser in a form that can be recorded, or None where there is none."""
    settings = optimizer.defaults
    if isinstance(optimizer, Adam) and not (settings["amsgrad"] or settings["maximize"] or settings["fused"]):
        return RecordableAdam(optimizer, device)
    plain = isinstance(optimizer, SGD) and settings["momentum"] and not (settings["nesterov"] or settings["dampening"])
    return RecordableSgd(optimizer, device) if plain else None

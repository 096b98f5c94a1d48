"""DeepSpeed's ZeRO behind the interface of an engine: ranks share out optimiser, gradients and weights.

Weights stay in 32 bits, so that a checkpoint's network is whole and the same as any other engine's; the optimiser's
state is kept rank by rank, and is taken up by as many ranks as saved it.

Shapes: b rows of this rank, T tasks.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from duchenne_jobs.config import RunConfig
from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models import Inputs, MultiTaskNetwork
from duchenne_jobs.models.batch_part import normalise_over_ranks
from duchenne_jobs.training.checkpoint import packed, unpacked
from duchenne_jobs.training.engines import Engine, LossModule
from duchenne_jobs.training.job import JobFailed
from duchenne_jobs.training.ranks import Ranks

WHOLE_BELOW = 1_000_000  # elements: ZeRO 3 shares out larger parameters only, such as an encoder's


class ZeroEngine(Engine):
    """ZeRO of stage `training.zero_stage`.

    Raises:
        JobFailed: DeepSpeed is not installed here, or stage 3 would share out what an order optimiser must see whole.
    """

    def __init__(self, config: RunConfig, network: MultiTaskNetwork, ranks: Ranks) -> None:
        super().__init__(config, network, ranks)
        self._stage = config.training.zero_stage
        if self._stage == 3 and self.order_optimizer is not None:
            raise JobFailed(
                "training.zero_stage: stage 3 shares out weights, which an order selector's own optimiser can't "
                "follow, but got 3 with a network that learns orders; set it to 2"
            )
        # Stage 3 hooks what it shares out: whoever runs the network alone would wait for the other ranks.
        self._unshared = copy.deepcopy(network).cpu() if self._stage == 3 else None
        normalise_over_ranks(network, ranks.data)
        self._deepspeed = _deepspeed(network)
        self._wrapped, *_ = self._deepspeed.initialize(
            model=LossModule(network), optimizer=self.optimizer, config=self._settings()
        )
        self._begin_at_zero()

    def _settings(self) -> dict[str, Any]:
        training = self.config.training
        return {
            "train_batch_size": self.ranks.size,  # DeepSpeed counts with it; the batches are ours
            "train_micro_batch_size_per_gpu": 1,
            "zero_optimization": {"stage": self._stage, "stage3_param_persistence_threshold": WHOLE_BELOW},
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "gradient_clipping": training.gradient_clip or 0.0,
            "steps_per_print": 10**12,
        }

    def _begin_at_zero(self) -> None:
        """Undo the step with which DeepSpeed makes the optimiser's state: it counts, and decays weights."""
        for state in self.optimizer.state.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    value.zero_()
        self._wrapped.optimizer.refresh_fp32_params()

    def losses(self, inputs: Inputs, labels: Tensor, targets: Tensor, mask: Tensor, loss: TaskLoss) -> Tensor:
        losses: Tensor = self._wrapped(inputs, labels, targets, mask, loss)
        return losses

    def step(self, mean: Tensor, move_orders: bool) -> None:
        if self.order_optimizer is not None:
            self.order_optimizer.zero_grad(set_to_none=True)
        self._wrapped.backward(mean)
        self._wrapped.step()
        if self.order_optimizer is None or not move_orders:
            return
        for parameter in self.network.order_parameters():
            if parameter.grad is not None:
                self.ranks.add(parameter.grad).div_(self.ranks.size)
        self.order_optimizer.step()

    def predictor(self) -> MultiTaskNetwork:
        if self._unshared is None:
            return self.network
        whole = copy.deepcopy(self._unshared).to(next(self.network.parameters()).device)
        whole.load_state_dict(self.network_state())
        return whole

    def network_state(self) -> dict[str, Any]:
        with self._whole():
            return {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def optimizer_state(self) -> dict[str, Any]:
        with self._shards_in_groups():
            mine = packed({"epoch": 0, "optimizer": self.optimizer.state_dict()})
        return {"ranks": [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in self.ranks.gather(mine)]}

    def restore(self, network: dict[str, Any], optimizer: dict[str, Any], orders: dict[str, Any] | None) -> None:
        saved = optimizer["ranks"]
        if len(saved) != self.ranks.size:
            raise ValueError(
                f"an optimiser that {len(saved)} workers shared must be taken up by as many, but got {self.ranks.size}"
            )
        with self._whole(written=True):
            self.network.load_state_dict(network)
        self._wrapped.optimizer.refresh_fp32_params()
        with self._shards_in_groups():
            self.optimizer.load_state_dict(unpacked(saved[self.ranks.rank].numpy().tobytes())["optimizer"])
        if self.order_optimizer is not None and orders is not None:
            self.order_optimizer.load_state_dict(orders)

    @contextmanager
    def _shards_in_groups(self) -> Iterator[None]:
        """Stage 3 takes what it shares out from the optimiser's groups between steps; its state is known by them."""
        groups, zero = self.optimizer.param_groups, self._wrapped.optimizer
        if self._stage == 3:
            for number, shard in enumerate(zero.fp32_partitioned_groups_flat):
                groups[zero.sub_group_to_group_id[number]]["params"].append(shard)
        try:
            yield
        finally:
            if self._stage == 3:
                for group in groups:
                    group["params"] = []

    def _whole(self, written: bool = False) -> AbstractContextManager[Any]:
        """All weights on every rank for the time of the block; what rank 0 writes there is kept if `written`."""
        if self._stage < 3:
            return nullcontext()
        gathered: AbstractContextManager[Any] = self._deepspeed.zero.GatheredParameters(
            list(self.network.parameters()), modifier_rank=0 if written else None
        )
        return gathered


def _deepspeed(network: MultiTaskNetwork) -> Any:
    """The module, told which device to use before it looks for one itself."""
    device = next(network.parameters()).device
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    # It takes the rank on its node for the number of its device, and refuses to start without one.
    os.environ["LOCAL_RANK"] = str(torch.cuda.current_device() if device.type == "cuda" else 0)
    try:
        return import_module("deepspeed")
    except ImportError as error:
        raise JobFailed(
            "training.engine: deepspeed must be installed on every worker, but it is not on this one; "
            "pip install 'duchenne[deepspeed]', or set it to ddp"
        ) from error

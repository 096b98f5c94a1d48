"""The orders of MONET (Tallec 2023, 2.4 and 2.6): where they come from, how they are weighed, how they evolve.

Belongs here: order sets and mixtures over them. Does not belong here: the recurrence that predicts in an order
(`duchenne_kernels`) or the network around it (`models/recurrent.py`).
"""

from duchenne_jobs.models.orders.evolution import evolved, neighbours_of
from duchenne_jobs.models.orders.selection import OrderSelector, build_selector
from duchenne_jobs.models.orders.sets import build_order_set
from duchenne_jobs.models.orders.summary import OrderSummary

__all__ = [
    "OrderSelector",
    "OrderSummary",
    "build_order_set",
    "build_selector",
    "evolved",
    "neighbours_of",
]

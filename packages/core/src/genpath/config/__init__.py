"""Configs: a run in one YAML file, checked before anything heavy is imported.

    from genpath.config import load_config

    config = load_config("run.yaml", ["seed=1", "path=interpolants.linear"])
    sampler = config.require("sampler").build(...)

A plugin author reads ``genpath.config.options``.
"""

from genpath.config.bound import Bound
from genpath.config.load import load_config, read_config
from genpath.config.options import Slot, option, slot
from genpath.config.problems import Problem
from genpath.config.schema import SLOTS, Config, SampleOptions, TrainOptions

__all__ = [
    "SLOTS",
    "Bound",
    "Config",
    "Problem",
    "SampleOptions",
    "Slot",
    "TrainOptions",
    "load_config",
    "option",
    "read_config",
    "slot",
]

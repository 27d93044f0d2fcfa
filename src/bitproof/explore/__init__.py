"""Search for multipliers: which layer or filter of a network may use which, on what hardware."""

from bitproof.explore.accelerator import ACCELERATORS, Accelerator, AnyAccelerator, HardwareFigures
from bitproof.explore.choose_multipliers import ChooseMultipliers
from bitproof.explore.count_store import CountStore
from bitproof.explore.emulation import Emulator
from bitproof.explore.exhaustive import Exhaustive
from bitproof.explore.exploration import Exploration, Outcome, explore
from bitproof.explore.genetic import Alwann, Nsga2
from bitproof.explore.goal import Goal
from bitproof.explore.greedy import Greedy
from bitproof.explore.hawx import Hawx
from bitproof.explore.hypervolume import hypervolume
from bitproof.explore.knapsack import ConvexFront, best_for_cost, cheapest_within, convex_front
from bitproof.explore.measuring import Measuring
from bitproof.explore.multiplier_set import CostedMultiplier, MultiplierSet, read_multipliers
from bitproof.explore.point import Point
from bitproof.explore.predictors import AccuracyCurve, MarginModel
from bitproof.explore.problem import Problem
from bitproof.explore.profile import Profile, take_profile
from bitproof.explore.random_choices import RandomChoices
from bitproof.explore.scores import (
    SCORES,
    HawxScore,
    HessianScore,
    JointScore,
    NoiseTolerance,
    ObservedScore,
    Score,
)
from bitproof.explore.search import SEARCHES, AnySearch, Search
from bitproof.explore.search_images import SearchImages
from bitproof.explore.spatial import Folding, Spatial
from bitproof.explore.temporal import Temporal
from bitproof.explore.trial import Trial
from bitproof.explore.units import LayerShape, Units, units_of

__all__ = [
    "ACCELERATORS",
    "SCORES",
    "SEARCHES",
    "Accelerator",
    "AccuracyCurve",
    "Alwann",
    "AnyAccelerator",
    "AnySearch",
    "ChooseMultipliers",
    "ConvexFront",
    "CostedMultiplier",
    "CountStore",
    "Emulator",
    "Exhaustive",
    "Exploration",
    "Folding",
    "Goal",
    "Greedy",
    "HardwareFigures",
    "Hawx",
    "HawxScore",
    "HessianScore",
    "JointScore",
    "LayerShape",
    "MarginModel",
    "Measuring",
    "MultiplierSet",
    "NoiseTolerance",
    "Nsga2",
    "ObservedScore",
    "Outcome",
    "Point",
    "Problem",
    "Profile",
    "RandomChoices",
    "Score",
    "Search",
    "SearchImages",
    "Spatial",
    "Temporal",
    "Trial",
    "Units",
    "best_for_cost",
    "cheapest_within",
    "convex_front",
    "explore",
    "hypervolume",
    "read_multipliers",
    "take_profile",
    "units_of",
]

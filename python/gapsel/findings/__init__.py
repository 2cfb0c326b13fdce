"""The nouns of what was found: plain records, which reports draw, commands print and JSON keeps.

distances.py   an OT distance between two bounds; certificates
run.py         what one run found: findings.json
rules.py       what the rules of its choice did
mixture.py     how much of each domain: mixture.json
evaluation.py  what models trained on choices are worth: evaluation.json
reading.py     records made of what JSON kept of them
"""

from gapsel.findings.distances import Certificate, Distances, Interval
from gapsel.findings.evaluation import Evaluation, HeldOutTexts, Judge, LossMean, MethodLoss, Recipe, own_name
from gapsel.findings.mixture import DomainShare, MixedTask, Mixture
from gapsel.findings.reading import made_of
from gapsel.findings.rules import (
    Copies,
    Excluded,
    GroupShare,
    HeldOut,
    QuotaDid,
    RulesDid,
    Temperature,
    Threshold,
    TokensUsed,
)
from gapsel.findings.run import (
    Agreement,
    Composition,
    ErrorBars,
    Example,
    Findings,
    Histogram,
    Ignored,
    MassPoint,
    MethodResult,
    Share,
    Step,
    TaskResult,
    TaskShare,
)

__all__ = [
    "Agreement",
    "Certificate",
    "Composition",
    "Copies",
    "Distances",
    "DomainShare",
    "ErrorBars",
    "Evaluation",
    "Example",
    "Excluded",
    "Findings",
    "GroupShare",
    "HeldOut",
    "HeldOutTexts",
    "Histogram",
    "Ignored",
    "Interval",
    "Judge",
    "LossMean",
    "MassPoint",
    "MethodLoss",
    "MethodResult",
    "MixedTask",
    "Mixture",
    "QuotaDid",
    "Recipe",
    "RulesDid",
    "Share",
    "Step",
    "TaskResult",
    "TaskShare",
    "Temperature",
    "Threshold",
    "TokensUsed",
    "made_of",
    "own_name",
]

"""Every error Revet raises on purpose.

RevetError
├── ConfigError             a file or setting is wrong: names file, key, value and what is allowed
│   ├── FeatureSpaceError
│   └── RelationError
├── DataError               data from outside is unusable as a whole
│   ├── SchemaMismatch      columns are missing or of the wrong type
│   ├── CorruptFile         bytes cannot be read, or do not match their digest
│   └── NotEnoughRows       too few rows, or only one class
├── ArtifactError
│   ├── ArtifactTampered    bytes differ from the recorded digest
│   ├── ArtifactRefused     a file that must never be loaded (pickle, extra file, link)
│   └── ArtifactMissing
├── LedgerError
│   ├── LeaseHeld           somebody else holds the lease
│   ├── LeaseLost           our lease expired or was taken over; nothing more may be written
│   ├── PromotionConflict   the head moved since the evidence was made
│   ├── Frozen              `revet freeze` is on
│   ├── BudgetExceeded
│   └── UnknownMonitor
├── AttackError             an attack was set up in a way that cannot work
└── ServiceUnavailable      a server that Revet needs does not answer
"""

from __future__ import annotations


class RevetError(Exception):
    """Base of all errors that Revet raises on purpose; the command line prints them without a traceback."""


class ConfigError(RevetError):
    """A configuration file or setting is wrong."""


class FeatureSpaceError(ConfigError):
    """A feature space breaks its own rules."""


class RelationError(FeatureSpaceError):
    """A relation cannot be parsed or names an unknown feature."""


class DataError(RevetError):
    """Data from outside is unusable as a whole."""


class SchemaMismatch(DataError):
    """Columns are missing, unexpected or of the wrong type."""


class CorruptFile(DataError):
    """A file cannot be read, or its bytes do not match the recorded digest."""


class NotEnoughRows(DataError):
    """Too few rows, or rows of one class only."""


class ArtifactError(RevetError):
    """A stored detector cannot be used."""


class ArtifactTampered(ArtifactError):
    """The bytes differ from the digest that the ledger recorded."""


class ArtifactRefused(ArtifactError):
    """The artifact holds a file that must never be loaded."""


class ArtifactMissing(ArtifactError):
    """The artifact, or a part of it, does not exist."""


class LedgerError(RevetError):
    """The system of record refuses an operation."""


class LeaseHeld(LedgerError):
    """Another holder has the lease."""


class LeaseLost(LedgerError):
    """The lease expired or was taken over; the holder may not write any more."""


class PromotionConflict(LedgerError):
    """The head moved after the evidence for this promotion was made."""


class Frozen(LedgerError):
    """All automation is stopped by `revet freeze`."""


class BudgetExceeded(LedgerError):
    """A budget of the policy is used up."""


class UnknownMonitor(LedgerError):
    """No monitor of that name is in the ledger."""


class AttackError(RevetError):
    """An attack is set up in a way that cannot work."""


class ServiceUnavailable(RevetError):
    """A server that Revet needs does not answer."""

"""The verdict on one window: can the champion still be trusted, what is wrong, and what may be done about it."""

from __future__ import annotations

from domain.decisions import Criterion, Decision, DegradationKind, Outcome, Remedy, Verdict
from domain.monitor import PolicySettings
from evaluation.decision.criteria import (
    CLEAN,
    CONTRADICTED,
    DETECTION,
    FALSE_POSITIVES,
    QUARANTINE,
    REQUIRED,
    ROBUST,
    judge_criteria,
)
from evaluation.decision.inputs import DecisionInputs

REMEDIES = {
    DegradationKind.NONE: Remedy.NOTHING,
    DegradationKind.DATA_FAULT: Remedy.FIX_DATA,
    DegradationKind.BENIGN_DRIFT: Remedy.RETHRESHOLD,
    DegradationKind.NEW_FAMILY: Remedy.HARDEN,
    DegradationKind.EVASION: Remedy.HARDEN,
    DegradationKind.ROBUSTNESS: Remedy.HARDEN,
}


def decide(inputs: DecisionInputs, policy: PolicySettings) -> Decision:
    """Return the verdict with every criterion, from tests at the policy's family-wise error. Fails closed.

    A window is bad when a criterion fails. It is degraded when this and enough recent windows are bad; healthy only
    when every required criterion could be judged and none failed; everything else abstains.
    """
    criteria = judge_criteria(inputs, policy)
    failed = tuple(one.name for one in criteria if one.outcome is Outcome.FAIL)
    bad = bool(failed)
    recent = (*inputs.recent_bad, bad)[-policy.of_windows :]
    bad_windows = sum(window is True for window in recent)
    verdict = _verdict(criteria, bad_windows, policy, bad=bad)
    kind = _kind(failed, inputs) if bad else DegradationKind.NONE
    remedy = REMEDIES[kind] if verdict is Verdict.DEGRADED else Remedy.NOTHING
    obstacles = _obstacles(inputs, policy, remedy)
    return Decision(
        monitor=inputs.monitor, version=inputs.version,
        window_start=inputs.window_start, window_end=inputs.window_end,
        verdict=verdict, kind=kind, remedy=remedy,
        action=remedy in {Remedy.RETHRESHOLD, Remedy.HARDEN} and not obstacles,
        bad_window=bad, bad_windows=bad_windows, of_windows=policy.of_windows, criteria=criteria,
        reasons=(*_reasons(criteria, inputs, policy, verdict, bad_windows), *obstacles),
    )  # fmt: skip


def _verdict(criteria: tuple[Criterion, ...], bad_windows: int, policy: PolicySettings, *, bad: bool) -> Verdict:
    if bad:
        return Verdict.DEGRADED if bad_windows >= policy.bad_windows else Verdict.ABSTAIN
    judged = {one.name for one in criteria if one.outcome is Outcome.PASS}
    return Verdict.HEALTHY if judged.issuperset(REQUIRED) else Verdict.ABSTAIN


def _kind(failed: tuple[str, ...], inputs: DecisionInputs) -> DegradationKind:
    """Return the kind; a data fault outranks all, since what follows from faulty data is not evidence of an attack."""
    if QUARANTINE in failed or CONTRADICTED in failed:
        return DegradationKind.DATA_FAULT
    if DETECTION in failed:
        if inputs.diagnosis is not None and inputs.diagnosis.kind is not DegradationKind.NONE:
            return inputs.diagnosis.kind
        return DegradationKind.EVASION if ROBUST in failed else DegradationKind.NEW_FAMILY
    if ROBUST in failed or CLEAN in failed:
        return DegradationKind.ROBUSTNESS
    if FALSE_POSITIVES in failed:
        return DegradationKind.BENIGN_DRIFT
    raise AssertionError(f"no kind for the failed criteria {failed}")


def _obstacles(inputs: DecisionInputs, policy: PolicySettings, remedy: Remedy) -> tuple[str, ...]:
    """Return why the loop may not act now although a remedy is known."""
    obstacles = []
    if remedy is Remedy.FIX_DATA:
        obstacles.append("The data must be mended by a person; Revet never trains on a data fault.")
    if remedy in {Remedy.HARDEN, Remedy.RETHRESHOLD}:
        since = inputs.hours_since_promotion
        if since is not None and since < policy.cool_down_hours:
            obstacles.append(
                f"Cooling down: {since:.1f} hours since the last promotion, {policy.cool_down_hours:g} are required."
            )
    if remedy is Remedy.HARDEN and inputs.hardenings_this_month >= policy.max_hardenings_per_month:
        obstacles.append(
            f"The budget of {policy.max_hardenings_per_month} automatic hardenings a month is used up "
            f"({inputs.hardenings_this_month} so far)."
        )
    return tuple(obstacles)


def _reasons(
    criteria: tuple[Criterion, ...],
    inputs: DecisionInputs,
    policy: PolicySettings,
    verdict: Verdict,
    bad_windows: int,
) -> tuple[str, ...]:
    reasons = [
        f"{one.name}: {one.reason}"
        for outcome in (Outcome.FAIL, Outcome.ABSTAIN, Outcome.WARN)
        for one in criteria
        if one.outcome is outcome
    ]
    others = (inputs.window_rows or 0) - inputs.production.rows
    if others > 0:
        reasons.append(
            f"{others} of {inputs.window_rows} rows were not scored by version {inputs.version}: they tell nothing."
        )
    bad = any(one.outcome is Outcome.FAIL for one in criteria)
    if bad and verdict is Verdict.ABSTAIN:
        reasons.insert(
            0,
            f"This window is bad, but only {bad_windows} of the last {policy.of_windows} are; "
            f"{policy.bad_windows} are required.",
        )
    if any(one.name == DETECTION and one.outcome is Outcome.FAIL for one in criteria) and inputs.diagnosis:
        reasons.extend(inputs.diagnosis.evidence)
    run = _abstentions(inputs) + 1
    if verdict is Verdict.ABSTAIN and not bad and run >= policy.abstentions_to_alarm:
        reasons.insert(0, f"ALARM: {run} windows in a row could not be judged; the monitor is blind.")
    return tuple(reasons)


def _abstentions(inputs: DecisionInputs) -> int:
    count = 0
    for window in reversed(inputs.recent_bad):
        if window is not None:
            break
        count += 1
    return count

from __future__ import annotations

import threading
import time

import pytest

from domain.errors import LeaseHeld, LeaseLost
from registry import leases


def test_a_lease_is_held_by_one(ledger):
    first = leases.acquire(ledger, "m", "pull", "a", 60)
    with pytest.raises(LeaseHeld, match="'a'"):
        leases.acquire(ledger, "m", "pull", "b", 60)
    assert first.token == 1


def test_leases_of_other_kinds_and_monitors_are_free(ledger):
    leases.acquire(ledger, "m", "pull", "a", 60)
    assert leases.acquire(ledger, "m", "harden", "a", 60).token == 1
    assert leases.acquire(ledger, "other", "pull", "b", 60).token == 1


def test_an_expired_lease_is_taken_over_with_a_higher_token_and_its_holder_may_not_write(ledger):
    old = leases.acquire(ledger, "m", "pull", "a", 0.01)
    time.sleep(0.05)
    new = leases.acquire(ledger, "m", "pull", "b", 60)
    assert new.token == old.token + 1
    with ledger.begin() as connection:
        leases.check(connection, new)
        with pytest.raises(LeaseLost, match="taken over by 'b'"):
            leases.check(connection, old)
    with pytest.raises(LeaseLost):
        leases.renew(ledger, old, 60)


def test_an_expired_lease_that_nobody_took_is_lost_too(ledger):
    lease = leases.acquire(ledger, "m", "pull", "a", 0.01)
    time.sleep(0.05)
    with pytest.raises(LeaseLost, match="expired"), ledger.begin() as connection:
        leases.check(connection, lease)


def test_a_released_lease_is_free_and_a_late_release_frees_nobody_elses(ledger):
    first = leases.acquire(ledger, "m", "pull", "a", 60)
    leases.release(ledger, first)
    second = leases.acquire(ledger, "m", "pull", "b", 60)
    leases.release(ledger, first)
    with ledger.begin() as connection:
        leases.check(connection, second)


def test_a_renewed_lease_lasts_longer_with_the_same_token(ledger):
    lease = leases.acquire(ledger, "m", "pull", "a", 30)
    renewed = leases.renew(ledger, lease, 90)
    assert renewed.token == lease.token
    assert renewed.expires_at > lease.expires_at


def test_a_body_that_fails_frees_its_lease(ledger):
    with pytest.raises(KeyboardInterrupt), leases.held(ledger, "m", "pull", "a", 60):
        raise KeyboardInterrupt
    assert leases.acquire(ledger, "m", "pull", "b", 60).token == 2


def test_of_many_that_ask_at_once_one_gets_the_lease(ledger):
    start, won, refused = threading.Barrier(6), [], []

    def ask(name):
        start.wait()
        try:
            won.append(leases.acquire(ledger, "m", "pull", name, 60))
        except LeaseHeld as error:
            refused.append(error)

    threads = [threading.Thread(target=ask, args=(str(index),)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 5)

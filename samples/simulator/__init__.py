"""Enterprise network flows with threats among them, an attacker with knobs, and drift: all from one seed."""

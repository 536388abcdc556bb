# ruff: noqa: E501 - the tables below read best as tables
"""Services, client roles and threat families as data: what each of them looks like on the wire."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

PROTOCOLS = ("tcp", "udp", "icmp")
SERVICES = ("web", "dns", "mail", "ssh", "smb", "database", "stream", "other")
STATES = ("complete", "reset", "no_reply", "half_open")


@dataclass(frozen=True, slots=True)
class Shape:
    """How flows of one kind look; `_log` are means of natural logarithms, `_sd` their deviations, the rest means.

    Attributes:
        packets_log, packets_sd: packets from the client.
        small: share of them below 100 bytes.
        size: bytes of the others, 100 to 1500.
        duration_log, duration_sd: milliseconds.
        burst: 0 for evenly spaced packets, towards 1 for one long pause.
        regular: smallest gap as a share of the mean gap.
        answer_log, answer_sd: packets from the server per packet of the client.
        answer_size: bytes of them, 40 to 1500.
        flows_log: flows of the client within two minutes.
        same, distinct, failed: shares of those to the same server, number of servers, and without success.
        clients_log: clients that used the server in the last day.
        age_log: days since the server was first seen.
        entropy: bits per byte of what the client sends, 0 to 8.
        internal: share of servers inside the network.
        complete, reset, no_reply, half_open: shares of the states in which connections end.
    """

    packets_log: float
    packets_sd: float
    small: float
    size: float
    duration_log: float
    duration_sd: float
    burst: float
    regular: float
    answer_log: float
    answer_sd: float
    answer_size: float
    flows_log: float
    same: float
    distinct: float
    failed: float
    clients_log: float
    age_log: float
    entropy: float
    internal: float
    complete: float
    reset: float
    no_reply: float
    half_open: float


COLUMNS = {name: index for index, name in enumerate(Shape.__dataclass_fields__)}
CLIENT_SIDE = ("packets_log", "packets_sd", "small", "size", "duration_log", "duration_sd", "burst", "regular")


@dataclass(frozen=True, slots=True)
class Service:
    """A benign kind of traffic."""

    name: str
    protocol: str
    service: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of client: how many there are, when they work (`hours`: start, end, share of night traffic), what they use.

    Attributes:
        weekend: activity on Saturdays and Sundays relative to working days.
        mix: weight of each service by name.
    """

    name: str
    share: float
    hours: tuple[float, float, float]
    weekend: float
    mix: dict[str, float]


@dataclass(frozen=True, slots=True)
class Family:
    """A threat family; it rides on benign services and so shares their protocol and service.

    Attributes:
        rides: services it uses, with weights; its stealthy sessions look like them.
        first_day: the family does not exist before this day.
        weight: share among the malicious sessions.
        night: share of its sessions that keep no office hours.
    """

    name: str
    rides: dict[str, float]
    first_day: int
    weight: float
    night: float
    shape: Shape


# fmt: off
BENIGN = (
    #                                        packets  small size duration   burst reg  answer      size flows same  dist  fail clients age entr inter compl rst  norep half
    Service("web", "tcp", "web",       Shape(2.6, 0.9, .45, 620, 6.8, 1.3, .45, .10, 0.35, 0.5, 980, 2.9, .22, .45, .03, 4.2, 5.2, 6.3, .12, .92, .05, .02, .01)),
    Service("upload", "tcp", "web",    Shape(4.6, 1.1, .15, 1200, 8.8, 1.1, .25, .08, -0.6, 0.4, 180, 2.6, .30, .35, .03, 3.4, 5.0, 7.4, .25, .95, .03, .01, .01)),
    Service("poll", "tcp", "web",      Shape(1.8, 0.4, .50, 420, 8.6, 1.0, .12, .55, 0.05, 0.3, 380, 2.2, .40, .40, .03, 3.9, 5.3, 6.8, .15, .94, .04, .01, .01)),
    Service("dns", "udp", "dns",       Shape(0.3, 0.4, .80, 140, 3.2, 1.1, .30, .20, 0.0, 0.2, 170, 3.0, .35, .40, .05, 5.2, 6.2, 4.2, .80, .95, .00, .05, .00)),
    Service("mail", "tcp", "mail",     Shape(3.2, 0.9, .35, 900, 7.6, 1.0, .40, .12, -0.1, 0.4, 420, 2.3, .35, .35, .03, 4.6, 6.0, 6.1, .60, .94, .04, .01, .01)),
    Service("ssh", "tcp", "ssh",       Shape(4.2, 1.2, .60, 420, 10.0, 1.6, .50, .05, 0.15, 0.4, 340, 2.2, .40, .35, .07, 2.2, 5.5, 7.3, .80, .88, .06, .03, .03)),
    Service("smb", "tcp", "smb",       Shape(3.6, 1.1, .40, 780, 7.8, 1.4, .40, .08, 0.3, 0.5, 860, 2.7, .40, .30, .05, 4.0, 6.1, 5.8, .98, .91, .05, .02, .02)),
    Service("database", "tcp", "database", Shape(3.0, 1.0, .50, 520, 7.2, 1.5, .35, .15, 0.3, 0.4, 760, 2.8, .50, .25, .02, 2.8, 5.9, 5.6, .96, .95, .03, .01, .01)),
    Service("inventory", "tcp", "other", Shape(0.7, 0.5, .70, 260, 5.0, 1.3, .35, .15, -0.1, 0.4, 160, 4.0, .12, .65, .22, 2.3, 5.6, 5.0, .92, .68, .16, .12, .04)),
    Service("stream", "udp", "stream", Shape(6.2, 0.8, .20, 880, 11.0, 0.9, .10, .35, 0.3, 0.4, 1020, 2.5, .40, .40, .02, 4.5, 4.4, 7.7, .05, .98, .00, .02, .00)),
)

ROLES = (
    Role("office", .55, (8, 18, .03), .12, {"web": 5, "upload": .6, "poll": 1.2, "dns": 3, "mail": 1.2, "smb": 1.2, "stream": .25}),
    Role("developer", .20, (9, 20, .06), .2, {"web": 4, "upload": .8, "poll": 1.0, "dns": 2.5, "mail": .6, "ssh": 1.6, "database": 1.2, "stream": .2}),
    Role("server", .12, (0, 24, 1.0), .9, {"web": 1.5, "upload": 1.0, "poll": 1.2, "dns": 2, "mail": .6, "database": 3, "smb": .8}),
    Role("device", .08, (0, 24, 1.0), 1.0, {"web": .6, "poll": 2.5, "dns": 1.5, "stream": .3}),
    Role("admin", .05, (7, 19, .10), .3, {"web": 2, "dns": 2, "ssh": 2.5, "smb": 1.2, "database": .8, "inventory": 3}),
)

FAMILIES = (
    #                                                              packets  small size duration   burst reg  answer       size flows same  dist  fail clients age entr inter compl rst  norep half
    Family("port-scan", {"inventory": 3, "smb": 1, "ssh": 1, "web": 1}, 0, 1.2, .5,
           Shape(0.1, 0.3, .93, 130, 2.2, 1.0, .20, .30, -0.6, 0.4, 60, 5.4, .05, .90, .62, 1.2, 5.0, 2.2, .92, .22, .34, .30, .14)),
    Family("brute-force", {"ssh": 3, "smb": 1.5, "web": 1, "mail": 1}, 0, 1.0, .6,
           Shape(2.6, 0.3, .62, 210, 7.4, 0.4, .15, .40, -0.1, 0.2, 150, 4.6, .90, .06, .58, 2.0, 5.4, 6.2, .75, .55, .38, .04, .03)),
    Family("c2-beacon", {"poll": 3, "web": 3}, 0, 1.3, .9,
           Shape(1.4, 0.25, .40, 250, 10.2, 0.5, .02, .90, -0.25, 0.2, 130, 1.8, .62, .25, .14, 0.7, 1.2, 7.7, .02, .84, .06, .09, .01)),
    Family("exfiltration", {"upload": 3, "web": 1, "ssh": 1}, 0, 1.0, .8,
           Shape(7.0, 0.9, .04, 1420, 10.6, 0.8, .08, .45, -1.7, 0.25, 62, 2.4, .70, .20, .05, 0.8, 1.5, 7.9, .04, .95, .03, .01, .01)),
    Family("dos", {"web": 4, "dns": 1, "database": 1}, 0, 1.0, .5,
           Shape(0.5, 0.5, .88, 180, 4.4, 1.4, .10, .60, -1.2, 0.5, 60, 5.8, .94, .04, .50, 4.4, 6.0, 4.0, .55, .30, .18, .30, .22)),
    Family("web-attack", {"web": 5, "database": 1}, 0, 1.1, .5,
           Shape(2.4, 0.5, .22, 1150, 6.0, 0.8, .20, .35, -0.3, 0.4, 330, 4.2, .75, .12, .35, 3.2, 5.4, 5.0, .60, .70, .22, .05, .03)),
    Family("dns-tunnel", {"dns": 1}, 20, 1.0, .7,
           Shape(1.2, 0.5, .15, 240, 4.0, 0.7, .12, .55, 0.05, 0.2, 330, 4.9, .88, .06, .10, 1.0, 1.6, 6.6, .15, .94, .00, .06, .00)),
    Family("cryptomining", {"stream": 1, "poll": 1, "web": 1}, 40, 1.0, .9,
           Shape(4.6, 0.5, .55, 210, 13.0, 0.7, .04, .70, 0.05, 0.2, 240, 2.0, .80, .15, .08, 1.1, 2.2, 7.4, .02, .93, .05, .01, .01)),
)
# fmt: on

DRIFTED_SERVICE = "stream"


def shape_table(items: tuple[Service, ...] | tuple[Family, ...]) -> NDArray[np.float64]:
    """Return the shapes as `(len(items), len(COLUMNS))`."""
    return np.array([astuple(item.shape) for item in items], dtype=np.float64)

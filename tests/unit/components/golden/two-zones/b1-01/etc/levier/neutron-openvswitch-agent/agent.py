# root:root 0644
"""Neutron's agent for Open vSwitch, started so that it does not lose a switch.

os_ken 4.1 and 4.2 tell their services of a switch before they note who it is. A service that is quicker fails on that,
on a slow host now and then, and its thread ends without a word: with native threads every error counts as the wish to
end. The agent then waits for that service for ever. Here the switch is noted first, and errors are errors.
"""

import sys
from importlib.metadata import entry_points

from os_ken.controller import ofp_event
from os_ken.lib import hub

event_of = ofp_event.ofp_msg_to_ev


class WishedEnd(Exception):
    """Nobody raises it: os_ken's threads are never asked to end."""


def event_of_known_switch(message):
    """The event of a message; the one that tells the identity of its switch is the answer to a features request."""
    if hasattr(message, "datapath_id"):
        message.datapath.id = message.datapath_id
    return event_of(message)


if hub.TaskExit is Exception:
    hub.TaskExit = WishedEnd
ofp_event.ofp_msg_to_ev = event_of_known_switch
(agent,) = entry_points(group="console_scripts", name="neutron-openvswitch-agent")
sys.argv[0] = agent.name
sys.exit(agent.load()())

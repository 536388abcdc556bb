"""The demonstration: days of traffic, a campaign, and the loop that answers it. It plays the world, never the loop."""

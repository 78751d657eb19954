"""Storage of experience: rollouts on a device, and a replay ring in the host's memory."""

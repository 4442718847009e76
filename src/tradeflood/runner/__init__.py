"""The session and the runner: the only place where planner, transport and store meet."""

"""Which host a task goes to, and what the hosts have."""

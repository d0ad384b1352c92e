//! One execution of a runbook: its steps, checks, measured values and outcome.

//! Leaves for talking to people: progress, tables, prompts, diagnostics.

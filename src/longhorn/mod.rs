//! What Longhorn means: backup targets, backups, restores, system backups, persistent volumes and claims, recurring jobs.

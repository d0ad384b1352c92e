//! The Longhorn backup format without a cluster: names, configuration objects, blocks, locks, reading and writing.

//! Kubernetes without Longhorn: connecting, kinds, objects, apply, waiting, exec and logs.

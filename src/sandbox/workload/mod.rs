//! Workload controllers and the stand-in for a kubelet: pods become local processes.

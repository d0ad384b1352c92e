//! The kinds the API server knows: one table.

/// One resource kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceKind {
    /// API group, `""` for core.
    pub group: &'static str,
    /// Version, for example `v1beta2`.
    pub version: &'static str,
    /// `Volume`.
    pub kind: &'static str,
    /// `volumes`.
    pub plural: &'static str,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
}

//! How long certificates live, and by how much clocks may disagree.

use std::time::Duration;

use crate::name::Role;

/// Life of a leaf unless the operator says otherwise: short enough that eviction needs no revocation list.
pub const LEAF_TTL: Duration = Duration::from_hours(24);

/// Shortest life of a leaf: below it, renewal would be the node's main work. Tests use it.
pub const LEAF_TTL_MIN: Duration = Duration::from_mins(1);

/// Longest life of a leaf (R20).
pub const LEAF_TTL_MAX: Duration = LEAF_TTL;

/// Longest life of a public certificate from the internal CA: what public CAs give, so that renewal is
/// exercised in development as it is in production.
pub const PUBLIC_TTL_MAX: Duration = Duration::from_hours(90 * 24);

/// Life of an issuing CA.
pub const ISSUING_TTL: Duration = Duration::from_hours(3 * 365 * 24);

/// Life of a root.
pub const ROOT_TTL: Duration = Duration::from_hours(10 * 365 * 24);

/// Most by which a leaf is dated back: clocks further apart are broken and get told so.
pub const SKEW_MAX: Duration = Duration::from_mins(5);

/// How far a CA is dated back: more than any leaf, so that it is never the CA that is not valid yet.
pub const CA_BACK_DATE: Duration = Duration::from_hours(1);

/// A difference between now and a certificate's dates up to which a wrong clock is the likelier cause: leaves
/// are renewed twice a day, so one that ended this recently was hardly forgotten.
pub const CLOCK_SUSPECT_MAX: Duration = Duration::from_hours(7 * 24);

/// Life of leaves by role. Each lies within [`LEAF_TTL_MIN`] and [`LEAF_TTL_MAX`] ([`LeafTtls::out_of_bounds`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafTtls {
    /// Of edges.
    pub edge: Duration,
    /// Of control nodes, and of what signs bundles.
    pub control: Duration,
    /// Of warpgates; a leaf never outlives the key it was got with.
    pub warpgate: Duration,
}

impl LeafTtls {
    /// The life of a node's leaf.
    pub const fn of(&self, role: &Role) -> Duration {
        match role {
            Role::Edge(_) => self.edge,
            Role::Control(_) => self.control,
            Role::Warpgate { .. } => self.warpgate,
        }
    }

    /// The first that is shorter or longer than any leaf may live.
    pub fn out_of_bounds(&self) -> Option<Duration> {
        [self.edge, self.control, self.warpgate]
            .into_iter()
            .find(|ttl| !(LEAF_TTL_MIN..=LEAF_TTL_MAX).contains(ttl))
    }
}

impl Default for LeafTtls {
    fn default() -> Self {
        Self::from(LEAF_TTL)
    }
}

/// One life for every role.
impl From<Duration> for LeafTtls {
    fn from(ttl: Duration) -> Self {
        Self { edge: ttl, control: ttl, warpgate: ttl }
    }
}

/// By how much a leaf of life `ttl` is dated back: min(5 min, TTL/4), so that a peer whose clock is behind
/// by that much accepts a new leaf, and one whose clock is ahead by that much still sees most of its life.
pub fn skew_allowance(ttl: Duration) -> Duration {
    SKEW_MAX.min(ttl / 4)
}

/// The life a leaf was issued for, from its dates: what is left when the back-dating is taken off.
pub fn ttl_of(dated: Duration) -> Duration {
    // Inverts ttl + min(SKEW_MAX, ttl / 4); the two branches meet at ttl = 4 * SKEW_MAX.
    if dated >= SKEW_MAX * 5 { dated.saturating_sub(SKEW_MAX) } else { dated * 4 / 5 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r20_the_skew_allowance_is_five_minutes_or_a_quarter() {
        assert_eq!(skew_allowance(LEAF_TTL), Duration::from_mins(5));
        assert_eq!(skew_allowance(LEAF_TTL_MIN), Duration::from_secs(15));
        assert_eq!(skew_allowance(Duration::from_mins(20)), Duration::from_mins(5));
    }

    #[test]
    fn a_leafs_life_is_read_back_from_its_dates() {
        for seconds in [60, 61, 600, 1199, 1200, 1201, 3600, 86_400] {
            let ttl = Duration::from_secs(seconds);
            assert_eq!(ttl_of(ttl + skew_allowance(ttl)), ttl, "{seconds} s");
        }
    }
}

//! Keys through their lives: those that sign assertions follow one another without a moment in which somebody cannot verify
//! ([`assertion`] decides, [`run`] performs), and everything sealed with a master key that is to go is sealed anew
//! ([`reseal`]).
//!
//! Leaves to others: the CA ([`crate::ca`]), what signs bundles ([`crate::signer`]), and where a master key is kept (the
//! program around control).

pub(crate) mod assertion;
pub(crate) mod reseal;
pub(crate) mod run;

pub use assertion::AssertionRotation;
pub use reseal::Resealed;

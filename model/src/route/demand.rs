//! What a route demands of its callers beyond being signed in, and whether such demands make sense.
//!
//! Which caller meets them is [`crate::policy`]'s business.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::network::Cidr;
use crate::identity::Assurance;
use crate::rules::RuleError;
use crate::slug::Name;

/// Most claims that one route demands or forwards.
pub const CLAIMS_MAX: usize = 16;

/// Most values of one claim that a route accepts.
pub const CLAIM_VALUES_MAX: usize = 32;

/// Longest name of a claim, in octets.
pub const CLAIM_NAME_LEN_MAX: usize = 64;

/// Longest text among the values of a claim that a route accepts, in octets.
pub const CLAIM_VALUE_LEN_MAX: usize = 256;

/// Shortest time that a proof of identity may be asked to be young, in seconds: below it, a person who has just signed in
/// would be asked again.
pub const AUTH_AGE_S_MIN: u32 = 60;

/// Longest such time, in seconds: 30 days, longer than any session should last.
pub const AUTH_AGE_S_MAX: u32 = 30 * 24 * 60 * 60;

/// What an identity must hold; empty lists ask for nothing. Every list that is not empty must be met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requirement {
    /// At least one of these roles.
    pub any_role: Vec<Name>,
    /// Each of these roles.
    pub all_roles: Vec<Name>,
    /// At least one of these permissions.
    pub any_permission: Vec<Name>,
    /// Each of these permissions.
    pub all_permissions: Vec<Name>,
    /// Each of these claims.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimRule>,
}

/// A custom claim that an identity must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRule {
    /// The claim.
    pub name: String,
    /// Its value must be one of these; if it is a list, one of its members must be. Texts, numbers, `true` and `false` only.
    pub any_of: Vec<Value>,
}

impl ClaimRule {
    /// Whether a claim with this value is what the rule asks for. A text is no number, whatever it spells.
    pub fn is_met_by(&self, value: &Value) -> bool {
        let is_accepted = |value: &Value| self.any_of.iter().any(|accepted| is_same(accepted, value));
        match value {
            Value::Array(members) => members.iter().any(is_accepted),
            value => is_accepted(value),
        }
    }
}

/// Whether two values are the same text, number or truth value. JSON knows one kind of number: 1 is 1.0.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => {
            // Whole numbers compare as such: as fractions, large ones that differ would be the same.
            a == b || ((a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64())
        }
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => one == other,
        _ => false,
    }
}

/// How strongly, and how lately, a caller must have proved who they are; the default asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepUp {
    /// At least so strongly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acr: Option<Assurance>,
    /// No longer ago than this, in seconds. A machine, which presents its key with each request, always meets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_auth_age_s: Option<u32>,
}

impl StepUp {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether its times are in bounds.
    pub(super) fn check(self) -> Result<(), RuleError> {
        let in_bounds = |age: u32| (AUTH_AGE_S_MIN..=AUTH_AGE_S_MAX).contains(&age);
        if self.max_auth_age_s.is_none_or(in_bounds) { Ok(()) } else { Err(RuleError::AuthAge) }
    }
}

impl Requirement {
    /// Whether it asks for nothing beyond being signed in.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether its claims can be asked for.
    pub(super) fn check(&self) -> Result<(), RuleError> {
        if self.claims.len() > CLAIMS_MAX {
            return Err(RuleError::TooManyClaims);
        }
        let is_scalar = |value: &Value| match value {
            Value::String(text) => text.len() <= CLAIM_VALUE_LEN_MAX,
            Value::Number(_) | Value::Bool(_) => true,
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        for ClaimRule { name, any_of } in &self.claims {
            claim_name(name)?;
            if any_of.is_empty() || any_of.len() > CLAIM_VALUES_MAX || !any_of.iter().all(is_scalar) {
                return Err(RuleError::ClaimValues(name.clone()));
            }
        }
        Ok(())
    }
}

/// Whether a claim can have this name: it is also part of a header's.
pub(super) fn claim_name(name: &str) -> Result<(), RuleError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic());
    if starts && name.len() <= CLAIM_NAME_LEN_MAX && name.bytes().all(good) {
        Ok(())
    } else {
        Err(RuleError::ClaimName(name.to_owned()))
    }
}

impl fmt::Display for Requirement {
    /// As people read it: `role=admin+customer · permission=x:y · claim plan=pro|team`; `a|b` is one of them, `a+b` each of
    /// them. Empty if it asks for nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("role", &self.any_role, "|"),
            ("role", &self.all_roles, "+"),
            ("permission", &self.any_permission, "|"),
            ("permission", &self.all_permissions, "+"),
        ];
        let mut between = "";
        for (what, names, joint) in lists.into_iter().filter(|(_, names, _)| !names.is_empty()) {
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            write!(f, "{between}{what}={}", names.join(joint))?;
            between = " · ";
        }
        for claim in &self.claims {
            write!(f, "{between}claim {claim}")?;
            between = " · ";
        }
        Ok(())
    }
}

impl fmt::Display for ClaimRule {
    /// `plan=pro|team`. A text that reads as something else stands in quotes, as it is written on a command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.name)?;
        for (at, value) in self.any_of.iter().enumerate() {
            let joint = if at == 0 { "" } else { "|" };
            match value {
                Value::String(text) if !is_ambiguous(text) => write!(f, "{joint}{text}")?,
                value => write!(f, "{joint}{value}")?,
            }
        }
        Ok(())
    }
}

/// Whether a text would be read as another value, or as several, if it stood without quotes.
fn is_ambiguous(text: &str) -> bool {
    text.is_empty()
        || text.contains(['|', ',', '"'])
        || text.chars().any(|character| character.is_control() || character.is_whitespace())
        || serde_json::from_str::<Value>(text).is_ok()
}

impl fmt::Display for StepUp {
    /// As people read it: `aal2 · signed in within 15 min`. Empty if it asks for nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        if let Some(acr) = self.acr {
            write!(f, "{}", acr.as_str())?;
            between = " · ";
        }
        match self.max_auth_age_s {
            Some(seconds) if seconds % 3600 == 0 => {
                write!(f, "{between}signed in within {} h", seconds / 3600)
            }
            Some(seconds) if seconds % 60 == 0 => write!(f, "{between}signed in within {} min", seconds / 60),
            Some(seconds) => write!(f, "{between}signed in within {seconds} s"),
            None => Ok(()),
        }
    }
}

/// Everything that a route demands beyond sign-in, to be shown.
#[derive(Clone, Copy, Debug)]
pub struct Demands<'a> {
    /// What an identity must hold.
    pub require: &'a Requirement,
    /// How strongly and how lately it must be proved.
    pub step_up: StepUp,
    /// From where requests must come.
    pub networks: &'a [Cidr],
    /// Whether whoever does not meet them is refused.
    pub enforce: bool,
}

impl fmt::Display for Demands<'_> {
    /// As people read it: `role=admin · aal2 · from 10.0.0.0/8|192.0.2.0/24 · dry run`. Empty if nothing is demanded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<String> = self.networks.iter().map(ToString::to_string).collect();
        let from = if networks.is_empty() { String::new() } else { format!("from {}", networks.join("|")) };
        let dry = if self.enforce { "" } else { "dry run" };
        let parts = [self.require.to_string(), self.step_up.to_string(), from, dry.to_owned()];
        let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        f.write_str(&parts.join(" · "))
    }
}

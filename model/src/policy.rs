//! The one decision: may this caller use this route. Edge and warpgate both run it; nothing else makes a [`Permit`].

use crate::identity::Identity;
use crate::route::{AuthMode, READER, RouteDoc};
use crate::rules::HeaderRules;
use crate::slug::Name;

/// Proof that [`decide`] allowed a request on a route. Forwarding takes one by value.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    forwards_identity: bool,
}

impl Permit {
    /// Whether the caller's identity goes to the upstream: not on public routes.
    pub fn forwards_identity(&self) -> bool {
        self.forwards_identity
    }
}

/// Why a caller may not use a route. Told to the log and the operator, never to an anonymous client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Nobody is signed in, and the route asks for somebody.
    #[error("sign-in is required")]
    SignInRequired,
    /// None of these roles.
    #[error("needs {}", one_of("role", .0))]
    NoneOfRoles(Vec<Name>),
    /// This role is missing.
    #[error("needs the role {0}")]
    MissingRole(Name),
    /// None of these permissions.
    #[error("needs {}", one_of("permission", .0))]
    NoneOfPermissions(Vec<Name>),
    /// This permission is missing.
    #[error("needs the permission {0}")]
    MissingPermission(Name),
    /// The route asks for a newer reader.
    #[error("the route needs a newer version")]
    TooNew,
}

impl Denial {
    /// Its stable word, for counting and the audit log.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::SignInRequired => "sign_in_required",
            Self::NoneOfRoles(_) => "none_of_roles",
            Self::MissingRole(_) => "missing_role",
            Self::NoneOfPermissions(_) => "none_of_permissions",
            Self::MissingPermission(_) => "missing_permission",
            Self::TooNew => "too_new",
        }
    }
}

/// Decides whether `caller` may use `route`; deny unless every demand is met.
pub fn decide(route: &RouteDoc, caller: Option<&Identity>) -> Result<Permit, Denial> {
    if route.min_reader > READER {
        return Err(Denial::TooNew);
    }
    match (route.auth_in_force(), caller) {
        (AuthMode::Public, _) | (AuthMode::Optional, None) => Ok(Permit { forwards_identity: false }),
        (AuthMode::Required, None) => Err(Denial::SignInRequired),
        (AuthMode::Optional | AuthMode::Required, Some(identity)) => {
            meets(route, identity)?;
            Ok(Permit { forwards_identity: true })
        }
    }
}

/// Whether whoever may use `route` may use `other` too, so that nothing is gained by passing one off as the other.
///
/// Lists of demands are compared whole: two that differ count as more, even where one would follow from the other. What else
/// guards a route counts too: its limits, its own answer, the headers it sets and removes, and what it keeps from other origins.
pub fn asks_no_less(route: &RouteDoc, other: &RouteDoc) -> bool {
    if route.id == other.id {
        return true;
    }
    if other.min_reader > READER {
        return false; // who knows what it asks for
    }
    if !guards_no_less(route, other) {
        return false;
    }
    match (route.auth_in_force(), other.auth_in_force()) {
        (_, AuthMode::Public | AuthMode::Optional) => true,
        (AuthMode::Required, AuthMode::Required) => {
            other.require.is_empty() || other.require == route.require
        }
        (AuthMode::Public | AuthMode::Optional, AuthMode::Required) => false,
    }
}

/// Whether nothing that guards `other` beside its policy is missing from `route`.
fn guards_no_less(route: &RouteDoc, other: &RouteDoc) -> bool {
    let (rules, guards) = (&route.rules, &other.rules);
    let is_within = |most: u64| route.limits.body_max.is_some_and(|own| own <= most);
    let headers = |own: &HeaderRules, guard: &HeaderRules| guard.is_empty() || own == guard;
    other.limits.body_max.is_none_or(is_within)
        && (other.limits.rate.is_none() || route.limits.rate == other.limits.rate)
        && (guards.answer.is_none() || rules.answer == guards.answer)
        && (rules.cors.is_none() || rules.cors == guards.cors)
        && headers(&rules.request_headers, &guards.request_headers)
        && headers(&rules.response_headers, &guards.response_headers)
}

fn meets(route: &RouteDoc, identity: &Identity) -> Result<(), Denial> {
    let require = &route.require;
    let holds = |held: &[Name], asked: &Name| held.contains(asked);
    if !require.any_role.is_empty() && !require.any_role.iter().any(|role| holds(&identity.roles, role)) {
        return Err(Denial::NoneOfRoles(require.any_role.clone()));
    }
    if let Some(role) = require.all_roles.iter().find(|role| !holds(&identity.roles, role)) {
        return Err(Denial::MissingRole(role.clone()));
    }
    let permissions = &identity.permissions;
    if !require.any_permission.is_empty() && !require.any_permission.iter().any(|p| holds(permissions, p)) {
        return Err(Denial::NoneOfPermissions(require.any_permission.clone()));
    }
    if let Some(permission) = require.all_permissions.iter().find(|p| !holds(permissions, p)) {
        return Err(Denial::MissingPermission(permission.clone()));
    }
    Ok(())
}

/// `the role a`, or `one of the roles a, b`.
fn one_of(kind: &str, names: &[Name]) -> String {
    if let [only] = names {
        return format!("the {kind} {only}");
    }
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    format!("one of the {kind}s {}", names.join(", "))
}

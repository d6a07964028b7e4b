//! The one decision: may this caller use this route. Edge and warpgate both run it; nothing else makes a [`Permit`].

use std::net::IpAddr;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::identity::{Assurance, Identity, Subject};
use crate::route::{AuthMode, Cidr, ClaimRule, READER, RouteDoc};
use crate::rules::HeaderRules;
use crate::slug::Name;

/// Proof that [`decide`] allowed a request on a route. Forwarding takes one by value.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    forwards_identity: bool,
    would_deny: Option<Denial>,
}

impl Permit {
    /// Whether the caller's identity goes to the upstream: not on public routes.
    pub fn forwards_identity(&self) -> bool {
        self.forwards_identity
    }

    /// What a route in a dry run would have refused the request for.
    pub fn would_deny(&self) -> Option<&Denial> {
        self.would_deny.as_ref()
    }
}

/// What is known of a request beside its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Where the client is.
    pub client: IpAddr,
    /// The time, by the clock of whoever decides; set back by as much as it may differ from control's, which said when a caller
    /// signed in.
    pub now: Timestamp,
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
    /// The client is in none of the route's networks.
    #[error("the client's address is in none of the route's networks")]
    Network,
    /// The claim of this name is missing, or has another value.
    #[error("needs another value of the claim {0}")]
    Claim(String),
    /// The caller has not proved strongly enough who they are.
    #[error("needs a sign-in of strength {}", .needs.as_str())]
    Assurance {
        /// How strongly they would have to.
        needs: Assurance,
    },
    /// The caller proved who they are too long ago.
    #[error("needs a sign-in within {max_auth_age_s} s")]
    TooOld {
        /// How long ago it may be, in seconds.
        max_auth_age_s: u32,
    },
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
            Self::Network => "network",
            Self::Claim(_) => "claim",
            Self::Assurance { .. } => "assurance",
            Self::TooOld { .. } => "too_old",
            Self::TooNew => "too_new",
        }
    }

    /// Whether another sign-in may put it right (RFC 9470).
    pub const fn is_of_sign_in(&self) -> bool {
        matches!(self, Self::SignInRequired | Self::Assurance { .. } | Self::TooOld { .. })
    }
}

/// Decides whether `caller` may use `route`; deny unless every demand is met.
///
/// In order: whether the route can be read, the client's network, sign-in, its strength and age, then roles, permissions and
/// claims; the first demand that is not met is the answer. In a dry run (`enforce: false`) nobody passes who is not signed in where
/// the route asks for that; what else they lack is told in the permit. Takes no memory unless something is lacking.
pub fn decide(
    route: &RouteDoc,
    caller: Option<&Identity>,
    circumstances: &Circumstances,
) -> Result<Permit, Denial> {
    if route.min_reader > READER {
        return Err(Denial::TooNew);
    }
    let mut lacks = is_near(route, circumstances.client).err();
    if route.enforce
        && let Some(denial) = lacks
    {
        return Err(denial);
    }
    let forwards_identity = match (route.auth_in_force(), caller) {
        (AuthMode::Public, _) | (AuthMode::Optional, None) => false,
        (AuthMode::Required, None) => return Err(Denial::SignInRequired),
        (AuthMode::Optional | AuthMode::Required, Some(identity)) => {
            let met = is_proved(route, identity, circumstances.now).and_then(|()| meets(route, identity));
            match met {
                Err(denial) if route.enforce => return Err(denial),
                met => lacks = lacks.or(met.err()),
            }
            true
        }
    };
    Ok(Permit { forwards_identity, would_deny: lacks })
}

/// Whether whoever may use `route` may use `other` too, so that nothing is gained by passing one off as the other.
///
/// Lists of demands are compared whole: two that differ count as more, even where one would follow from the other. What else
/// guards a route counts too: its limits, its own answer, the headers it sets and removes, what it tells the upstream of a caller, and
/// what it keeps from other origins.
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
    let signs_in = match (route.auth_in_force(), other.auth_in_force()) {
        (_, AuthMode::Public | AuthMode::Optional) | (AuthMode::Required, AuthMode::Required) => true,
        (AuthMode::Public | AuthMode::Optional, AuthMode::Required) => false,
    };
    signs_in && (!other.enforce || demands_no_less(route, other))
}

/// Whether whoever meets the demands of `route` beyond sign-in meets those of `other`, which are enforced.
fn demands_no_less(route: &RouteDoc, other: &RouteDoc) -> bool {
    let within = |network: &Cidr| other.networks.iter().any(|wider| network.is_within(wider));
    let is_near = other.networks.is_empty()
        || (route.enforce && !route.networks.is_empty() && route.networks.iter().all(within));
    let holds = other.require.is_empty() || (route.enforce && route.require == other.require);
    let (own, asked) = (route.step_up, other.step_up);
    let is_strong = asked.acr.is_none_or(|acr| route.enforce && own.acr.is_some_and(|own| own >= acr));
    let is_young = asked
        .max_auth_age_s
        .is_none_or(|age| route.enforce && own.max_auth_age_s.is_some_and(|own| own <= age));
    is_near && holds && is_strong && is_young
}

/// Whether nothing that guards `other` beside its policy is missing from `route`.
fn guards_no_less(route: &RouteDoc, other: &RouteDoc) -> bool {
    let (rules, guards) = (&route.rules, &other.rules);
    let is_within = |most: u64| route.limits.body_max.is_some_and(|own| own <= most);
    let headers = |own: &HeaderRules, guard: &HeaderRules| guard.is_empty() || own == guard;
    other.limits.body_max.is_none_or(is_within)
        && (other.limits.rate.is_none() || route.limits.rate == other.limits.rate)
        && (guards.answer.is_none() || rules.answer == guards.answer)
        && (other.identity.is_empty() || route.identity == other.identity)
        && (rules.cors.is_none() || rules.cors == guards.cors)
        && headers(&rules.request_headers, &guards.request_headers)
        && headers(&rules.response_headers, &guards.response_headers)
}

fn is_near(route: &RouteDoc, client: IpAddr) -> Result<(), Denial> {
    let networks = &route.networks;
    if networks.is_empty() || networks.iter().any(|network| network.contains(client)) {
        Ok(())
    } else {
        Err(Denial::Network)
    }
}

fn is_proved(route: &RouteDoc, identity: &Identity, now: Timestamp) -> Result<(), Denial> {
    let step_up = route.step_up;
    if let Some(needs) = step_up.acr.filter(|needs| identity.assurance < *needs) {
        return Err(Denial::Assurance { needs });
    }
    // A machine presents its key with each request.
    let is_person = matches!(identity.subject, Subject::User(_));
    if let Some(max_auth_age_s) = step_up.max_auth_age_s.filter(|_| is_person)
        && now.since(identity.authenticated_at) > Duration::from_secs(max_auth_age_s.into())
    {
        return Err(Denial::TooOld { max_auth_age_s });
    }
    Ok(())
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
    let lacks =
        |rule: &&ClaimRule| !identity.claims.get(&rule.name).is_some_and(|value| rule.is_met_by(value));
    match require.claims.iter().find(lacks) {
        Some(rule) => Err(Denial::Claim(rule.name.clone())),
        None => Ok(()),
    }
}

/// `the role a`, or `one of the roles a, b`.
fn one_of(kind: &str, names: &[Name]) -> String {
    if let [only] = names {
        return format!("the {kind} {only}");
    }
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    format!("one of the {kind}s {}", names.join(", "))
}

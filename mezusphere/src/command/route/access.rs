//! Flags of a route: who may use it, for which methods, and where it leads.

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use mezusphere_control::api::types::{IdentityChanges, RequireChanges, StepUpChanges};
use mezusphere_model::identity::Assurance;
use mezusphere_model::route::{AuthMode, Cidr, ClaimRule, IdentityProfile};
use mezusphere_model::slug::{Name, Slug};

use super::limits::change;
use super::value::{claim_rule, network, short_seconds};

/// Who may use a route at all.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Auth {
    /// Everybody; no identity is forwarded
    Public,
    /// Everybody; the identity is forwarded when there is one
    Optional,
    /// Only who is signed in
    Required,
}

impl From<Auth> for AuthMode {
    fn from(auth: Auth) -> Self {
        match auth {
            Auth::Public => Self::Public,
            Auth::Optional => Self::Optional,
            Auth::Required => Self::Required,
        }
    }
}

/// How strongly somebody must have signed in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Acr {
    /// With one factor
    Aal1,
    /// With two factors, or a passkey
    Aal2,
}

impl From<Acr> for Assurance {
    fn from(acr: Acr) -> Self {
        match acr {
            Acr::Aal1 => Self::Aal1,
            Acr::Aal2 => Self::Aal2,
        }
    }
}

/// A family of headers by its word.
fn profile(word: &str) -> Option<IdentityProfile> {
    IdentityProfile::ALL.into_iter().find(|profile| profile.as_str() == word)
}

/// What a route asks for, and where it leads.
#[derive(Debug, Args)]
pub(super) struct AccessArgs {
    /// One of these roles is needed; may be repeated.
    #[arg(long = "role", value_name = "NAME")]
    roles: Vec<Name>,
    /// This role is needed, with every other given so; may be repeated.
    #[arg(long = "all-role", value_name = "NAME")]
    all_roles: Vec<Name>,
    /// One of these permissions is needed; may be repeated.
    #[arg(long = "permission", value_name = "NAME")]
    permissions: Vec<Name>,
    /// This permission is needed, with every other given so; may be repeated.
    #[arg(long = "all-permission", value_name = "NAME")]
    all_permissions: Vec<Name>,
    /// The user's claim NAME must have one of these values, or hold one if it is a list; may be repeated, once for each claim.
    /// true, false and numbers are such; in quotes they are texts: 'level="3"'.
    #[arg(long = "require-claim", value_name = "NAME=VALUE[,VALUE]", value_parser = claim_rule)]
    claims: Vec<ClaimRule>,
    /// Clients must come from this network, or another one given so: 192.0.2.0/24, `2001:db8::/32`, one address; may be repeated.
    #[arg(long = "network", value_name = "CIDR", value_parser = network)]
    networks: Vec<Cidr>,
    /// How strongly they must have signed in.
    #[arg(long, value_enum)]
    acr: Option<Acr>,
    /// How long ago they may have signed in, from 60s on: 15m, 8h. Whoever did so earlier signs in again, and comes back.
    #[arg(long, value_name = "TIME", value_parser = short_seconds)]
    max_auth_age: Option<u32>,
    /// Whether whoever does not meet these demands is refused; with false they are let in, and written down. Sign-in itself is always
    /// asked for.
    #[arg(long, value_name = "BOOL")]
    enforce: Option<bool>,
    /// The same as --enforce false.
    #[arg(long, conflicts_with = "enforce")]
    dry_run_policy: bool,
    /// Tell the upstream who it is in these headers too; may be repeated.
    #[arg(
        long = "identity-profile",
        value_name = "PROFILE",
        value_parser = PossibleValuesParser::new(IdentityProfile::ALL.map(IdentityProfile::as_str)),
    )]
    profiles: Vec<String>,
    /// Tell the upstream this claim; may be repeated.
    #[arg(long = "forward-claim", value_name = "NAME")]
    forward_claims: Vec<String>,
    /// Only this method; may be repeated.
    #[arg(long = "method", value_name = "METHOD")]
    pub(super) methods: Vec<String>,
    /// The warpgate's name for where it leads.
    #[arg(long, value_name = "NAME")]
    pub(super) upstream: Option<Slug>,
}

/// What of it can be taken back.
#[derive(Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct ClearAccess {
    /// For every method again.
    #[arg(long, conflicts_with = "methods")]
    all_methods: bool,
    /// Ask for no role, no permission and no claim any more.
    #[arg(long, conflicts_with_all = ["roles", "all_roles", "permissions", "all_permissions", "claims"])]
    no_require: bool,
    /// Ask for no claim any more.
    #[arg(long, conflicts_with = "claims")]
    no_require_claims: bool,
    /// Let clients come from everywhere again.
    #[arg(long, conflicts_with = "networks")]
    no_networks: bool,
    /// Take any sign-in, however strong.
    #[arg(long, conflicts_with = "acr")]
    no_acr: bool,
    /// Take any sign-in, however old.
    #[arg(long, conflicts_with = "max_auth_age")]
    no_max_auth_age: bool,
    /// Tell the upstream in our own headers only.
    #[arg(long, conflicts_with = "profiles")]
    no_identity_profiles: bool,
    /// Tell the upstream no claims any more.
    #[arg(long, conflicts_with = "forward_claims")]
    no_forward_claims: bool,
}

impl AccessArgs {
    /// What an identity must hold from now on.
    pub(super) fn require(&self, clear: &ClearAccess) -> RequireChanges {
        RequireChanges {
            any_role: list(&self.roles, clear.no_require),
            all_roles: list(&self.all_roles, clear.no_require),
            any_permission: list(&self.permissions, clear.no_require),
            all_permissions: list(&self.all_permissions, clear.no_require),
            claims: list(&self.claims, clear.no_require || clear.no_require_claims),
        }
    }

    /// How it must have been proved from now on.
    pub(super) fn step_up(&self, clear: &ClearAccess) -> StepUpChanges {
        StepUpChanges {
            acr: change(self.acr.map(Into::into), clear.no_acr),
            max_auth_age_s: change(self.max_auth_age, clear.no_max_auth_age),
        }
    }

    /// The networks from now on, if they change.
    pub(super) fn networks(&self, clear: &ClearAccess) -> Option<Vec<String>> {
        let networks = list(&self.networks, clear.no_networks);
        networks.map(|networks| networks.iter().map(ToString::to_string).collect())
    }

    /// Whether demands refuse anybody from now on, if that changes.
    pub(super) fn enforce(&self) -> Option<bool> {
        if self.dry_run_policy { Some(false) } else { self.enforce }
    }

    /// What the upstream is told from now on.
    pub(super) fn identity(&self, clear: &ClearAccess) -> IdentityChanges {
        let profiles = list(&self.profiles, clear.no_identity_profiles);
        IdentityChanges {
            profiles: profiles.map(|words| words.iter().filter_map(|word| profile(word)).collect()),
            claims: list(&self.forward_claims, clear.no_forward_claims),
        }
    }

    /// The methods from now on, if they change.
    pub(super) fn new_methods(&self, clear: &ClearAccess) -> Option<Vec<String>> {
        (clear.all_methods || !self.methods.is_empty()).then(|| self.methods.clone())
    }
}

/// A list that is given, an empty one if it is taken back, or none if it stays.
fn list<T: Clone>(given: &[T], is_cleared: bool) -> Option<Vec<T>> {
    (is_cleared || !given.is_empty()).then(|| given.to_vec())
}

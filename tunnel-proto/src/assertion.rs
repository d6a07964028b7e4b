//! The assertion: who sends a request, signed by control, believed by warpgates and workloads.
//!
//! A JWS of type [`TYP`]; its claims are those of RFC 7519 and OpenID Connect Core §2 where those have one.
//! An edge carries it and cannot make one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::id::{EnvironmentId, ProjectId, SessionId};
use mezusphere_model::identity::{Assurance, Identity, Method, Subject};
use mezusphere_model::slug::Name;
use serde::{Deserialize, Serialize};

use crate::jws::{self, Jwk, JwsError, SignError, SigningKey};
use crate::limits::{ASSERTION_LEN_MAX, ASSERTION_TTL, CLOCK_SKEW_MAX};

/// The `typ` of its header, so that no other text signed with the same key passes for one.
pub const TYP: &str = "mezu-assertion+jwt";

/// Whom an assertion is for: one environment. Text form: `<project id>/<environment id>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Audience {
    /// The project.
    pub project: ProjectId,
    /// The environment.
    pub environment: EnvironmentId,
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.environment)
    }
}

/// What an assertion says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who signed it: the trust domain's URI.
    pub iss: String,
    /// Whom it is for; see [`Audience`].
    pub aud: String,
    /// Who.
    #[serde(with = "subject")]
    pub sub: Subject,
    /// The session; none for machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
    /// E-mail address; empty for machines.
    #[serde(default)]
    pub email: String,
    /// Name to show.
    #[serde(default)]
    pub name: String,
    /// Roles in the project, sorted.
    #[serde(default)]
    pub roles: Vec<Name>,
    /// Permissions in the project, sorted.
    #[serde(default)]
    pub permissions: Vec<Name>,
    /// How they signed in (RFC 8176), sorted. Text, because a newer control may know more ways.
    #[serde(default)]
    pub amr: Vec<String>,
    /// How strongly.
    #[serde(default)]
    pub acr: String,
    /// When they last proved it, in seconds since 1970.
    pub auth_time: i64,
    /// When it was signed, in seconds since 1970.
    pub iat: i64,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// Custom claims.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, serde_json::Value>,
}

/// Why an assertion is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// Not signed as it must be.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// Longer than [`ASSERTION_LEN_MAX`].
    #[error("the assertion is longer than {ASSERTION_LEN_MAX} octets")]
    TooLong,
    /// Signed, but its claims do not read as ours.
    #[error("the assertion's claims are malformed")]
    Claims,
    /// For another project or environment.
    #[error("the assertion is for another environment")]
    WrongAudience,
    /// Its time is over.
    #[error("the assertion has expired")]
    Expired,
    /// Signed further in the future than clocks may differ.
    #[error("the assertion is not valid yet: check the clock")]
    NotYetValid,
}

/// Why an assertion could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The key failed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Roles, permissions and custom claims take more than [`ASSERTION_LEN_MAX`].
    #[error(
        "the assertion would be longer than {ASSERTION_LEN_MAX} octets; give the user fewer roles or claims"
    )]
    TooLong,
}

/// Signs `claims`. For control only.
pub fn sign(key: &SigningKey, claims: &Claims) -> Result<String, MintError> {
    let payload = serde_json::to_vec(claims).map_err(|_| SignError)?;
    let jws = jws::sign(key, TYP, &payload)?;
    if jws.len() > ASSERTION_LEN_MAX { Err(MintError::TooLong) } else { Ok(jws) }
}

/// What `jws` says, if one of `keys` signed it for `audience` and `now` lies within its time.
///
/// The end holds to the second. The beginning may lie ahead by the clock skew of design §9:
/// the lesser of [`CLOCK_SKEW_MAX`] and a quarter of its life.
pub fn verify(jws: &str, keys: &[Jwk], audience: Audience, now: Timestamp) -> Result<Claims, AssertionError> {
    if jws.len() > ASSERTION_LEN_MAX {
        return Err(AssertionError::TooLong);
    }
    let payload = jws::verify(jws, TYP, keys)?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| AssertionError::Claims)?;
    if claims.aud != audience.to_string() {
        return Err(AssertionError::WrongAudience);
    }
    let (issued, expires) = (Timestamp::from_seconds(claims.iat), claims.expires_at());
    if expires <= issued {
        return Err(AssertionError::Claims);
    }
    if now >= expires {
        return Err(AssertionError::Expired);
    }
    let skew = CLOCK_SKEW_MAX.min(expires.since(issued) / 4);
    if issued.since(now) > skew { Err(AssertionError::NotYetValid) } else { Ok(claims) }
}

impl Claims {
    /// The claims of `identity` for `audience`, from `now` for [`ASSERTION_TTL`].
    pub fn from_identity(identity: &Identity, issuer: &str, audience: Audience, now: Timestamp) -> Self {
        Self::with_life(identity, issuer, audience, now, ASSERTION_TTL)
    }

    /// The claims of `identity` for `audience`, from `now` for `life`.
    pub fn with_life(
        identity: &Identity,
        issuer: &str,
        audience: Audience,
        now: Timestamp,
        life: Duration,
    ) -> Self {
        Self {
            iss: issuer.to_owned(),
            aud: audience.to_string(),
            sub: identity.subject,
            sid: identity.session,
            email: identity.email.clone(),
            name: identity.name.clone(),
            roles: identity.roles.clone(),
            permissions: identity.permissions.clone(),
            amr: identity.methods.iter().map(|method| method.as_str().to_owned()).collect(),
            acr: identity.assurance.as_str().to_owned(),
            auth_time: identity.authenticated_at.as_seconds(),
            iat: now.as_seconds(),
            exp: now.after(life).as_seconds(),
            claims: identity.claims.clone(),
        }
    }

    /// The identity that policy decides on. A way to sign in that this version does not know is left out, an
    /// unknown strength counts as the weakest.
    pub fn identity(&self) -> Identity {
        const METHODS: [Method; 5] =
            [Method::Password, Method::OneTimeCode, Method::Passkey, Method::Email, Method::ApiKey];
        let known = |text: &String| METHODS.into_iter().find(|method| method.as_str() == text);
        let mut methods: Vec<Method> = self.amr.iter().filter_map(known).collect();
        methods.sort_unstable();
        let strong = self.acr == Assurance::Aal2.as_str();
        Identity {
            subject: self.sub,
            session: self.sid,
            email: self.email.clone(),
            name: self.name.clone(),
            roles: self.roles.clone(),
            permissions: self.permissions.clone(),
            methods,
            assurance: if strong { Assurance::Aal2 } else { Assurance::Aal1 },
            authenticated_at: Timestamp::from_seconds(self.auth_time),
            claims: self.claims.clone(),
        }
    }

    /// When it ends. To be checked at every use of a remembered identity.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_seconds(self.exp)
    }
}

/// A subject as its id's text, which says by its prefix what it is of.
mod subject {
    use mezusphere_model::identity::Subject;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(subject: &Subject, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(subject)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Subject, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

//! Why a rule cannot be carried out. The next step, for people, is control's.

use super::{
    BODY_MAX_MAX, BURST_MAX, CORS_AGE_S_MAX, EXCHANGES_MAX, HEADER_LIST_LEN_MAX, HEADER_VALUE_LEN_MAX,
    MAINTENANCE_LEN_MAX, PER_MINUTE_MAX, PER_SECOND_MAX, REDIRECT_LEN_MAX, RETRY_AFTER_S_MAX, RULES_MAX,
};

use crate::route::{
    AUTH_AGE_S_MAX, AUTH_AGE_S_MIN, CLAIM_NAME_LEN_MAX, CLAIM_VALUE_LEN_MAX, CLAIM_VALUES_MAX, CLAIMS_MAX,
    NETWORKS_MAX,
};

/// Why a demand or rule of a route cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A path of a path rule is not one, or not in canonical form.
    #[error(
        "path rule: {0:?} is not a path in canonical form: it starts with /, has no / at its end and nothing escaped"
    )]
    Path(String),
    /// Not every path of the route begins with the rule's prefix.
    #[error("path rule: not every path of the route begins with {0}")]
    Uncovered(String),
    /// Paths that a regular expression matches have no prefix in common.
    #[error("path rule: a route that matches by a regular expression has no prefix")]
    PrefixOfRegex,
    /// Not a host, with or without a port.
    #[error("upstream host: {0:?} is not a host, nor a host with a port")]
    UpstreamHost(String),
    /// Not the name of a header field, or not one that is read in one way only.
    #[error("header {0:?}: a name has 1 to 64 letters, digits and hyphens")]
    HeaderName(String),
    /// A name that only Mezusphere may write.
    #[error("header {0}: names that begin with mezu- are reserved")]
    HeaderReserved(String),
    /// A name that a rule may not touch.
    #[error("header {0}: {1}")]
    HeaderForbidden(String, &'static str),
    /// A name that has two rules.
    #[error("header {0} has two rules")]
    HeaderTwice(String),
    /// A value that no field may have.
    #[error("header {0}: a value has printable ASCII characters only, and no blank at either end")]
    HeaderValue(String),
    /// A value that is too long.
    #[error("header {0}: a value has at most {HEADER_VALUE_LEN_MAX} octets")]
    HeaderValueLength(String),
    /// All fields together are too long.
    #[error("headers: names and values that are set have at most {HEADER_LIST_LEN_MAX} octets together")]
    HeaderListLength,
    /// A response header that the route's CORS rule writes.
    #[error("header {0}: the CORS rule of the route writes it")]
    HeaderOfCors(String),
    /// A list that is too long.
    #[error("{0}: at most {RULES_MAX}")]
    TooMany(&'static str),
    /// A target that is neither a URL nor a path, or that names what is not known.
    #[error("redirect: {0}")]
    Redirect(&'static str),
    /// A target that is too long.
    #[error("redirect: a target has at most {REDIRECT_LEN_MAX} characters")]
    RedirectLength,
    /// A message that cannot be shown.
    #[error("maintenance: a message has 1 to {MAINTENANCE_LEN_MAX} characters and no control character")]
    Maintenance,
    /// A time that nobody waits for.
    #[error("maintenance: retry after 1 to {RETRY_AFTER_S_MAX} seconds")]
    RetryAfter,
    /// No origin at all.
    #[error("CORS: at least one origin is needed")]
    CorsOrigins,
    /// Every origin, and with cookies.
    #[error("CORS: credentials are never allowed to every origin, method or header")]
    CorsWildcard,
    /// A method or header name that is none.
    #[error("CORS: {0:?} is not a name of a method or header")]
    CorsToken(String),
    /// A time that no browser keeps.
    #[error("CORS: a preflight is remembered for at most {CORS_AGE_S_MAX} seconds")]
    CorsAge,
    /// A name that no claim has.
    #[error(
        "claim {0:?}: a name has 1 to {CLAIM_NAME_LEN_MAX} letters, digits, -, _ and ., and begins with a letter"
    )]
    ClaimName(String),
    /// Values that no claim can be compared with.
    #[error(
        "claim {0}: 1 to {CLAIM_VALUES_MAX} values are accepted, each a text of at most {CLAIM_VALUE_LEN_MAX} octets, a number, true or false"
    )]
    ClaimValues(String),
    /// Too many claims.
    #[error("claims: at most {CLAIMS_MAX}")]
    TooManyClaims,
    /// A proof of identity that nobody has, or everybody.
    #[error("max auth age: {AUTH_AGE_S_MIN} s to {} days", AUTH_AGE_S_MAX / (24 * 60 * 60))]
    AuthAge,
    /// Too many networks.
    #[error("networks: at most {NETWORKS_MAX}")]
    TooManyNetworks,
    /// A size out of bounds.
    #[error("body limit: at most {BODY_MAX_MAX} octets")]
    BodyMax,
    /// A rate out of bounds.
    #[error("rate: 1 to {PER_MINUTE_MAX} requests a minute, with bursts of 1 to {BURST_MAX}")]
    Rate,
    /// A quota out of bounds.
    #[error("quota: 1 to {PER_SECOND_MAX} requests a second, and 1 to {EXCHANGES_MAX} exchanges at a time")]
    Quota,
    /// The whole ends before its first part may.
    #[error("timeouts: total_ms ({total}) is shorter than head_ms ({head})")]
    Total {
        /// The whole, in milliseconds.
        total: u32,
        /// To the response head, in milliseconds.
        head: u32,
    },
}

//! What a route does beyond leading somewhere: rules on its requests and responses, answers of its own, and limits.
//!
//! Control checks every rule before it stores it, and [`crate::route::Site::build`] checks it again where it is read: a route
//! with a rule that does not hold is closed, never served without it. Which rule acts where is ADR 15:
//!
//! | rule | acts at |
//! |---|---|
//! | [`EdgeAnswer`], [`CorsRule`], [`RouteLimits`], [`ProjectQuota`] | the edge |
//! | [`PathRule`], upstream host, [`HeaderRules`] | the warpgate, from the bundle that control signed |
//!
//! A new kind of rule is a new field with a reader of its own in [`RouteRules::reader`], never a new variant: an older
//! reader passes over a field and closes the route by its number, but a variant it does not know would cost it the whole site.

mod answer;
mod authority;
mod cors;
mod error;
mod field;
mod header;
mod limit;
mod origin;
mod path;

use serde::{Deserialize, Serialize};

pub use self::answer::{
    EdgeAnswer, MAINTENANCE_LEN_MAX, Maintenance, REDIRECT_LEN_MAX, RETRY_AFTER_S_MAX, Redirect,
    RedirectStatus,
};
pub use self::cors::{CORS_AGE_S_MAX, CorsRule};
pub use self::error::RuleError;
pub use self::header::{HEADER_LIST_LEN_MAX, HEADER_VALUE_LEN_MAX, HeaderRules, HeaderValueRule};
pub use self::limit::{
    BODY_MAX_MAX, BURST_MAX, EXCHANGES_MAX, PER_MINUTE_MAX, PER_SECOND_MAX, ProjectQuota, Rate, RateKey,
    RateTextError, RouteLimits,
};
pub use self::origin::{Origin, OriginError};
pub use self::path::PathRule;

use crate::pattern::PathMatch;

/// Most entries in any one list of a rule: more is a mistake, or a program that writes rules.
pub const RULES_MAX: usize = 32;

/// Which program reads a route: each carries out some of the rules and passes over the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Answers, limits and CORS.
    Edge,
    /// What the upstream sees, and what it said.
    Warpgate,
}

/// What a route does to its requests and responses, and in their place. The default does nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteRules {
    /// How the path changes on its way to the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRule>,
    /// `host` or `host:port` that the upstream is asked for, in place of the request's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_host: Option<String>,
    /// On the request's header fields, after ours were set.
    #[serde(skip_serializing_if = "HeaderRules::is_empty")]
    pub request_headers: HeaderRules,
    /// On the response's header fields, as the upstream sent them.
    #[serde(skip_serializing_if = "HeaderRules::is_empty")]
    pub response_headers: HeaderRules,
    /// What the edge answers in the upstream's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<EdgeAnswer>,
    /// Which other origins' pages may read the route. With one, the edge answers preflights, and takes what the upstream says of
    /// CORS out of its responses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<CorsRule>,
}

impl RouteRules {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every rule can be carried out on a route that matches `path`.
    ///
    /// # Errors
    /// The first one that cannot.
    pub fn check(&self, path: &PathMatch) -> Result<(), RuleError> {
        if let Some(rule) = &self.path {
            rule.check(path)?;
        }
        if let Some(host) = &self.upstream_host
            && !authority::is_authority(host)
        {
            return Err(RuleError::UpstreamHost(host.clone()));
        }
        self.request_headers.check(header::Side::Request)?;
        self.response_headers.check(header::Side::Response)?;
        match &self.answer {
            Some(EdgeAnswer::Redirect(redirect)) => redirect.check()?,
            Some(EdgeAnswer::Maintenance(maintenance)) => maintenance.check()?,
            None => {}
        }
        if let Some(cors) = &self.cors {
            cors.check()?;
            if let Some(name) = self.response_headers.names().find(|name| cors::is_ours(name)) {
                return Err(RuleError::HeaderOfCors(name.to_owned()));
            }
        }
        Ok(())
    }

    /// The oldest reader that carries out what of these is `reader`'s.
    pub fn reader(&self, reader: Reader) -> u32 {
        let has_any = match reader {
            Reader::Edge => self.answer.is_some() || self.cors.is_some(),
            Reader::Warpgate => {
                self.path.is_some()
                    || self.upstream_host.is_some()
                    || !self.request_headers.is_empty()
                    || !self.response_headers.is_empty()
            }
        };
        if has_any { 2 } else { 1 }
    }
}

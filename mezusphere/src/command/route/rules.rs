//! Flags of a route: what it does to its requests and responses, and what it answers by itself.

use clap::Args;
use mezusphere_control::api::types::{
    Change, CorsChanges, HeaderChanges, HeaderRule, Maintenance, Redirect, Rewrite, RuleChanges,
};

use super::limits::change;
use super::value::{header, redirect_status, replacement, short_seconds};
use crate::failure::{Failure, Kind};

/// What stands for an empty list.
const NONE: &str = "none";

/// What a route does beyond leading somewhere.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rules")]
pub(super) struct RuleArgs {
    /// Take this off the path on its way to the upstream: with /api, /api/v1 becomes /v1.
    #[arg(long, value_name = "PATH", conflicts_with = "replace_prefix")]
    strip_prefix: Option<String>,
    /// Put something else at the beginning of the path: with /a=/b, /a/x becomes /b/x.
    #[arg(long, value_name = "OLD=NEW", value_parser = replacement)]
    replace_prefix: Option<(String, String)>,
    /// Ask the upstream for this host, with or without a port, in place of the one the request was sent to.
    #[arg(long, value_name = "HOST")]
    upstream_host: Option<String>,
    /// Set a header on the way to the upstream; may be repeated. No place for secrets: routes are shown.
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    set_request_header: Vec<(String, String)>,
    /// Take a header off on the way to the upstream; may be repeated.
    #[arg(long, value_name = "NAME")]
    remove_request_header: Vec<String>,
    /// Set a header on the way back to the client; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    set_response_header: Vec<(String, String)>,
    /// Take a header off on the way back to the client; may be repeated.
    #[arg(long, value_name = "NAME")]
    remove_response_header: Vec<String>,
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "maintenance",
        help = "Send requests on to a URL or path, in which {path}, {query} and {host} stand for the request's own: \
                'https://new.example{path}{query}'"
    )]
    redirect: Option<String>,
    /// Status of the redirect: 301, 302, 303, 307 or 308; 307 if never said.
    #[arg(long, value_name = "STATUS", requires = "redirect", value_parser = redirect_status)]
    redirect_status: Option<u16>,
    /// Answer 503 with this text to everybody.
    #[arg(long, value_name = "TEXT")]
    maintenance: Option<String>,
    /// When to ask again: 90s, 30m, 2h.
    #[arg(long, value_name = "TIME", requires = "maintenance", value_parser = short_seconds)]
    retry_after: Option<u32>,
    #[arg(
        long,
        value_name = "ORIGIN",
        help = "Let pages of this origin read it: https://app.example; '*' for every origin. May be repeated"
    )]
    cors_origin: Vec<String>,
    /// Let those pages use this method; GET, HEAD and POST go without saying. May be repeated.
    #[arg(long, value_name = "METHOD|none")]
    cors_method: Vec<String>,
    /// Let those pages send this header; may be repeated.
    #[arg(long, value_name = "NAME|none")]
    cors_header: Vec<String>,
    /// Let those pages see this header of responses; may be repeated.
    #[arg(long, value_name = "NAME|none")]
    cors_expose: Vec<String>,
    /// Whether those pages act as whoever is signed in.
    #[arg(long, value_name = "BOOL")]
    cors_credentials: Option<bool>,
    /// How long a browser may remember the answer to its preflight: 10m, 24h at most.
    #[arg(long, value_name = "TIME", value_parser = short_seconds)]
    cors_max_age: Option<u32>,
}

/// What of it can be taken back.
#[derive(Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct ClearRules {
    /// Pass the path on as it is again.
    #[arg(long, conflicts_with_all = ["strip_prefix", "replace_prefix"])]
    no_path_rule: bool,
    /// Ask the upstream for the request's own host again.
    #[arg(long, conflicts_with = "upstream_host")]
    no_upstream_host: bool,
    /// Pass this request header on as it is again; may be repeated.
    #[arg(long, value_name = "NAME")]
    keep_request_header: Vec<String>,
    /// Pass every request header on as it is again.
    #[arg(long, conflicts_with_all = ["set_request_header", "remove_request_header", "keep_request_header"])]
    no_request_headers: bool,
    /// Pass this response header on as it is again; may be repeated.
    #[arg(long, value_name = "NAME")]
    keep_response_header: Vec<String>,
    /// Pass every response header on as it is again.
    #[arg(long, conflicts_with_all = ["set_response_header", "remove_response_header", "keep_response_header"])]
    no_response_headers: bool,
    /// Send requests on no more.
    #[arg(long, conflicts_with = "redirect")]
    no_redirect: bool,
    /// Open it again.
    #[arg(long, conflicts_with = "maintenance")]
    no_maintenance: bool,
    /// Let pages of no other origin read it.
    #[arg(
        long,
        conflicts_with_all = [
            "cors_origin", "cors_method", "cors_header", "cors_expose", "cors_credentials", "cors_max_age",
        ],
    )]
    no_cors: bool,
}

impl RuleArgs {
    /// What these flags change together.
    ///
    /// # Errors
    /// A header with two rules.
    pub(super) fn changes(&self, clear: &ClearRules) -> Result<RuleChanges, Failure> {
        let strip = self.strip_prefix.clone().map(|prefix| Rewrite { prefix, with: None });
        let replace = self.replace_prefix.clone().map(|(prefix, with)| Rewrite { prefix, with: Some(with) });
        let redirect = self.redirect.clone().map(|to| Redirect { to, status: self.redirect_status });
        let maintenance = self.maintenance.clone();
        let maintenance = maintenance.map(|message| Maintenance { message, retry_after_s: self.retry_after });
        let request =
            headers(&self.set_request_header, &self.remove_request_header, &clear.keep_request_header)?;
        let response =
            headers(&self.set_response_header, &self.remove_response_header, &clear.keep_response_header)?;
        Ok(RuleChanges {
            path: change(strip.or(replace), clear.no_path_rule),
            upstream_host: change(self.upstream_host.clone(), clear.no_upstream_host),
            request_headers: change(request, clear.no_request_headers),
            response_headers: change(response, clear.no_response_headers),
            redirect: change(redirect, clear.no_redirect),
            maintenance: change(maintenance, clear.no_maintenance),
            cors: self.cors(clear.no_cors),
        })
    }

    fn cors(&self, cleared: bool) -> Change<CorsChanges> {
        let list = |given: &[String]| match given {
            [] => None,
            [only] if only == NONE => Some(Vec::new()),
            names => Some(names.to_vec()),
        };
        let changes = CorsChanges {
            origins: list(&self.cors_origin),
            methods: list(&self.cors_method),
            headers: list(&self.cors_header),
            expose: list(&self.cors_expose),
            credentials: self.cors_credentials,
            max_age_s: self.cors_max_age,
        };
        change((changes != CorsChanges::default()).then_some(changes), cleared)
    }
}

fn headers(
    set: &[(String, String)],
    remove: &[String],
    keep: &[String],
) -> Result<Option<HeaderChanges>, Failure> {
    let set = set.iter().map(|(name, value)| (name, Some(HeaderRule::Set(value.clone()))));
    let remove = remove.iter().map(|name| (name, Some(HeaderRule::Remove)));
    let mut changes = HeaderChanges::new();
    for (name, rule) in set.chain(remove).chain(keep.iter().map(|name| (name, None))) {
        let name = name.to_ascii_lowercase();
        if changes.insert(name.clone(), rule).is_some() {
            return Err(Failure::new(Kind::Usage, format!("the header {name} is given two rules"))
                .next("set a header, once, or remove it, or keep it as it is"));
        }
    }
    Ok((!changes.is_empty()).then_some(changes))
}

//! Refusals as people and programs see them: every stable code of control with its status, title and usual next step.
//!
//! The admin API answers a [`Refusal`] as `application/problem+json` (RFC 9457); the connect protocol sends its
//! code, sentence and next step. Use cases have their own small errors; each turns into a [`Refusal`] beside
//! its definition, and nowhere else are statuses chosen.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::api::types::Problem;
use crate::caller::Forbidden;

/// A stable error code with everything about it that is the same each time.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// Dotted words, never reused for something else.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What kind of thing went wrong.
    pub title: &'static str,
    /// What to do next, unless the refusal knows better.
    pub next: &'static str,
}

macro_rules! codes {
    ($($name:ident = $code:literal, $status:literal, $title:literal, $next:literal;)*) => {
        $(
            #[doc = $title]
            pub(crate) const $name: Code = Code { code: $code, status: $status, title: $title, next: $next };
        )*

        /// Every code of control, for the documentation and its test.
        pub const CODES: &[&Code] = &[$(&$name,)*];
    };
}

codes! {
    REQUEST_INVALID = "request.invalid", 400, "The request cannot be read",
        "compare the request with the API's reference; unknown fields are errors";
    REQUEST_TOO_LARGE = "request.too_large", 413, "The request body is too large",
        "send less at once";
    REQUEST_MEDIA_TYPE = "request.media_type", 415, "The request body is not JSON",
        "send content-type: application/json";
    REQUEST_METHOD = "request.method", 405, "This method is not for this resource",
        "see the allow header for what is";
    KEY_MISSING = "key.missing", 401, "No API key came with the request",
        "send the header Authorization: Bearer mzk_… with a key that has the permission";
    KEY_MALFORMED = "key.malformed", 401, "This is not an API key of this API",
        "copy the key again, whole; it starts with mzk_";
    KEY_UNKNOWN = "key.unknown", 401, "The API key is unknown",
        "create a new one with: mezusphere api-key create";
    KEY_REVOKED = "key.revoked", 401, "The API key was revoked",
        "create a new one with: mezusphere api-key create";
    KEY_EXPIRED = "key.expired", 401, "The API key has expired",
        "create a new one with: mezusphere api-key create";
    KEY_SCOPE = "key.scope", 403, "The API key is not for this",
        "create a key with the scope that is needed";
    FORBIDDEN = "caller.forbidden", 403, "The caller may not do this",
        "use a key with this permission, or run the command on the server";
    NOT_FOUND = "object.not_found", 404, "There is no such object",
        "check the name; the list command of its kind lists what there is";
    EXISTS = "object.exists", 409, "An object of this name exists",
        "choose another name, or change the one that exists";
    IN_USE = "object.in_use", 409, "The object is in use",
        "remove what uses it first; the sentence above names it";
    LIMIT = "limit.reached", 409, "A limit is reached",
        "remove something of the kind that is no longer needed";
    NAME_INVALID = "name.invalid", 422, "The name cannot be used",
        "use 1 to 40 of a-z, 0-9 and single hyphens; roles and permissions: 1 to 64 letters, digits and . _ : / -";
    HOST_INVALID = "host.invalid", 422, "The host cannot be used",
        "give a host name you control, without scheme, port and path";
    HOST_UNPROVEN = "host.unproven", 409, "The host is not proven to be yours",
        "publish the record that host list shows, then: mezusphere host verify PROJECT HOST";
    CERTIFICATE_OWN = "certificate.own", 409, "The certificate is not ordered from anywhere",
        "nothing to do; to have browsers trust it start control with --acme or --tls-cert";
    DNS_FAILED = "dns.failed", 502, "The DNS gave no answer",
        "try again; if it stays, look at the domain's name servers, or start control with --dns-resolver";
    ROUTE_PATTERN = "route.pattern", 422, "The path pattern cannot be used",
        "write /a for one path, /a/* for all below it, or ~REGEX";
    ROUTE_CONTRADICTION = "route.contradiction", 422, "The route contradicts itself",
        "use auth required (or optional) with requirements, or drop the requirements";
    ROUTE_INVALID = "route.invalid", 422, "The route cannot be used",
        "correct the value that is named and try again";
    ROUTE_RULE = "route.rule", 422, "A rule of the route cannot be carried out",
        "correct the value that is named and try again; docs/operations/routes.md shows each rule";
    QUOTA_INVALID = "quota.invalid", 422, "The quota cannot be used",
        "give whole numbers from 1, or none to take a limit away";
    ROLE_UNKNOWN = "role.unknown", 422, "A role does not exist",
        "define it first with: mezusphere role set";
    DIRECTORY_INVALID = "directory.invalid", 422, "A setting of the directory cannot be used",
        "correct the value that is named and try again; docs/operations/directories.md shows each setting";
    DIRECTORY_SHARED = "directory.shared", 403, "The directory serves other projects too",
        "ask an operator of the installation; roles in one's own project can be set";
    CLAIMS_INVALID = "claims.invalid", 422, "A custom claim cannot be used",
        "correct the claim that is named and try again";
    EMAIL_INVALID = "email.invalid", 422, "This is not an e-mail address",
        "write it as name@domain";
    PASSWORD_REJECTED = "password.rejected", 422, "The password cannot be used",
        "choose a longer, less common one";
    SCOPE_INVALID = "scope.invalid", 422, "A scope cannot be used",
        "use connect, request, or permissions of the admin API such as routes:write";
    EDGE_NO_CONTROL = "edge.no_control", 409, "No edge can join this installation",
        "start a control node with a node port: mezusphere serve --node-listen ADDR --node-advertise HOST:PORT";
    CA_ROOT_ELSEWHERE = "ca.root_elsewhere", 409, "The root's key is not kept here",
        "make a request with mezusphere ca request, sign it where the root is with mezusphere ca root sign, and bring the certificate back with mezusphere ca install";
    CA_ROTATION_RUNS = "ca.rotation_runs", 409, "A rotation of the CA runs already",
        "see how far it is with mezusphere ca status; take it back with mezusphere ca rotate --abort";
    CA_REFUSED_FULL = "ca.refused_full", 409, "No further CA can be refused",
        "wait until the certificate of one that mezusphere ca status lists as refused has ended";
    CA_NOTHING_TO_ABORT = "ca.nothing_to_abort", 409, "There is no rotation that can be taken back",
        "see what runs with mezusphere ca status; a new rotation replaces what the last one brought";
    CA_LOCAL_ONLY = "ca.local_only", 403, "This is done on the server itself",
        "run the command on the server, as the account it runs under";
    CA_NO_REQUEST = "ca.no_request", 409, "No request of the CA waits for a certificate",
        "make one with mezusphere ca request, and have that one signed";
    CA_CERTIFICATE = "ca.certificate", 422, "The certificate cannot become the issuing CA",
        "sign the request of mezusphere ca request again, with the root that mezusphere ca status shows";
    MAIL_OFF = "mail.off", 409, "No mail can be sent",
        "start control with --mail and --mail-from; docs/operations/mail.md shows how";
    MAIL_FAILED = "mail.failed", 502, "The mail was not taken",
        "the sentence above is the mail server's own; docs/operations/mail.md says what to look at";
    ENVIRONMENT_UNKNOWN = "environment.unknown", 404, "There is no such environment for this key",
        "create a connection key for the environment and use that one";
    AGENT_TOO_OLD = "agent.too_old", 400, "This warpgate is too old",
        "install the warpgate version that belongs to this installation";
    BUSY = "control.busy", 503, "Control is busy",
        "try again in a moment";
    MOVED = "control.moved", 503, "The state has moved",
        "start the server again with --store; until then it serves and takes no changes";
    INTERNAL = "control.internal", 500, "Something broke in control",
        "try again; if it stays, look at the server's log for this time";
}

/// Why a request is refused, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: &'static Code,
    detail: String,
    next: Option<String>,
}

impl Refusal {
    /// A refusal with this code; `detail` is one sentence about this case, without a full stop.
    pub fn new(code: &'static Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), next: None }
    }

    /// With a next step better than the code's usual one.
    #[must_use]
    pub fn with_next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// The code.
    pub fn code(&self) -> &'static Code {
        self.code
    }

    /// What went wrong this time.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What to do next.
    pub fn next(&self) -> &str {
        self.next.as_deref().unwrap_or(self.code.next)
    }

    /// The body of the answer.
    pub fn problem(&self) -> Problem {
        Problem {
            // The code tells one from another; there is no address to look it up at (RFC 9457 §4.2.1).
            kind: "about:blank".to_owned(),
            title: self.code.title.to_owned(),
            status: self.code.status,
            code: self.code.code.to_owned(),
            detail: self.detail.clone(),
            next: self.next().to_owned(),
        }
    }
}

/// A cursor that the list did not hand out.
pub(crate) fn bad_cursor() -> Refusal {
    Refusal::new(&REQUEST_INVALID, "after: not a cursor of this list")
        .with_next("give the value of next from the page before, or leave after out")
}

impl From<Forbidden> for Refusal {
    fn from(forbidden: Forbidden) -> Self {
        Self::new(&FORBIDDEN, forbidden.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.problem()).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"mezusphere\""));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_dotted_words_with_its_own_next_step() {
        let mut seen = BTreeSet::new();
        for code in CODES {
            assert!(code.code.contains('.') && code.code.is_ascii(), "{}", code.code);
            assert!(seen.insert(code.code), "{} is used twice", code.code);
            assert!((400..600).contains(&code.status), "{}", code.code);
            assert!(!code.title.is_empty() && !code.next.is_empty(), "{}", code.code);
        }
    }

    #[test]
    fn a_refusal_is_problem_json_with_code_and_next_step() {
        let refusal = Refusal::new(&NOT_FOUND, "there is no project shop");
        let problem = refusal.problem();
        assert_eq!((problem.status, problem.code.as_str()), (404, "object.not_found"));
        assert_eq!(problem.next, NOT_FOUND.next);
        let response = refusal.with_next("create it").into_response();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}

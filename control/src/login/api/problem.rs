//! What a client is told when a step is not taken: `application/problem+json` with the codes of the pages.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use mezusphere_identity::account::FieldError;
use mezusphere_identity::factor::password::Weakness;
use mezusphere_identity::flow::Refusal;
use mezusphere_store::{StoreError, WriteError};

/// A stable code with what is the same each time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Code {
    word: &'static str,
    status: StatusCode,
    title: &'static str,
    next: &'static str,
}

macro_rules! codes {
    ($($name:ident = $code:literal, $status:ident, $title:literal, $next:literal;)*) => {
        $(
            pub(super) const $name: Code =
                Code { word: $code, status: StatusCode::$status, title: $title, next: $next };
        )*

        /// Every one of them.
        #[cfg(test)]
        pub(super) const ALL: &[&Code] = &[$(&$name,)*];
    };
}

codes! {
    WRONG = "login.wrong", UNAUTHORIZED, "The e-mail address and the password do not match",
        "try again, or set a new password";
    WRONG_PASSWORD = "login.wrong_password", FORBIDDEN, "This is not the account's password",
        "try again, or set a new password";
    TOKEN = "login.token", UNAUTHORIZED, "The token is missing or no longer good",
        "sign in again";
    SESSION_OVER = "login.session_over", UNAUTHORIZED, "The sign-in has ended", "sign in again";
    INACTIVE = "login.inactive", FORBIDDEN, "The account may not be used", "ask whoever runs the application";
    EXPIRED = "login.form_stale", FORBIDDEN, "This was left open for too long", "begin again";
    INCOMPLETE = "login.incomplete", BAD_REQUEST, "A field is missing", "fill in every field";
    EMAIL = "login.email", BAD_REQUEST, "This is not an e-mail address", "write it as name@domain";
    EMAIL_DOMAIN = "login.email_domain", FORBIDDEN, "Addresses of this domain cannot sign up here",
        "use another address, or ask for an invitation";
    NAME = "login.name", BAD_REQUEST, "This name cannot be used", "use 1 to 200 characters without line breaks";
    TOO_LONG = "login.password_too_long", BAD_REQUEST, "The password is longer than any may be",
        "use at most 128 characters";
    TOO_SHORT = "login.password_too_short", BAD_REQUEST, "The password is too short", "use at least 15 characters";
    COMMON = "login.password_common", BAD_REQUEST, "The password is too easy to guess", "choose another one";
    SAME_PASSWORD = "login.password_same", BAD_REQUEST, "This is the password already", "choose another one";
    THROTTLED = "login.throttled", TOO_MANY_REQUESTS, "Too many attempts", "wait for as long as retry-after says";
    BUSY = "login.busy", SERVICE_UNAVAILABLE, "Too much to do at the moment", "try again in a moment";
    LINK_DEAD = "login.link_dead", GONE, "The link no longer works", "ask for a new one";
    LINK_TAKEN = "login.link_taken", CONFLICT, "The address has an account already", "sign in";
    SIGN_UP_CLOSED = "login.sign_up_closed", FORBIDDEN, "Nobody signs up here by themselves",
        "ask whoever runs the application";
    INVITATION_ONLY = "login.invitation_only", FORBIDDEN, "Signing up needs an invitation",
        "ask whoever runs the application";
    OTHER_ACCOUNT = "login.other_account", FORBIDDEN, "This is for the account that is signed in",
        "sign in with it";
    UNCHANGED = "login.unchanged", CONFLICT, "There is nothing to change", "go on";
    MAIL_OFF = "login.mail_off", CONFLICT, "This installation sends no mail", "ask whoever runs the application";
    UNKNOWN_HOST = "login.unknown_host", NOT_FOUND, "Nothing is published under this host",
        "name a host of the application";
    BAD_RETURN = "login.bad_return", BAD_REQUEST, "The host, the state or the path to return to cannot be used",
        "give a bare host, the base64url SHA-256 of 32 random bytes, and a path that begins with one slash";
    CROSS_SITE = "login.cross_site", FORBIDDEN, "Pages of this origin may not ask",
        "ask from a host of the application, or from a program that is no browser";
    BAD_REQUEST = "login.bad_request", BAD_REQUEST, "The request cannot be read",
        "compare it with docs/operations/sessions-api.md; unknown fields are errors";
    TOO_LARGE = "login.too_large", BAD_REQUEST, "The request is too large", "send less";
    NOT_FOUND = "login.not_found", NOT_FOUND, "There is nothing here",
        "docs/operations/sessions-api.md lists what there is";
    METHOD = "login.wrong_method", METHOD_NOT_ALLOWED, "This method is not for this resource",
        "docs/operations/sessions-api.md lists what there is";
    FAULT = "login.fault", INTERNAL_SERVER_ERROR, "A fault of ours", "try again; the log has the reason";
}

impl Code {
    pub(super) const fn told(&'static self) -> Told {
        Told { code: self, retry_after: None }
    }
}

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Told {
    code: &'static Code,
    retry_after: Option<Duration>,
}

impl Told {
    /// The same where the caller is signed in: 401 would say that their token is no good.
    pub(super) fn for_signed_in(self) -> Self {
        if self.code == &WRONG { Self { code: &WRONG_PASSWORD, ..self } } else { self }
    }
}

impl From<Refusal> for Told {
    fn from(refusal: Refusal) -> Self {
        let retry_after = refusal.retry_after();
        let code = match refusal {
            Refusal::Expired | Refusal::Done => &EXPIRED,
            Refusal::Incomplete => &INCOMPLETE,
            Refusal::Field(FieldError::Name | FieldError::DisplayName) => &NAME,
            Refusal::Field(_) => &EMAIL,
            Refusal::TooLong(_) => &TOO_LONG,
            Refusal::Weak(Weakness::TooShort) => &TOO_SHORT,
            Refusal::Weak(Weakness::Common) => &COMMON,
            Refusal::SamePassword => &SAME_PASSWORD,
            Refusal::Wrong => &WRONG,
            Refusal::Inactive => &INACTIVE,
            Refusal::OtherPerson => &OTHER_ACCOUNT,
            Refusal::Throttled(_) => &THROTTLED,
            Refusal::Busy { .. } => &BUSY,
            Refusal::LinkDead => &LINK_DEAD,
            Refusal::Taken => &LINK_TAKEN,
            Refusal::SignUpClosed => &SIGN_UP_CLOSED,
            Refusal::InvitationOnly => &INVITATION_ONLY,
            Refusal::OtherDomain => &EMAIL_DOMAIN,
            Refusal::Unchanged => &UNCHANGED,
            Refusal::Store(error) => return error.into(),
        };
        Self { code, retry_after }
    }
}

impl From<WriteError> for Told {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Store(error) => error.into(),
            WriteError::NotFound { .. } => NOT_FOUND.told(),
            error @ WriteError::Conflict { .. } => {
                tracing::error!(%error, "A change by the sign-in API was refused by the store");
                FAULT.told()
            }
        }
    }
}

impl From<StoreError> for Told {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "The sign-in API met a failing store");
        match error {
            StoreError::Unavailable(_) | StoreError::Moved => {
                Self { code: &BUSY, retry_after: Some(Duration::from_secs(5)) }
            }
            _ => FAULT.told(),
        }
    }
}

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        let Self { code: Code { word, status, title, next }, retry_after } = self;
        let document = serde_json::json!({
            // The code tells one from another; there is no address to look it up at (RFC 9457 §4.2.1).
            "type": "about:blank",
            "title": title,
            "status": status.as_u16(),
            "code": word,
            "next": next,
        });
        let mut response = (*status, document.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if *status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sign-in\""));
        }
        if let Some(retry_after) = retry_after {
            headers.insert(header::RETRY_AFTER, retry_after.as_secs().max(1).into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_stands_once_and_names_a_next_step() {
        let mut seen = BTreeSet::new();
        for code in ALL {
            assert!(code.word.starts_with("login.") && seen.insert(code.word), "{}", code.word);
            assert!(!code.title.is_empty() && !code.next.is_empty(), "{}", code.word);
        }
    }
}

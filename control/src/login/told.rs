//! What people are told when a step of a flow is not taken: beside the form where that helps, or in its place.

use std::time::Duration;

use askama::Template;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use mezusphere_identity::account::FieldError;
use mezusphere_identity::factor::password::Weakness;
use mezusphere_identity::flow::Refusal;

use super::answer::{self, Failure};
use crate::page::Problem;
use crate::page::text::Texts;

/// The form a step belongs to: where its fields are, and what a wrong password means there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Address and password.
    SignIn,
    /// The password of who is signed in.
    Confirm,
    /// An address.
    Address,
    /// A new password by a link, perhaps with a name.
    Choose,
    /// A name.
    Name,
    /// A new address and the current password.
    Email,
    /// The current password and a new one.
    Password,
    /// A button.
    Button,
}

/// What to show.
pub(super) enum Told {
    /// The form again.
    Form(Beside),
    /// A page in its place.
    Page(Failure),
}

/// A problem beside its form, with the answer's status.
pub(super) struct Beside {
    status: StatusCode,
    problem: Problem,
    retry_after: Option<Duration>,
}

impl Form {
    const fn password(self) -> &'static [&'static str] {
        match self {
            Self::SignIn => &["email", "password"],
            Self::Email | Self::Password => &["current"],
            _ => &["password"],
        }
    }

    /// The form does not have what it asks for.
    fn incomplete(self, t: &Texts) -> Problem {
        match self {
            Self::SignIn => Problem::typed(&t.problem.incomplete, &["email", "password"]),
            Self::Address => Problem::typed(&t.problem.email, &["email"]),
            Self::Name => Problem::typed(&t.problem.name, &["name"]),
            Self::Choose => Problem::typed(&t.problem.too_short, &["password", "repeat"]),
            _ => Problem::typed(&t.problem.no_password, self.password()),
        }
    }

    fn wrong(self, t: &Texts) -> Problem {
        let said = if self == Self::SignIn { &t.problem.wrong } else { &t.problem.wrong_password };
        Problem::typed(said, self.password())
    }

    fn stale(self, t: &Texts) -> Problem {
        let with_password = !matches!(self, Self::Address | Self::Name | Self::Button);
        Problem::other(if with_password { &t.problem.stale } else { &t.problem.stale_form })
    }

    /// What the two fields for a new password say differs.
    pub(super) fn differ(t: &Texts) -> Beside {
        Beside::bad(Problem::typed(&t.problem.differ, &["password", "repeat"]))
    }

    /// What somebody is told of a refusal on this form. `sign_in` is where they would sign in.
    pub(super) fn tell(self, refusal: Refusal, t: &Texts, sign_in: &str) -> Told {
        const NEW: &[&str] = &["password", "repeat"];
        let retry_after = refusal.retry_after();
        let beside = match refusal {
            Refusal::Expired | Refusal::Done => Beside::with(StatusCode::FORBIDDEN, self.stale(t)),
            Refusal::Incomplete => Beside::bad(self.incomplete(t)),
            Refusal::Field(FieldError::Name) => Beside::bad(Problem::typed(&t.problem.name, &["name"])),
            Refusal::Field(FieldError::DisplayName) => {
                Beside::bad(Problem::typed(&t.problem.display_name, &["display_name"]))
            }
            Refusal::Field(_) => Beside::bad(Problem::typed(&t.problem.email, &["email"])),
            Refusal::TooLong(_) => {
                let fields = if self == Self::Choose { NEW } else { self.password() };
                Beside::bad(Problem::typed(&t.problem.too_long, fields))
            }
            Refusal::Weak(Weakness::TooShort) => Beside::bad(Problem::typed(&t.problem.too_short, NEW)),
            Refusal::Weak(Weakness::Common) => Beside::bad(Problem::typed(&t.problem.common, NEW)),
            Refusal::SamePassword => Beside::bad(Problem::typed(&t.problem.same, NEW)),
            // 401, so that logs, scripts and browsers can tell a failed sign-in from a page that was merely shown;
            // the same for unknown accounts (R13).
            Refusal::Wrong => Beside::with(StatusCode::UNAUTHORIZED, self.wrong(t)),
            Refusal::Inactive if self == Self::SignIn => {
                Beside::with(StatusCode::FORBIDDEN, Problem::other(&t.problem.inactive))
            }
            Refusal::Throttled(throttled) => {
                let problem = Problem::throttled(t, throttled.retry_after);
                Beside::with(StatusCode::TOO_MANY_REQUESTS, problem)
            }
            Refusal::Busy { .. } => {
                Beside::with(StatusCode::SERVICE_UNAVAILABLE, Problem::other(&t.problem.busy))
            }
            Refusal::OtherDomain => Beside::bad(Problem::typed(&t.problem.email_domain, &["email"])),
            Refusal::Unchanged => Beside::bad(Problem::typed(&t.problem.email_same, &["email"])),
            refusal => return Told::Page(failure(refusal, sign_in)),
        };
        Told::Form(Beside { retry_after, ..beside })
    }
}

/// What somebody is told of a refusal where there is no form. `sign_in` is where they would sign in.
pub(super) fn failure(refusal: Refusal, sign_in: &str) -> Failure {
    match refusal {
        Refusal::LinkDead => Failure::link_dead(),
        Refusal::Taken => Failure::link_taken(sign_in.to_owned()),
        Refusal::SignUpClosed => Failure::sign_up_closed(),
        Refusal::InvitationOnly | Refusal::OtherDomain => Failure::invitation_only(),
        Refusal::Inactive => Failure::inactive(),
        Refusal::OtherPerson => Failure::other_account(),
        Refusal::Throttled(throttled) => Failure::throttled(throttled.retry_after),
        Refusal::Busy { retry_after } => Failure::busy(retry_after),
        Refusal::Store(error) => error.into(),
        _ => Failure::form_stale(),
    }
}

impl Beside {
    fn bad(problem: Problem) -> Self {
        Self::with(StatusCode::BAD_REQUEST, problem)
    }

    fn with(status: StatusCode, problem: Problem) -> Self {
        Self { status, problem, retry_after: None }
    }
}

/// A form, new or with what went wrong; `form_to` is the origin it may lead to besides our own.
pub(super) fn show<P: Template>(
    beside: Option<Beside>,
    form_to: Option<&str>,
    make: impl FnOnce(Option<Problem>) -> P,
) -> Response {
    let Some(Beside { status, problem, retry_after }) = beside else {
        return answer::page(StatusCode::OK, &make(None), form_to);
    };
    let mut response = answer::page(status, &make(Some(problem)), form_to);
    challenge(status, retry_after, response.headers_mut());
    response
}

fn challenge(status: StatusCode, retry_after: Option<Duration>, headers: &mut HeaderMap) {
    // A scheme of our own, because 401 needs one (RFC 9110 §15.5.2); browsers pass over one they do not know.
    if status == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Mezu-Form realm=\"sign-in\"");
        headers.insert(header::WWW_AUTHENTICATE, scheme);
    }
    if let Some(retry_after) = retry_after {
        headers.insert(header::RETRY_AFTER, retry_after.as_secs().max(1).into());
    }
}

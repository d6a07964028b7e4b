//! What every refusal says: its status, its words, and the hop it names.
//!
//! Statuses are here and nowhere else, and so are hops: who is at fault, or at least who can change it. Words are for people who did not read the code: what happened, what to do.

mod failure;

use std::borrow::Cow;

use ::http::StatusCode;
use mezusphere_model::policy::Denial;

use super::authority::AuthorityError;
use super::refusal::{CallbackWhy, Refusal};
use crate::page::Hop;

/// What is told of a refusal.
pub(crate) struct Told<'a> {
    /// The HTTP status, unless the client is sent elsewhere.
    pub(crate) status: StatusCode,
    /// What happened, in a few words.
    pub(crate) title: &'static str,
    /// What happened, in a sentence.
    pub(crate) detail: Cow<'a, str>,
    /// What to do.
    pub(crate) next: &'static str,
    /// Whose part it is: who is at fault, or at least who can change it.
    pub(crate) hop: Hop,
}

const ASK_AGAIN: &str = "Try again in a moment.";
const CHECK_ADDRESS: &str = "Check the address.";
/// On pages and in problems alike, both of which show code and request.
const TELL_OWNER: &str = "If it stays so, tell whoever runs this application, with this code and request.";

/// What each refusal says.
#[expect(clippy::too_many_lines, reason = "a table with one row per refusal is read whole")]
pub(crate) fn tell(refusal: &Refusal) -> Told<'_> {
    let told = |status, title, detail: &'static str, next, hop| Told {
        status,
        title,
        detail: detail.into(),
        next,
        hop,
    };
    let client = |status, title, detail, next| told(status, title, detail, next, Hop::Client);
    let edge = |detail, next| {
        told(StatusCode::SERVICE_UNAVAILABLE, "Not available right now", detail, next, Hop::Edge)
    };
    match refusal {
        Refusal::Authority(AuthorityError::Misdirected) => client(
            StatusCode::MISDIRECTED_REQUEST,
            "Wrong connection",
            "This connection was opened for another host.",
            "Open a new connection to the host you want.",
        ),
        Refusal::Authority(why) => said(StatusCode::BAD_REQUEST, "Bad request", why, CHECK_ADDRESS),
        Refusal::Path(why) => said(StatusCode::BAD_REQUEST, "Bad request", why, CHECK_ADDRESS),
        Refusal::AmbiguousPath => client(
            StatusCode::BAD_REQUEST,
            "Bad request",
            "This path can be read in more than one way.",
            "Write it as the application does: same case, no encoded slashes, dots or empty segments.",
        ),
        Refusal::Method | Refusal::OwnMethod(_) => client(
            StatusCode::METHOD_NOT_ALLOWED,
            "Method not allowed",
            "This address does not take requests of this method.",
            "Use a method that `allow` names.",
        ),
        Refusal::ExtendedConnect => client(
            StatusCode::NOT_IMPLEMENTED,
            "Not implemented",
            "This edge does not open other protocols inside HTTP.",
            "Use plain requests.",
        ),
        Refusal::TooLarge => client(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "Too large",
            "The request’s head is larger than can be passed on.",
            "Send fewer or shorter fields; clearing this site’s cookies often helps.",
        ),
        Refusal::Body => client(
            StatusCode::BAD_REQUEST,
            "Bad request",
            "The body does not match what the head said of it.",
            "Send it again, whole.",
        ),
        Refusal::UnknownHost => client(
            StatusCode::NOT_FOUND,
            "Nothing here",
            "Nothing is published under this name.",
            CHECK_ADDRESS,
        ),
        Refusal::NoRoute => {
            client(StatusCode::NOT_FOUND, "Not found", "There is nothing at this address.", CHECK_ADDRESS)
        }
        Refusal::SignIn(..) => client(
            StatusCode::UNAUTHORIZED,
            "Sign in first",
            "This address is for people and programs that are signed in.",
            "Sign in, then try again.",
        ),
        Refusal::Key(_) => client(
            StatusCode::UNAUTHORIZED,
            "API key refused",
            "This API key is not good here.",
            "Check that it is whole, has not expired, belongs to this project and may call its routes.",
        ),
        Refusal::Denied(_, None) => client(
            StatusCode::FORBIDDEN,
            "No access",
            "You may not use this address.",
            "If you should be able to, ask whoever runs this application.",
        ),
        Refusal::Denied(Denial::Network, Some(_)) => client(
            StatusCode::FORBIDDEN,
            "No access",
            "This page may not be used from your network.",
            "Come from a network that it is open to, or ask whoever runs this application.",
        ),
        // Which role or claim is missing is for its owner to read, in the access log and in `explain`.
        Refusal::Denied(..) => client(
            StatusCode::FORBIDDEN,
            "No access",
            "Your account may not use this page.",
            "Ask whoever runs this application for access, or use another account.",
        ),
        Refusal::StepUp(denial, way) if way.is_again => Told {
            status: StatusCode::FORBIDDEN,
            title: match denial {
                Denial::TooOld { .. } => "A newer sign-in is needed",
                Denial::Assurance { .. } => "A stronger sign-in is needed",
                _ => "Another sign-in is needed",
            },
            detail: format!("You have signed in again, and {}.", lacking(denial)).into(),
            next: "Ask whoever runs this application, or use another account.",
            hop: Hop::Client,
        },
        Refusal::StepUp(denial, _) => Told {
            status: StatusCode::UNAUTHORIZED,
            title: "Sign in again",
            detail: format!("To go on, prove once more who you are: {}.", lacking(denial)).into(),
            next: "Sign in again, then try again.",
            hop: Hop::Client,
        },
        Refusal::Forged => client(
            StatusCode::FORBIDDEN,
            "Not accepted",
            "This form was not sent from this site.",
            "Open the page again and send the form from there.",
        ),
        Refusal::Callback(CallbackWhy::NoState) => client(
            StatusCode::BAD_REQUEST,
            "Sign-in not finished",
            "This browser has not begun a sign-in, or began it too long ago.",
            "Start again; allow cookies for this site.",
        ),
        Refusal::Callback(CallbackWhy::NoCode | CallbackWhy::Spent) => client(
            StatusCode::BAD_REQUEST,
            "Sign-in not finished",
            "This sign-in was finished already, or took too long.",
            "Start again.",
        ),
        Refusal::TooMany(_) => client(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests",
            "There were too many sign-in attempts from your address.",
            "Wait a little, then try again.",
        ),
        Refusal::BodyTooLarge(max) => Told {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            title: "Too large",
            detail: format!("What was sent is larger than the {max} octets this address takes.").into(),
            next: "Send less at once.",
            hop: Hop::Client,
        },
        Refusal::RateLimited { .. } => client(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests",
            "This address takes only so many requests in a while, and they are used up.",
            "Wait a little, then try again.",
        ),
        Refusal::AddressBusy => client(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests",
            "There are too many requests from your network at the same time.",
            "Let some of them end, then try again.",
        ),
        Refusal::ProjectBusy(..) => told(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too busy",
            "This application has more requests just now than its share of the edge.",
            ASK_AGAIN,
            Hop::Edge,
        ),
        Refusal::Overloaded => edge("This edge has as much to do as it can bear.", ASK_AGAIN),
        Refusal::Maintenance(message, _) => Told {
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Closed for maintenance",
            detail: (**message).into(),
            next: "Come back later.",
            hop: Hop::Upstream,
        },
        Refusal::OriginRefused => client(
            StatusCode::FORBIDDEN,
            "Not accepted",
            "Another site asked for this, and this application does not let it.",
            "Open the application itself, or have its owner name the other site in the route’s CORS rule.",
        ),
        Refusal::ControlRefused => told(
            StatusCode::FORBIDDEN,
            "Session ended",
            "Your session is no longer good.",
            "Sign out, then sign in again.",
            Hop::Client,
        ),
        Refusal::Stale => edge(
            "This edge has been cut off for so long that it can no longer tell who may pass.",
            "Public pages go on. Try again later; whoever runs this installation sees the reason in the log.",
        ),
        Refusal::Replica => edge("This edge cannot read its own records.", TELL_OWNER),
        Refusal::ControlAway => edge("Your session could not be confirmed just now.", ASK_AGAIN),
        Refusal::Clocks => {
            edge("The clocks of this installation differ, so nobody can be signed in here.", TELL_OWNER)
        }
        Refusal::SignInAway => edge("Nobody can sign in just now.", ASK_AGAIN),
        Refusal::Starting => edge("This edge has just started and knows nothing yet.", ASK_AGAIN),
        Refusal::TooNew => edge("This edge is too old for this address.", TELL_OWNER),
        Refusal::NoTunnel => told(
            StatusCode::SERVICE_UNAVAILABLE,
            "Application not connected",
            "The application’s warpgate is not connected.",
            TELL_OWNER,
            Hop::Tunnel,
        ),
        Refusal::NoUpstream => told(
            StatusCode::SERVICE_UNAVAILABLE,
            "Application not connected",
            "No connected warpgate reaches this part of the application.",
            TELL_OWNER,
            Hop::Warpgate,
        ),
        Refusal::TunnelBusy => told(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too busy",
            "The way to the application’s warpgate is full.",
            ASK_AGAIN,
            Hop::Tunnel,
        ),
        Refusal::TunnelLost => told(
            StatusCode::BAD_GATEWAY,
            "Connection lost",
            "The connection to the application’s warpgate broke before an answer came.",
            "The request may or may not have been carried out. Check before you send it again.",
            Hop::Tunnel,
        ),
        Refusal::TunnelProtocol => told(
            StatusCode::BAD_GATEWAY,
            "Bad answer",
            "The application’s warpgate answered something that makes no sense.",
            TELL_OWNER,
            Hop::Warpgate,
        ),
        Refusal::HeadTimeout => told(
            StatusCode::GATEWAY_TIMEOUT,
            "No answer in time",
            "The application did not answer in time.",
            "The request may have been carried out. Check before you send it again.",
            Hop::Upstream,
        ),
        Refusal::TotalTimeout => told(
            StatusCode::GATEWAY_TIMEOUT,
            "No answer in time",
            "The application did not finish in the time it has.",
            "The request may have been carried out. Check before you send it again.",
            Hop::Upstream,
        ),
        Refusal::BodyTimeout => client(
            StatusCode::REQUEST_TIMEOUT,
            "Too slow",
            "The rest of the request did not come in time.",
            "Send it again.",
        ),
        Refusal::Warpgate(code) => failure::tell(*code),
        Refusal::Internal => told(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something broke",
            "This edge made a mistake.",
            TELL_OWNER,
            Hop::Edge,
        ),
    }
}

/// What a sign-in lacks, to whoever is signed in.
fn lacking(denial: &Denial) -> String {
    match denial {
        Denial::TooOld { max_auth_age_s } => {
            format!("this page asks for a sign-in within the last {}", time(*max_auth_age_s))
        }
        Denial::Assurance { .. } => "this page asks for a sign-in with a second factor".to_owned(),
        other => other.to_string(),
    }
}

/// A time in words.
fn time(seconds: u32) -> String {
    let (count, unit) = match seconds {
        seconds if seconds % 3600 == 0 => (seconds / 3600, "hour"),
        seconds if seconds % 60 == 0 => (seconds / 60, "minute"),
        seconds => (seconds, "second"),
    };
    if count == 1 { unit.to_owned() } else { format!("{count} {unit}s") }
}

/// A refusal of the client's request whose own words say what is wrong.
fn said<'a>(status: StatusCode, title: &'static str, why: &impl ToString, next: &'static str) -> Told<'a> {
    let mut detail = why.to_string();
    if let Some(first) = detail.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    detail.push('.');
    Told { status, title, detail: detail.into(), next, hop: Hop::Client }
}

#[cfg(test)]
mod tests;

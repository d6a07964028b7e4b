//! What an authority's answers mean: which fault it was, whether the order is over, and what to tell people.

use http::StatusCode;
use instant_acme::{Error, Problem};

use super::failure::{Failure, Fault, quoted};
use super::wire::Seen;

/// Where the types of problems begin (RFC 8555 §6.7).
const URN: &str = "urn:ietf:params:acme:error:";

/// What an error of the library means, with what was seen of the answer behind it.
pub(super) fn failure(error: &Error, seen: Seen) -> Failure {
    let server_fault = seen.status.is_some_and(|status| status.is_server_error());
    let too_many = seen.status == Some(StatusCode::TOO_MANY_REQUESTS);
    let failure = match error {
        Error::Api(problem) => of_problem(problem),
        Error::Json(_) | Error::Str(_) if !server_fault && !too_many => Failure::new(
            Fault::Nonsense,
            format!("the authority's answer makes no sense: {}", quoted(&error.to_string())),
        ),
        Error::Http(_) | Error::InvalidUri(_) => Failure::new(
            Fault::Nonsense,
            format!("the authority's answer makes no sense: {}", quoted(&error.to_string())),
        ),
        Error::Other(why) => Failure::new(Fault::Unreachable, quoted(&why.to_string())),
        other => Failure::new(Fault::Unreachable, quoted(&other.to_string())),
    };
    let failure = if too_many { Failure { fault: Fault::RateLimited, ..failure } } else { failure };
    let failure = match (server_fault, seen.status) {
        (true, Some(status)) if failure.fault != Fault::RateLimited => Failure {
            fault: Fault::Unreachable,
            text: format!("the authority answers {status}: {}", failure.text),
            ..failure
        },
        _ => failure,
    };
    failure.after(seen.wait)
}

/// What a problem document means. Of several problems in one, the first that says more.
pub(super) fn of_problem(problem: &Problem) -> Failure {
    let text = told(problem);
    let inner = problem.subproblems.iter().find_map(|inner| inner.r#type.as_deref().and_then(known));
    let fault = problem.r#type.as_deref().and_then(known);
    let fault = match (fault, inner) {
        (None | Some(Fault::Nonsense), Some(inner)) => inner,
        (Some(fault), _) => fault,
        (None, None) => Fault::Nonsense,
    };
    Failure::new(fault, text)
}

/// The authority's words.
fn told(problem: &Problem) -> String {
    let mut words = quoted(problem.detail.as_deref().unwrap_or("the authority refuses and does not say why"));
    for inner in problem.subproblems.iter().take(3) {
        if let Some(detail) = &inner.detail {
            words.push_str("; ");
            words.push_str(&quoted(detail));
        }
    }
    let kind = problem.r#type.as_deref().map(|kind| quoted(kind.strip_prefix(URN).unwrap_or(kind)));
    match kind {
        Some(kind) => format!("{words} ({kind})"),
        None => words,
    }
}

/// The fault behind a type of problem; `None`: not one of the protocol's.
fn known(kind: &str) -> Option<Fault> {
    Some(match kind.strip_prefix(URN)? {
        "rateLimited" => Fault::RateLimited,
        "serverInternal" | "badNonce" => Fault::Unreachable,
        "dns" => Fault::Dns,
        "connection" | "tls" => Fault::Connection,
        "unauthorized" | "incorrectResponse" => Fault::Validation,
        "caa" | "rejectedIdentifier" | "unsupportedIdentifier" => Fault::Refused,
        "accountDoesNotExist"
        | "externalAccountRequired"
        | "userActionRequired"
        | "invalidContact"
        | "unsupportedContact" => Fault::Account,
        "badCSR" | "badPublicKey" | "badSignatureAlgorithm" | "malformed" | "compound" => Fault::Nonsense,
        _ => return None,
    })
}

/// Whether the problem is of this type.
fn is(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|known| known.strip_prefix(URN)) == Some(kind)
}

/// Whether only the nonce was refused: nothing was done, and the same may be asked again.
pub(super) fn is_bad_nonce(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if is(problem, "badNonce"))
}

/// Whether the authority does not know our account any more.
pub(super) fn is_lost_account(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if is(problem, "accountDoesNotExist"))
}

/// Whether an order that was asked for is not there: anything the authority says of it that is neither a fault of its own
/// nor a limit.
pub(super) fn is_lost_order(error: &Error, seen: Seen) -> bool {
    let client_fault = seen.status.is_some_and(|status| status.is_client_error());
    match error {
        Error::Api(problem) => {
            client_fault
                && !matches!(
                    of_problem(problem).fault,
                    Fault::RateLimited | Fault::Unreachable | Fault::Account
                )
        }
        _ => matches!(seen.status, Some(StatusCode::NOT_FOUND | StatusCode::GONE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &serde_json::Value) -> Problem {
        serde_json::from_value(json.clone()).unwrap()
    }

    fn api(kind: &str) -> Error {
        let kind = format!("{URN}{kind}");
        Error::Api(problem(&serde_json::json!({ "type": kind, "detail": "words" })))
    }

    fn seen(status: u16) -> Seen {
        Seen { status: StatusCode::from_u16(status).ok(), wait: None }
    }

    #[test]
    fn each_problem_is_told_by_whose_hand_it_needs() {
        for (kind, status, fault) in [
            ("rateLimited", 429, Fault::RateLimited),
            ("rateLimited", 503, Fault::RateLimited),
            ("serverInternal", 500, Fault::Unreachable),
            ("badNonce", 400, Fault::Unreachable),
            ("dns", 400, Fault::Dns),
            ("connection", 400, Fault::Connection),
            ("unauthorized", 403, Fault::Validation),
            ("caa", 403, Fault::Refused),
            ("externalAccountRequired", 400, Fault::Account),
            ("malformed", 400, Fault::Nonsense),
            ("madeUp", 400, Fault::Nonsense),
        ] {
            let failure = failure(&api(kind), seen(status));
            assert_eq!(failure.fault, fault, "{kind}");
            assert!(failure.text.contains("words") && failure.text.contains(kind), "{}", failure.text);
        }
    }

    #[test]
    fn a_page_instead_of_an_answer_is_nonsense_unless_the_server_is_at_fault() {
        let page = || Error::Json(serde_json::from_str::<u8>("<html>").unwrap_err());
        assert_eq!(failure(&page(), seen(200)).fault, Fault::Nonsense);
        assert_eq!(failure(&page(), seen(502)).fault, Fault::Unreachable);
        let limited = Seen { wait: Some(std::time::Duration::from_secs(7)), ..seen(429) };
        let failure = failure(&page(), limited);
        assert_eq!((failure.fault, failure.wait), (Fault::RateLimited, limited.wait));
    }

    #[test]
    fn of_several_problems_in_one_the_telling_one_counts() {
        let inner = serde_json::json!({ "type": format!("{URN}caa"), "detail": "CAA forbids it" });
        let outer = serde_json::json!({ "type": format!("{URN}malformed"), "subproblems": [inner] });
        let failure = of_problem(&problem(&outer));
        assert_eq!(failure.fault, Fault::Refused);
        assert!(failure.text.contains("CAA forbids it"), "{}", failure.text);
        assert_eq!(of_problem(&problem(&serde_json::json!({}))).fault, Fault::Nonsense);
    }

    #[test]
    fn an_order_is_lost_only_if_the_authority_says_so() {
        assert!(
            is_lost_order(&api("malformed"), seen(404)) && is_lost_order(&api("unauthorized"), seen(403))
        );
        assert!(
            !is_lost_order(&api("rateLimited"), seen(429))
                && !is_lost_order(&api("serverInternal"), seen(500))
        );
        assert!(!is_lost_order(&api("accountDoesNotExist"), seen(400)));
        let page = || Error::Json(serde_json::from_str::<u8>("<html>").unwrap_err());
        assert!(is_lost_order(&page(), seen(404)) && !is_lost_order(&page(), seen(502)));
    }
}

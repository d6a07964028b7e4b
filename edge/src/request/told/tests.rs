//! What is told of each refusal: listed, in sentences, and laid at the right door.

use std::time::Duration;

use mezusphere_model::id::SessionId;
use mezusphere_model::identity::Assurance;
use mezusphere_model::route::StepUp;
use tunnel_proto::codes::FailureCode;

use super::super::refusal::{KeyWhy, SignInWay, SignInWhy, StepUpWay};
use super::*;
use crate::fair::share::BusyWhy;

const ERRORS: &str = include_str!("../../../../docs/errors.md");

fn step_up(is_again: bool) -> StepUpWay {
    let way = SignInWay { url: String::new(), set_cookie: String::new() };
    let (needs, session) = (StepUp::default(), SessionId::from_bits(1));
    StepUpWay { way, needs, account: "zoe".into(), session, is_again }
}

/// One of each, with what a refusal's words are made of.
fn every_refusal() -> Vec<Refusal> {
    let way = SignInWay { url: String::new(), set_cookie: String::new() };
    let mut all = vec![
        Refusal::Authority(AuthorityError::Misdirected),
        Refusal::Authority(AuthorityError::NotOne),
        Refusal::AmbiguousPath,
        Refusal::Method,
        Refusal::ExtendedConnect,
        Refusal::TooLarge,
        Refusal::Body,
        Refusal::UnknownHost,
        Refusal::NoRoute,
        Refusal::TooNew,
        Refusal::SignIn(SignInWhy::None, Box::new(way)),
        Refusal::Key(KeyWhy::Unknown),
        Refusal::Denied(Denial::TooNew, Some("zoe".into())),
        Refusal::Denied(Denial::Network, Some("zoe".into())),
        Refusal::Denied(Denial::Network, None),
        Refusal::StepUp(Denial::TooOld { max_auth_age_s: 900 }, Box::new(step_up(false))),
        Refusal::StepUp(Denial::TooOld { max_auth_age_s: 3600 }, Box::new(step_up(true))),
        Refusal::StepUp(Denial::Assurance { needs: Assurance::Aal2 }, Box::new(step_up(true))),
        Refusal::Forged,
        Refusal::Callback(CallbackWhy::NoCode),
        Refusal::TooMany(Duration::from_secs(1)),
        Refusal::BodyTooLarge(1),
        Refusal::RateLimited { by: "route", wait: Duration::from_secs(1) },
        Refusal::AddressBusy,
        Refusal::ProjectBusy(BusyWhy::Quota, Duration::from_secs(1)),
        Refusal::Overloaded,
        Refusal::Maintenance("We move house.".into(), None),
        Refusal::OriginRefused,
        Refusal::Stale,
        Refusal::Replica,
        Refusal::ControlAway,
        Refusal::SignInAway,
        Refusal::Clocks,
        Refusal::ControlRefused,
        Refusal::Starting,
        Refusal::NoTunnel,
        Refusal::NoUpstream,
        Refusal::TunnelBusy,
        Refusal::TunnelLost,
        Refusal::TunnelProtocol,
        Refusal::HeadTimeout,
        Refusal::TotalTimeout,
        Refusal::BodyTimeout,
        Refusal::Internal,
    ];
    all.extend(FailureCode::ALL.iter().map(|code| Refusal::Warpgate(*code)));
    all
}

#[test]
fn the_list_of_errors_says_of_each_refusal_what_is_told() {
    for refusal in every_refusal() {
        let (code, told) = (refusal.code(), tell(&refusal));
        let row = ERRORS.lines().find(|line| line.starts_with(&format!("| `{code}` |")));
        let row = row.unwrap_or_else(|| panic!("{code} is not in docs/errors.md"));
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let status = told.status.as_u16().to_string();
        assert!(cells[2].split(", ").any(|listed| listed == status), "{code}: {status}");
        assert_eq!(cells[3], told.hop.as_str(), "{code}");
    }
}

#[test]
fn what_is_told_is_sentences_with_a_next_step() {
    for refusal in every_refusal() {
        let Told { title, detail, next, .. } = tell(&refusal);
        for sentence in [&*detail, next] {
            assert!(sentence.ends_with('.'), "{}: {sentence}", refusal.code());
            assert!(sentence.starts_with(char::is_uppercase), "{}: {sentence}", refusal.code());
            assert!(!sentence.contains('\''), "{}: ’ as on the pages of the login host", refusal.code());
        }
        assert!(!title.ends_with('.') && title.len() <= 32, "{title}");
    }
}

#[test]
fn an_error_of_the_5xx_class_is_nobody_elses_than_ours_or_the_applications() {
    for refusal in every_refusal() {
        let told = tell(&refusal);
        let is_clients = told.hop == Hop::Client;
        if told.status.is_server_error() && told.status != StatusCode::NOT_IMPLEMENTED {
            assert!(!is_clients, "{}", refusal.code());
        }
    }
}

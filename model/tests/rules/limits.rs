//! Rates, sizes and quotas.

use mezusphere_model::rules::{
    BODY_MAX_MAX, BURST_MAX, EXCHANGES_MAX, PER_MINUTE_MAX, PER_SECOND_MAX, ProjectQuota, Rate, RateKey,
    RouteLimits, RuleError,
};
use proptest::prelude::*;

const fn rate(per_minute: u32, burst: u32, by: RateKey) -> Rate {
    Rate { per_minute, burst, by }
}

#[test]
fn a_rate_is_read_as_people_write_it() {
    for (text, expected) in [
        ("600/min", rate(600, 100, RateKey::Address)),
        ("10/s", rate(600, 100, RateKey::Address)),
        ("10/s:50", rate(600, 50, RateKey::Address)),
        ("600/min:50@caller", rate(600, 50, RateKey::Caller)),
        ("3600/h@route", rate(60, 10, RateKey::Route)),
        ("3/minute@address", rate(3, 1, RateKey::Address)),
    ] {
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }
    for bad in [
        "",
        "600",
        "/min",
        "-1/min",
        "1.5/s",
        "600/day",
        "600/min:",
        "600/min@",
        "600/min@x",
        "100/h",
        "4294967295/s",
        "600/min:1:2",
    ] {
        assert!(bad.parse::<Rate>().is_err(), "{bad}");
    }
}

#[test]
fn limits_have_bounds() {
    let limits = |body_max, rate| RouteLimits { body_max, rate }.check();
    assert_eq!(limits(Some(0), None), Ok(()));
    assert_eq!(limits(Some(BODY_MAX_MAX), Some(rate(PER_MINUTE_MAX, BURST_MAX, RateKey::Route))), Ok(()));
    assert_eq!(limits(Some(BODY_MAX_MAX + 1), None), Err(RuleError::BodyMax));
    for (per_minute, burst) in [(0, 1), (1, 0), (PER_MINUTE_MAX + 1, 1), (1, BURST_MAX + 1)] {
        assert_eq!(limits(None, Some(rate(per_minute, burst, RateKey::Address))), Err(RuleError::Rate));
    }
}

#[test]
fn a_quota_has_bounds() {
    let quota = |requests_per_second, exchanges| ProjectQuota { requests_per_second, exchanges }.check();
    assert_eq!(quota(None, None), Ok(()));
    assert_eq!(quota(Some(PER_SECOND_MAX), Some(EXCHANGES_MAX)), Ok(()));
    for (per_second, exchanges) in
        [(Some(0), None), (None, Some(0)), (Some(PER_SECOND_MAX + 1), None), (None, Some(EXCHANGES_MAX + 1))]
    {
        assert_eq!(quota(per_second, exchanges), Err(RuleError::Quota));
    }
}

proptest! {
    #[test]
    fn a_rate_is_read_as_it_is_shown(per_minute: u32, burst: u32, at in 0usize..3) {
        let by = [RateKey::Address, RateKey::Caller, RateKey::Route][at];
        let rate = rate(per_minute, burst, by);
        prop_assert_eq!(rate.to_string().parse(), Ok(rate));
    }

    #[test]
    fn a_rate_without_a_burst_has_one_that_is_allowed(per_minute in 1..=PER_MINUTE_MAX) {
        let rate: Rate = format!("{per_minute}/min").parse().unwrap();
        let limits = RouteLimits { body_max: None, rate: Some(rate) };
        prop_assert_eq!(limits.check(), Ok(()));
    }
}

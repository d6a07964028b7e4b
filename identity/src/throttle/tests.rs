//! Guessing, spraying and swarms, under a clock that is moved by hand (R15).

use std::net::{Ipv4Addr, Ipv6Addr};

use mezusphere_model::Timestamp;
use mezusphere_model::clock::ManualClock;

use super::*;

const DIRECTORY: DirectoryId = DirectoryId::from_bits(1);

fn throttle() -> (Throttle, ManualClock) {
    let hand = ManualClock::at(Timestamp::from_seconds(1_800_000_000));
    (Throttle::new(hand.clock(), &Entropy::counting()), hand)
}

fn account(name: &str) -> AccountKey {
    AccountKey::of(DIRECTORY, name)
}

fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    Ipv4Addr::new(a, b, c, d).into()
}

/// Fails until refused; returns how many attempts were let through and the refusal.
fn exhaust(throttle: &Throttle, name: &str, address: IpAddr) -> (u32, Throttled) {
    let mut made = 0;
    loop {
        match throttle.begin(account(name), address) {
            Ok(_failed) => made += 1,
            Err(refusal) => return (made, refusal),
        }
    }
}

#[test]
fn r15_guessing_one_account_is_slowed_to_one_attempt_in_thirty_seconds() {
    let (throttle, hand) = throttle();
    let (made, refusal) = exhaust(&throttle, "ada@shop.example", v4(192, 0, 2, 7));
    assert_eq!((made, refusal.scope, refusal.retry_after.as_secs()), (5, Scope::Account, 30));
    hand.advance(refusal.retry_after);
    assert_eq!(exhaust(&throttle, "ada@shop.example", v4(192, 0, 2, 7)).0, 1);
    hand.advance(Duration::from_hours(1));
    assert_eq!(exhaust(&throttle, "ada@shop.example", v4(192, 0, 2, 7)).0, 5, "never more than the burst");
}

#[test]
fn r15_another_spelling_or_a_neighbouring_address_is_no_way_around() {
    let (throttle, _hand) = throttle();
    exhaust(&throttle, "ada@shop.example", v4(192, 0, 2, 7));
    assert!(throttle.begin(account(" Ada@Shop.Example "), v4(192, 0, 2, 200)).is_err(), "same /24");
    let v6 = |tail| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, tail));
    exhaust(&throttle, "ada@shop.example", v6(1));
    assert!(throttle.begin(account("ada@shop.example"), v6(9)).is_err(), "same /64");
    let mapped = IpAddr::from(Ipv4Addr::new(192, 0, 2, 9).to_ipv6_mapped());
    assert!(throttle.begin(account("ada@shop.example"), mapped).is_err(), "IPv4 written as IPv6");
}

#[test]
fn r15_nobody_can_lock_a_victim_out_from_elsewhere() {
    let (throttle, _hand) = throttle();
    for network in 0..50 {
        exhaust(&throttle, "ada@shop.example", v4(198, 51, network, 1));
    }
    assert!(throttle.begin(account("ada@shop.example"), v4(192, 0, 2, 7)).is_ok());
}

#[test]
fn r15_spraying_many_accounts_from_one_network_is_caught() {
    let (throttle, hand) = throttle();
    let spray = |from: u32| {
        let names = (from..from + 100).map(|n| format!("user{n}@shop.example"));
        names.filter(|name| throttle.begin(account(name), v4(192, 0, 2, 7)).is_ok()).count()
    };
    assert_eq!(spray(0), 30);
    hand.advance(Duration::from_mins(1));
    assert_eq!(spray(100), 12, "one per 5 s");
}

#[test]
fn r15_a_swarm_meets_the_limit_of_everybody_but_known_places_do_not() {
    let (throttle, _hand) = throttle();
    let home = v4(192, 0, 2, 7);
    let attempt = throttle.begin(account("ada@shop.example"), home).unwrap();
    throttle.succeeded(attempt);
    let swarm = (0..=255_u8).flat_map(|b| (0..4_u8).map(move |c| v4(203, b, c, 1)));
    let made = swarm
        .enumerate()
        .filter(|(n, address)| throttle.begin(account(&format!("user{n}")), *address).is_ok())
        .count();
    assert_eq!(made, 200);
    let elsewhere = v4(198, 51, 100, 1);
    assert_eq!(throttle.begin(account("new"), elsewhere).unwrap_err().scope, Scope::Everybody);
    assert!(throttle.begin(account("ada@shop.example"), home).is_ok(), "signed in from here before");
}

#[test]
fn r15_fifty_networks_that_try_on_and_on_keep_nobody_out() {
    let (throttle, hand) = throttle();
    let home = v4(192, 0, 2, 7);
    throttle.succeeded(throttle.begin(account("ada@shop.example"), home).unwrap());
    let mut made = 0;
    for tick in 0..600_u32 {
        for network in 0..50 {
            // As many accounts as they like, and the victim's own.
            for name in [format!("user{tick}-{network}"), "ada@shop.example".to_owned()] {
                made += u32::from(throttle.begin(account(&name), v4(198, 51, network, 1)).is_ok());
            }
        }
        if tick % 100 == 99 {
            let away = v4(203, 0, u8::try_from(tick / 100).unwrap(), 1);
            assert!(throttle.begin(account("ada@shop.example"), away).is_ok(), "from a new place, {tick}");
            throttle.succeeded(throttle.begin(account("ada@shop.example"), home).unwrap());
        }
        hand.advance(Duration::from_millis(100));
    }
    assert!((300..1500).contains(&made), "{made} of 60 000 attempts were made");
}

#[test]
fn r15_people_who_know_their_passwords_do_not_slow_their_office() {
    let (throttle, _hand) = throttle();
    for n in 0..200 {
        let attempt = throttle.begin(account(&format!("user{n}")), v4(192, 0, 2, 7)).unwrap();
        throttle.succeeded(attempt);
    }
    for _ in 0..200 {
        let attempt = throttle.begin(account("ada"), v4(192, 0, 2, 7)).unwrap();
        throttle.not_judged(attempt);
    }
}

#[test]
fn r15_a_known_place_is_still_slowed_for_its_own_account() {
    let (throttle, _hand) = throttle();
    let home = v4(192, 0, 2, 7);
    let attempt = throttle.begin(account("ada@shop.example"), home).unwrap();
    throttle.succeeded(attempt);
    assert_eq!(exhaust(&throttle, "ada@shop.example", home).0, 5);
}

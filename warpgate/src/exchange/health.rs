//! Which upstreams are well: by what requests meet, and by checks where they are declared.
//!
//! An upstream that cannot be reached is bad at once, and good or unknown as soon as it can be again: while it is bad,
//! edges send what they can elsewhere, so it is dialled now and then from here. One with a check is bad after so many
//! bad answers in a row, and good after so many good ones.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::join_all;
use mezusphere_model::Entropy;
use mezusphere_model::slug::Slug;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::debug;
use tunnel_proto::control::HealthState;

use super::gate::{Gate, HealthTable};
use super::probe;
use super::upstream::{Trouble, Upstream};
use crate::backoff::{Backoff, jittered};
use crate::limits::{REACH_AGAIN, REACH_MAX};
use crate::upstream::HealthCheck;

/// Why an upstream is bad whose check fails.
const CHECK_FAILED: &str = "check_failed";

/// Keeps [`Gate::health`] true for as long as it is polled.
pub(crate) async fn keep_checking(gate: &Gate) -> Infallible {
    let mut offered = gate.offered();
    loop {
        offered.mark_unchanged();
        let upstreams = gate.upstreams();
        let watching =
            upstreams.iter().map(|(name, upstream)| keep_one(&gate.health, &gate.entropy, name, upstream));
        tokio::select! {
            _ = join_all(watching) => {}
            // The sender lives in the gate.
            _ = offered.changed() => {}
        }
    }
}

async fn keep_one(
    health: &watch::Sender<HealthTable>,
    entropy: &Entropy,
    name: &Slug,
    upstream: &Upstream,
) -> Infallible {
    let known = health.borrow().get(name).map_or(HealthState::Unknown, |(state, _)| *state);
    let check = upstream.declaration().settings().health.as_ref();
    let mut tally = Tally::new(known);
    let mut troubles = upstream.trouble();
    let mut pace = Pace::new(check, entropy);
    loop {
        let trouble = troubles.borrow_and_update().clone();
        publish(health, name, trouble.as_ref(), tally.state);
        let due = pace.next(trouble.is_some());
        tokio::select! {
            // The sender lives in the upstream.
            _ = troubles.changed() => {}
            () = sleep_until(due) => {
                ask(name, upstream, check, &mut tally).await;
                pace.asked();
            }
        }
    }
}

async fn ask(name: &Slug, upstream: &Upstream, check: Option<&HealthCheck>, tally: &mut Tally) {
    let Some(check) = check else {
        // What it finds is noted as the trouble of the upstream, or the end of it.
        return drop(upstream.reach(REACH_MAX).await);
    };
    let good = match probe::get(upstream, &check.path, check.timeout).await {
        Ok(status) if status.is_success() || status.is_redirection() => true,
        Ok(status) => {
            debug!(upstream = %name, %status, "Health check failed");
            false
        }
        Err(why) => {
            debug!(upstream = %name, code = %why.code, detail = why.detail, "Health check failed");
            false
        }
    };
    tally.note(good, check);
}

fn publish(
    health: &watch::Sender<HealthTable>,
    name: &Slug,
    trouble: Option<&Trouble>,
    checked: HealthState,
) {
    let now = match (trouble, checked) {
        (Some(trouble), _) => (HealthState::Bad, trouble.code.name().to_owned()),
        (None, HealthState::Bad) => (HealthState::Bad, CHECK_FAILED.to_owned()),
        (None, state) => (state, String::new()),
    };
    health.send_if_modified(|table| match table.get_mut(name) {
        Some(known) if *known != now => {
            *known = now;
            true
        }
        // Unchanged, or no longer declared.
        _ => false,
    });
}

/// What the answers so far come to.
struct Tally {
    state: HealthState,
    good: u32,
    bad: u32,
}

impl Tally {
    fn new(state: HealthState) -> Self {
        Self { state, good: 0, bad: 0 }
    }

    fn note(&mut self, good: bool, check: &HealthCheck) {
        (self.good, self.bad) =
            if good { (self.good.saturating_add(1), 0) } else { (0, self.bad.saturating_add(1)) };
        // Of one that nothing is known of yet, the first good answer is good news enough.
        let good_after = if self.state == HealthState::Unknown { 1 } else { check.good_after };
        if self.good >= good_after {
            self.state = HealthState::Good;
        } else if self.bad >= check.bad_after {
            self.state = HealthState::Bad;
        }
    }
}

/// When it is asked next.
struct Pace<'a> {
    check: Option<&'a HealthCheck>,
    entropy: &'a Entropy,
    backoff: Backoff,
    due: Option<Instant>,
}

impl<'a> Pace<'a> {
    fn new(check: Option<&'a HealthCheck>, entropy: &'a Entropy) -> Self {
        // The first check comes at once, so that a start knows soon.
        let due = check.map(|_| Instant::now());
        Self { check, entropy, backoff: Backoff::new(REACH_AGAIN, entropy.clone()), due }
    }

    /// Not before it is due; without a check only while there is trouble.
    fn next(&mut self, is_troubled: bool) -> Instant {
        let never = Instant::now() + Duration::from_hours(24);
        if self.check.is_none() && !is_troubled {
            self.backoff.reset();
            self.due = None;
            return never;
        }
        let (check, backoff, entropy) = (self.check, &mut self.backoff, self.entropy);
        *self.due.get_or_insert_with(|| {
            let pause = check.map_or_else(|| backoff.long_wait(), |check| jittered(check.every, entropy));
            Instant::now() + pause
        })
    }

    fn asked(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::upstream::{Declared, Upstreams};

    fn upstream(url: &str, check: Option<HealthCheck>) -> (Slug, Upstream) {
        let mut declared: Declared = url.parse().unwrap();
        declared.settings.health = check;
        let upstreams = Upstreams::new(vec![declared]).unwrap();
        let (name, declaration) = upstreams.iter().next().unwrap();
        (name.clone(), Upstream::new(declaration.clone()))
    }

    fn table(name: &Slug) -> watch::Sender<HealthTable> {
        watch::Sender::new(HealthTable::from([(name.clone(), (HealthState::Unknown, String::new()))]))
    }

    /// Answers each connection with this status.
    async fn serve(listener: TcpListener, mut status: watch::Receiver<u16>) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let status = *status.borrow_and_update();
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_ok() {
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                drop(stream.write_all(answer.as_bytes()).await);
            }
        }
    }

    #[tokio::test]
    async fn checks_find_an_upstream_bad_and_good_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let check =
            HealthCheck { every: Duration::from_millis(100), ..HealthCheck::new("/healthz").unwrap() };
        let (name, upstream) = upstream(&listener.local_addr().unwrap().to_string(), Some(check));
        let (status, statuses) = watch::channel(302);
        let (health, entropy) = (table(&name), Entropy::counting());
        let mut told = health.subscribe();
        let state = |wanted: (HealthState, &'static str)| {
            let name = name.clone();
            move |table: &HealthTable| table[&name] == (wanted.0, wanted.1.to_owned())
        };
        let seen = async {
            told.wait_for(state((HealthState::Good, ""))).await.unwrap();
            status.send_replace(503);
            told.wait_for(state((HealthState::Bad, CHECK_FAILED))).await.unwrap();
            status.send_replace(204);
            told.wait_for(state((HealthState::Good, ""))).await.unwrap();
        };
        tokio::select! {
            _ = keep_one(&health, &entropy, &name, &upstream) => {}
            () = serve(listener, statuses) => {}
            in_time = tokio::time::timeout(Duration::from_secs(10), seen) => in_time.unwrap(),
        }
    }

    #[tokio::test]
    async fn an_upstream_that_cannot_be_reached_is_bad_until_it_can_though_nobody_asks_for_it() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        let (name, upstream) = upstream(&address.to_string(), None);
        let (health, entropy) = (table(&name), Entropy::counting());
        let mut told = health.subscribe();
        let seen = async {
            // As an exchange would.
            upstream.reach(REACH_MAX).await.unwrap_err();
            let bad =
                told.wait_for(|table| table[&name].0 == HealthState::Bad).await.unwrap()[&name].1.clone();
            assert_eq!(bad, "warpgate.upstream_refused");
            let _back = TcpListener::bind(address).await.unwrap();
            told.wait_for(|table| table[&name].0 == HealthState::Unknown).await.unwrap();
        };
        tokio::select! {
            _ = keep_one(&health, &entropy, &name, &upstream) => {}
            in_time = tokio::time::timeout(Duration::from_secs(10), seen) => in_time.unwrap(),
        }
    }

    #[test]
    fn it_takes_several_answers_in_a_row_to_change_a_mind_and_one_to_make_it_up() {
        let check = HealthCheck { good_after: 2, bad_after: 3, ..HealthCheck::new("/").unwrap() };
        let mut tally = Tally::new(HealthState::Unknown);
        let mut after = |answers: &[bool]| {
            for good in answers {
                tally.note(*good, &check);
            }
            tally.state
        };
        assert_eq!(after(&[false, false]), HealthState::Unknown);
        assert_eq!(after(&[true]), HealthState::Good);
        assert_eq!(after(&[false, false, true, false, false]), HealthState::Good);
        assert_eq!(after(&[false]), HealthState::Bad);
        assert_eq!(after(&[true, false, true]), HealthState::Bad);
        assert_eq!(after(&[true]), HealthState::Good);
    }
}

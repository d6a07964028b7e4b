//! Session tickets: with one, a client that was here before resumes its session and saves both sides the asymmetric
//! half of a handshake (RFC 5077, RFC 8446 §2.2).
//!
//! A ticket is `key id [8] | nonce [12] | ciphertext and tag`: what the session needs to go on, sealed with
//! AES-256-GCM-SIV. Authenticated with it is the certificate the session began with. A client that resumes is shown no
//! certificate, so without that binding a session would outlive the certificate: its end, its replacement after a key
//! was lost, a name that went to another owner.
//!
//! Keys live in memory alone and change every [`TICKET_KEY_LIFE`]; the one before still opens. After twice that
//! time no key of a ticket is left, which is the forward secrecy of sessions of TLS 1.2.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::SHA256_OUTPUT_LEN;
use mezusphere_model::{Clock, Entropy, Timestamp};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

/// How long a key makes tickets; it opens them for as long again. Clients are told to keep a ticket no longer than this,
/// which is how long each of them is sure to work.
pub const TICKET_KEY_LIFE: Duration = Duration::from_hours(6);

/// Longest ticket that is looked at, in octets: what rustls puts into one has a name of at most 255 octets and about
/// 100 more.
pub const TICKET_LEN_MAX: usize = 1024;

const KEY_ID_LEN: usize = 8;

/// The keys that tickets are sealed with. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct TicketKeys(Arc<Inner>);

struct Inner {
    ring: ArcSwap<Ring>,
    /// Held by whoever makes the next ring.
    turning: Mutex<()>,
    clock: Clock,
    entropy: Entropy,
}

/// The key in use, and the one before.
struct Ring {
    current: Arc<TicketKey>,
    previous: Option<Arc<TicketKey>>,
    made_at: Timestamp,
}

struct TicketKey {
    id: [u8; KEY_ID_LEN],
    key: LessSafeKey,
}

impl TicketKeys {
    /// A first key. `None` only if the library refuses one of the right length, which it never does.
    pub fn new(clock: Clock, entropy: Entropy) -> Option<Self> {
        let current = Arc::new(TicketKey::random(&entropy)?);
        let ring = Ring { current, previous: None, made_at: clock.now() };
        Some(Self(Arc::new(Inner {
            ring: ArcSwap::from_pointee(ring),
            turning: Mutex::default(),
            clock,
            entropy,
        })))
    }

    /// What makes and opens tickets of sessions that began with the certificate of this digest, until it ends.
    pub(super) fn bound_to(&self, certificate: [u8; SHA256_OUTPUT_LEN], ends: Timestamp) -> BoundTickets {
        BoundTickets { keys: self.clone(), certificate, ends }
    }

    /// The keys of now: turned when it is time, whoever comes first.
    fn ring(&self) -> Arc<Ring> {
        let inner = &*self.0;
        let now = inner.clock.now();
        let ring = inner.ring.load_full();
        if ring.is_of(now) {
            return ring;
        }
        let _turning = inner.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = inner.ring.load_full();
        if ring.is_of(now) {
            return ring;
        }
        let Some(current) = TicketKey::random(&inner.entropy) else { return ring };
        let previous = ring.is_one_before(now).then(|| Arc::clone(&ring.current));
        let next = Arc::new(Ring { current: Arc::new(current), previous, made_at: now });
        inner.ring.store(Arc::clone(&next));
        next
    }

    fn seal(&self, plain: &[u8], binding: &[u8]) -> Option<Vec<u8>> {
        let ring = self.ring();
        let nonce: [u8; NONCE_LEN] = self.0.entropy.bytes();
        let mut sealed = Vec::with_capacity(plain.len() + MAX_TAG_LEN);
        sealed.extend_from_slice(plain);
        let key = &ring.current.key;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(binding), &mut sealed)
            .ok()?;
        let ticket = [ring.current.id.as_slice(), &nonce, &sealed].concat();
        (ticket.len() <= TICKET_LEN_MAX).then_some(ticket)
    }

    fn open(&self, ticket: &[u8], binding: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_LEN_MAX {
            return None;
        }
        let (id, rest) = ticket.split_first_chunk::<KEY_ID_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let ring = self.ring();
        let mut keys = std::iter::once(&ring.current).chain(&ring.previous);
        let key = keys.find(|key| key.id == *id)?;
        let mut opened = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = key.key.open_in_place(nonce, Aad::from(binding), &mut opened).ok()?.len();
        opened.truncate(len);
        Some(opened)
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys(…)")
    }
}

impl Ring {
    /// Whether its key still makes tickets. A clock that was set back by more than a key's life makes a new one, so that
    /// none lives longer than it may.
    fn is_of(&self, now: Timestamp) -> bool {
        now < self.made_at.after(TICKET_KEY_LIFE) && self.made_at < now.after(TICKET_KEY_LIFE)
    }

    /// Whether its key may still open tickets.
    fn is_one_before(&self, now: Timestamp) -> bool {
        self.made_at <= now && now < self.made_at.after(2 * TICKET_KEY_LIFE)
    }
}

impl TicketKey {
    fn random(entropy: &Entropy) -> Option<Self> {
        let octets = Zeroizing::new(entropy.bytes::<32>());
        let key = UnboundKey::new(&AES_256_GCM_SIV, octets.as_slice()).ok()?;
        Some(Self { id: entropy.bytes(), key: LessSafeKey::new(key) })
    }
}

/// Tickets of sessions that began with one certificate.
#[derive(Debug)]
pub(super) struct BoundTickets {
    keys: TicketKeys,
    certificate: [u8; SHA256_OUTPUT_LEN],
    ends: Timestamp,
}

impl ProducesTickets for BoundTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(TICKET_KEY_LIFE.as_secs()).unwrap_or(0)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.seal(plain, &self.certificate)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let has_ended = self.keys.0.clock.now() > self.ends;
        (!has_ended).then(|| self.keys.open(ticket, &self.certificate)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use mezusphere_model::clock::ManualClock;

    use super::*;

    const BEGIN: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const NEVER: Timestamp = Timestamp::from_seconds(9_000_000_000);

    fn keys() -> (ManualClock, TicketKeys) {
        let hand = ManualClock::at(BEGIN);
        (hand.clone(), TicketKeys::new(hand.clock(), Entropy::counting()).unwrap())
    }

    #[test]
    fn a_ticket_opens_for_the_certificate_it_was_made_for_alone() {
        let (_hand, keys) = keys();
        let (one, other) = (keys.bound_to([1; 32], NEVER), keys.bound_to([2; 32], NEVER));
        let ticket = one.encrypt(b"session").unwrap();
        assert_eq!(one.decrypt(&ticket).as_deref(), Some(b"session".as_slice()));
        assert_eq!(other.decrypt(&ticket), None);
        assert!(!ticket.windows(7).any(|window| window == b"session"));
        assert_ne!(one.encrypt(b"session").unwrap(), ticket, "each has a nonce of its own");
    }

    #[test]
    fn a_ticket_opens_no_more_once_the_certificate_has_ended() {
        let (hand, keys) = keys();
        let tickets = keys.bound_to([1; 32], BEGIN.after(Duration::from_mins(1)));
        let ticket = tickets.encrypt(b"session").unwrap();
        hand.advance(Duration::from_mins(1));
        assert!(tickets.decrypt(&ticket).is_some());
        hand.advance(Duration::from_secs(1));
        assert!(tickets.decrypt(&ticket).is_none());
    }

    #[test]
    fn keys_turn_and_the_one_before_still_opens_for_as_long_again() {
        let (hand, keys) = keys();
        let tickets = keys.bound_to([1; 32], NEVER);
        let first = tickets.encrypt(b"1").unwrap();
        hand.advance(TICKET_KEY_LIFE.saturating_sub(Duration::from_secs(1)));
        let late = tickets.encrypt(b"2").unwrap();
        assert_eq!(first[..KEY_ID_LEN], late[..KEY_ID_LEN], "one key in its time");
        hand.advance(Duration::from_secs(1));
        let next = tickets.encrypt(b"3").unwrap();
        assert_ne!(first[..KEY_ID_LEN], next[..KEY_ID_LEN]);
        for ticket in [&first, &late, &next] {
            assert!(tickets.decrypt(ticket).is_some());
        }
        hand.advance(TICKET_KEY_LIFE);
        assert!(tickets.decrypt(&first).is_none() && tickets.decrypt(&late).is_none());
        assert!(tickets.decrypt(&next).is_some());
        // Nobody came for so long that the current key is too old to be the one before.
        hand.advance(2 * TICKET_KEY_LIFE);
        assert!(tickets.decrypt(&next).is_none());
    }

    #[test]
    fn a_clock_set_back_a_little_changes_nothing_and_by_a_day_makes_new_keys() {
        let at = Arc::new(Mutex::new(BEGIN));
        let clock = {
            let at = Arc::clone(&at);
            Clock::new(move || {
                let micros = u64::try_from(at.lock().unwrap().as_micros()).unwrap();
                std::time::UNIX_EPOCH + Duration::from_micros(micros)
            })
        };
        let keys = TicketKeys::new(clock, Entropy::counting()).unwrap();
        let tickets = keys.bound_to([1; 32], NEVER);
        let ticket = tickets.encrypt(b"session").unwrap();
        *at.lock().unwrap() = BEGIN.before(Duration::from_hours(1));
        assert!(tickets.decrypt(&ticket).is_some());
        *at.lock().unwrap() = BEGIN.before(Duration::from_hours(24));
        assert!(tickets.decrypt(&ticket).is_none());
    }

    #[test]
    fn r24_what_is_no_ticket_of_ours_is_none_whatever_it_is() {
        let (_hand, keys) = keys();
        let tickets = keys.bound_to([1; 32], NEVER);
        let ticket = tickets.encrypt(b"session").unwrap();
        for cut in 0..ticket.len() {
            assert!(tickets.decrypt(&ticket[..cut]).is_none(), "cut at {cut}");
        }
        for changed in 0..ticket.len() {
            let mut ticket = ticket.clone();
            ticket[changed] ^= 1;
            assert!(tickets.decrypt(&ticket).is_none(), "changed at {changed}");
        }
        assert!(tickets.decrypt(&[ticket.as_slice(), &[0]].concat()).is_none());
        assert!(tickets.encrypt(&[0; TICKET_LEN_MAX]).is_none(), "none is made that would not be read");
        let other = TicketKeys::new(ManualClock::at(BEGIN).clock(), Entropy::counting()).unwrap();
        assert!(other.bound_to([1; 32], NEVER).decrypt(&[0; TICKET_LEN_MAX + 1]).is_none());
        assert_eq!(format!("{keys:?}"), "TicketKeys(…)");
    }
}

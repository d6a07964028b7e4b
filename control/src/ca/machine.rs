//! The rotation of a CA as a plain state machine: from what is kept, what the members of the installation show and the
//! time, the next step. No I/O; [`super::run`] performs the steps and keeps each.
//!
//! ```text
//!  Announce ─▶ Trust ─▶ Sign ─▶ Retire ─▶ over
//!     │          │        │
//!     └── abort: dropped ─┘ abort: Sign again, with the two CAs in each other's place
//! ```
//!
//! | phase | what holds in it | left when |
//! |---|---|---|
//! | announce | the new CA is made; a new root is trusted beside the old one, which has signed it | it is made |
//! | trust | | every node has applied what was announced |
//! | sign | certificates come from the new CA; control and edges are asked to renew, then warpgates | no node shows one of the old CA |
//! | retire | what the old CA issued is refused; an old root is trusted no more | at once |
//!
//! Time spent waiting is counted, and never more than [`TICK_MAX`] per look, so that neither a clock that was set nor a night
//! without power makes anybody stop waiting for nodes that had no chance to come.

use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::document::Partition;
use mezusphere_pki::lifetime::CA_BACK_DATE;
use mezusphere_store::feed::{Epoch, Head};
use serde::{Deserialize, Serialize};

use super::state::{CaRef, Digest, Ended, How, What};

/// How often the time spent waiting is written down.
pub(crate) const TICK_EVERY: Duration = Duration::from_secs(10);

/// Most time that one look counts as waited: longer than between two looks, shorter than any outage.
pub(crate) const TICK_MAX: Duration = Duration::from_secs(30);

/// How long a phase waits unless the operator says otherwise: as long as a certificate lives, so that nodes that are off
/// keep nothing when they are left behind.
pub(crate) const MAX_WAIT: Duration = Duration::from_hours(24);

/// The same for one that was asked to hurry.
pub(crate) const MAX_WAIT_HURRY: Duration = Duration::from_mins(10);

/// In a hurry, after the last node has changed over: until short exchanges on the connections of before are done. Long ones
/// are cut. Without hurry those connections last as long as their certificates, which is waited for.
const SETTLE_HURRY: Duration = Duration::from_millis(1500);

/// Where a rotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// The new CA is made and told of.
    Announce,
    /// Everybody learns to trust it.
    Trust,
    /// It signs; everybody gets a new certificate.
    Sign,
    /// The old one goes.
    Retire,
}

/// A rotation that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rotation {
    /// What is replaced.
    pub(crate) what: What,
    /// Where it stands.
    pub(crate) phase: Phase,
    /// Whether it goes back to the old CA.
    pub(crate) undo: bool,
    /// Whether only nodes that are here now are waited for.
    pub(crate) hurry: bool,
    /// Who started it.
    pub(crate) by: String,
    /// When.
    pub(crate) started_at: Timestamp,
    /// Since when it is in this phase.
    pub(crate) phase_at: Timestamp,
    /// How long each phase may wait.
    pub(crate) max_wait_s: u64,
    /// Time counted in this phase, in milliseconds.
    pub(crate) waited_ms: u64,
    /// Up to when it is counted.
    pub(crate) counted_to: Timestamp,
    /// How much was counted when nothing was to be waited for any more, in milliseconds.
    #[serde(default)]
    pub(crate) clear_ms: Option<u64>,
    /// Whether warpgates were asked to renew: after the edges, so that the tunnels they make anew are between two new
    /// certificates and need not be made once more.
    #[serde(default)]
    pub(crate) called: bool,
    /// The issuing CA that goes.
    pub(crate) from: CaRef,
    /// The one that comes, once it is made.
    #[serde(default)]
    pub(crate) to: Option<CaRef>,
    /// The root that comes, once it is made.
    #[serde(default)]
    pub(crate) root: Option<NewRoot>,
    /// Up to where the feed must be applied to know all that was announced.
    #[serde(default)]
    pub(crate) announced: Option<Mark>,
    /// Members that the phases so far did not wait for any longer, as many as the last one had.
    #[serde(default)]
    pub(crate) left_behind: usize,
}

/// A root that takes another's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewRoot {
    /// Its certificate.
    pub(crate) pem: String,
    /// Its certificate as the old root signed it.
    pub(crate) cross_pem: String,
    /// Version of the secret that holds its key; `None`: it is kept elsewhere.
    pub(crate) version: Option<u32>,
}

/// A place on the feed's partition of the whole installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Which life of the database.
    pub(crate) epoch: String,
    /// The revision.
    pub(crate) revision: u64,
}

impl Mark {
    /// Here: the whole installation's partition, at its end.
    pub(crate) fn of(heads: &[Head]) -> Option<Self> {
        let head = heads.iter().find(|head| head.partition == Partition::Platform)?;
        Some(Self { epoch: Self::epoch_text(head.cursor.epoch), revision: head.cursor.revision })
    }

    /// An epoch as a mark has it.
    pub(crate) fn epoch_text(epoch: Epoch) -> String {
        format!("{:032x}", epoch.0)
    }
}

/// What kind of member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A control node.
    Control,
    /// What signs bundles, which all control nodes share.
    Bundles,
    /// An edge.
    Edge,
    /// A warpgate.
    Warpgate,
}

/// A member of the installation, as control knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Of which kind.
    pub(crate) kind: Kind,
    /// SPIFFE URI.
    pub(crate) name: String,
    /// Whether it is heard of now.
    pub(crate) here: bool,
    /// Whether it has applied what was announced; `None`: it follows no feed.
    pub(crate) told: Option<bool>,
    /// The newest certificate it was given, unless that has ended.
    pub(crate) leaf: Option<Leaf>,
    /// Connections of it that were made before both ends had a certificate of the CA that comes.
    pub(crate) stale: usize,
}

/// A member's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Which CA issued it; `None`: noted by a version that did not say.
    pub(crate) issuer: Option<Digest>,
    /// When it ends.
    pub(crate) not_after: Timestamp,
}

/// What a member is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lacks {
    /// To apply what was announced.
    Told,
    /// A certificate of the CA that comes.
    Leaf,
    /// That so many connections made with older certificates are replaced.
    Connections(usize),
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing now.
    Wait,
    /// Write down the time spent waiting.
    Tick,
    /// Write down that nothing is to be waited for any more (`true`), or that something is again.
    Clear(bool),
    /// Make what is to come.
    Make,
    /// Begin this phase.
    Enter(Phase),
    /// Ask warpgates to renew.
    Call,
    /// The CA that goes is refused from now on, and the rotation is over.
    Finish,
}

impl Rotation {
    /// One that begins now.
    pub(crate) fn new(
        what: What,
        by: String,
        hurry: bool,
        max_wait: Duration,
        from: CaRef,
        now: Timestamp,
    ) -> Self {
        Self {
            what,
            phase: Phase::Announce,
            undo: false,
            hurry,
            by,
            started_at: now,
            phase_at: now,
            max_wait_s: max_wait.as_secs(),
            waited_ms: 0,
            counted_to: now,
            clear_ms: None,
            called: false,
            from,
            to: None,
            root: None,
            announced: None,
            left_behind: 0,
        }
    }

    /// The CA whose certificates everybody is to have at the end; `None`: not made yet.
    pub(crate) fn target(&self) -> Option<&CaRef> {
        if self.undo { Some(&self.from) } else { self.to.as_ref() }
    }

    /// The CA that is refused at the end; `None`: there is nothing to refuse yet.
    pub(crate) fn leaving(&self) -> Option<&CaRef> {
        if self.undo { self.to.as_ref() } else { Some(&self.from) }
    }

    /// Begins a phase.
    pub(crate) fn enter(&mut self, phase: Phase, now: Timestamp) {
        self.phase = phase;
        self.phase_at = now;
        self.waited_ms = 0;
        self.counted_to = now;
        self.clear_ms = None;
        self.called = false;
    }

    /// Counts the time since it was last counted.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        self.waited_ms = self.waited(now);
        self.counted_to = now;
    }

    /// Milliseconds of this phase that count.
    fn waited(&self, now: Timestamp) -> u64 {
        // `since` of a later moment is zero: a clock that was set back counts nothing.
        let more = now.since(self.counted_to).min(TICK_MAX);
        self.waited_ms.saturating_add(millis(more))
    }

    /// How long this phase has waited.
    pub(crate) fn has_waited(&self, now: Timestamp) -> Duration {
        Duration::from_millis(self.waited(now))
    }

    fn is_tired(&self, now: Timestamp) -> bool {
        self.has_waited(now) >= Duration::from_secs(self.max_wait_s)
    }

    /// What this member lacks to leave the phase.
    pub(crate) fn lacks(&self, member: &Member) -> Option<Lacks> {
        match self.phase {
            Phase::Announce | Phase::Retire => None,
            Phase::Trust => (member.told == Some(false)).then_some(Lacks::Told),
            Phase::Sign => {
                let wanted = self.target().map(|ca| &ca.key_sha256);
                match &member.leaf {
                    Some(leaf) if leaf.issuer.as_ref() != wanted => Some(Lacks::Leaf),
                    // A control node or edge without a certificate that lives has none to replace.
                    None | Some(_) if member.stale == 0 => None,
                    None | Some(_) => Some(Lacks::Connections(member.stale)),
                }
            }
        }
    }

    /// Whether the phase waits for this member, if it lacks something: it is here, or it could come back with what it has
    /// and there is time to wait for that.
    pub(crate) fn waits_for(&self, member: &Member) -> bool {
        member.here || (!self.hurry && member.leaf.is_some())
    }
}

/// The next step; `old_until`: when the last certificate of the CA that goes ends.
pub(crate) fn next(
    rotation: &Rotation,
    members: &[Member],
    old_until: Option<Timestamp>,
    now: Timestamp,
) -> Step {
    let forward = match rotation.phase {
        Phase::Announce => {
            return if rotation.to.is_none() { Step::Make } else { Step::Enter(Phase::Trust) };
        }
        Phase::Retire => return Step::Finish,
        Phase::Trust => {
            // A CA made under a clock that ran ahead signs nothing that anybody would accept yet.
            let is_valid = rotation.to.as_ref().is_some_and(|to| now >= to.made_at.before(CA_BACK_DATE));
            if is_valid { Some(Phase::Sign) } else { None }
        }
        Phase::Sign => Some(Phase::Retire),
    };
    if rotation.phase == Phase::Sign && !rotation.called {
        let first = |member: &&Member| member.kind != Kind::Warpgate && rotation.waits_for(member);
        let ready = members.iter().filter(first).all(|member| rotation.lacks(member).is_none());
        return if ready || rotation.is_tired(now) { Step::Call } else { tick_or_wait(rotation, now) };
    }
    let lacking = members.iter().any(|member| rotation.waits_for(member) && rotation.lacks(member).is_some());
    let is_clear = !lacking || rotation.is_tired(now);
    let Some(forward) = forward.filter(|_| is_clear) else { return wait(rotation, now) };
    if rotation.phase == Phase::Trust || rotation.is_tired(now) {
        return Step::Enter(forward);
    }
    let Some(since) = rotation.clear_ms else { return Step::Clear(true) };
    let settled = if rotation.hurry {
        rotation.has_waited(now) >= Duration::from_millis(since) + SETTLE_HURRY
    } else {
        old_until.is_none_or(|end| now >= end)
    };
    if settled { Step::Enter(forward) } else { tick_or_wait(rotation, now) }
}

/// Something is to be waited for.
fn wait(rotation: &Rotation, now: Timestamp) -> Step {
    if rotation.clear_ms.is_some() { Step::Clear(false) } else { tick_or_wait(rotation, now) }
}

fn tick_or_wait(rotation: &Rotation, now: Timestamp) -> Step {
    let is_due = now.since(rotation.counted_to) >= TICK_EVERY || now < rotation.counted_to;
    if is_due { Step::Tick } else { Step::Wait }
}

/// When the schedule replaces what. Not asked while a rotation runs.
///
/// The issuing CA when a third of its life is left, the root a year before its end: each long enough for an operator who
/// keeps the root's key elsewhere to come to it. After one that was taken back it rests, so that whoever took it back has
/// time to see to the reason; but not until something ends.
pub(crate) struct Schedule {
    root_at: Timestamp,
    issuing_at: Timestamp,
}

impl Schedule {
    /// `root_not_after`: of the root in use.
    pub(crate) fn of(issuing: &CaRef, root_not_after: Timestamp, last: Option<&Ended>) -> Self {
        let taken_back = last.filter(|last| last.how == How::Aborted).map(|last| last.at);
        let at = |end: Timestamp, ahead: Duration| {
            let rested = taken_back.map(|at| at.after(REST).min(end.before(REST_ENDS_AHEAD.min(ahead))));
            rested.map_or(end.before(ahead), |rested| rested.max(end.before(ahead)))
        };
        let life = issuing.not_after.since(issuing.made_at);
        Self { root_at: at(root_not_after, ROOT_AHEAD), issuing_at: at(issuing.not_after, life / 3) }
    }

    /// What is due. With the root comes an issuing CA.
    pub(crate) fn due(&self, now: Timestamp) -> Option<What> {
        if now >= self.root_at {
            return Some(What::Root);
        }
        (now >= self.issuing_at).then_some(What::Issuing)
    }

    /// What is due first, and from when.
    pub(crate) fn next(&self) -> (Timestamp, What) {
        let root = (self.root_at, What::Root);
        if self.root_at <= self.issuing_at { root } else { (self.issuing_at, What::Issuing) }
    }
}

/// How long before its end a root is replaced.
const ROOT_AHEAD: Duration = Duration::from_hours(365 * 24);

/// How long the schedule begins nothing after a rotation was taken back.
const REST: Duration = Duration::from_hours(7 * 24);

/// How long before the end of a CA it rests no longer: time for a rotation, and for an operator to take it back again.
const REST_ENDS_AHEAD: Duration = Duration::from_hours(30 * 24);

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

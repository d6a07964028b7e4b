//! The machine alone, under a hand-moved time: every order of phases, whoever never comes, clocks that jump.

use super::*;

const BEGIN: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// How long certificates of the old CA live on.
const OLD: Duration = Duration::from_mins(5);

fn ca(name: &str, version: u32) -> CaRef {
    CaRef {
        key_sha256: name.to_owned(),
        version,
        made_at: BEGIN,
        not_after: BEGIN.after(Duration::from_hours(3 * 365 * 24)),
    }
}

fn member(kind: Kind, name: &str) -> Member {
    Member {
        kind,
        name: name.to_owned(),
        here: true,
        told: matches!(kind, Kind::Edge | Kind::Control).then_some(true),
        leaf: Some(leaf("old")),
        stale: 0,
    }
}

fn leaf(issuer: &str) -> Leaf {
    Leaf { issuer: Some(issuer.to_owned()), not_after: BEGIN.after(Duration::from_hours(24)) }
}

/// A rotation, its members and a clock; what the shell does, without a database.
struct World {
    rotation: Option<Rotation>,
    members: Vec<Member>,
    /// When the last certificate of the CA that goes ends.
    old_until: Timestamp,
    now: Timestamp,
    steps: Vec<Step>,
}

impl World {
    fn new(what: What, hurry: bool, max_wait: Duration) -> Self {
        let rotation = Rotation::new(what, "local".to_owned(), hurry, max_wait, ca("old", 1), BEGIN);
        let members = vec![
            member(Kind::Control, "control"),
            member(Kind::Bundles, "bundles"),
            member(Kind::Edge, "edge"),
            member(Kind::Warpgate, "gate"),
        ];
        Self { rotation: Some(rotation), members, old_until: BEGIN.after(OLD), now: BEGIN, steps: Vec::new() }
    }

    fn rotation(&self) -> &Rotation {
        self.rotation.as_ref().unwrap()
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now.after(span);
    }

    /// One look, as [`crate::ca::run`] takes it.
    fn look(&mut self) -> Step {
        let Some(rotation) = self.rotation.as_mut() else { return Step::Wait };
        let step = next(rotation, &self.members, Some(self.old_until), self.now);
        match step {
            Step::Wait => {}
            Step::Tick => rotation.tick(self.now),
            Step::Clear(is_clear) => {
                rotation.tick(self.now);
                rotation.clear_ms = is_clear.then_some(rotation.waited_ms);
            }
            Step::Make => rotation.to = Some(ca("new", 2)),
            Step::Enter(phase) => rotation.enter(phase, self.now),
            Step::Call => rotation.called = true,
            Step::Finish => self.rotation = None,
        }
        if !matches!(step, Step::Wait | Step::Tick) {
            self.steps.push(step);
        }
        step
    }

    /// Looks once a second for so long, or until the rotation is over.
    fn run(&mut self, span: Duration) {
        let end = self.now.after(span);
        while self.rotation.is_some() && self.now < end {
            if matches!(self.look(), Step::Wait | Step::Tick | Step::Clear(_)) {
                self.pass(Duration::from_secs(1));
            }
        }
    }

    /// All but warpgates.
    fn renew_nodes(&mut self, issuer: &str) {
        for member in self.members.iter_mut().filter(|member| member.kind != Kind::Warpgate) {
            member.leaf = Some(leaf(issuer));
        }
    }

    fn renew_all(&mut self, issuer: &str) {
        for member in &mut self.members {
            member.leaf = Some(leaf(issuer));
        }
    }
}

#[test]
fn a_rotation_goes_through_its_phases_in_order() {
    let mut world = World::new(What::Issuing, false, MAX_WAIT);
    world.run(Duration::from_secs(5));
    assert_eq!(world.rotation().phase, Phase::Sign, "everybody had applied what was announced");
    assert!(!world.rotation().called);
    world.renew_nodes("new");
    world.run(Duration::from_secs(5));
    assert!(world.rotation().called, "warpgates after the edges");
    world.renew_all("new");
    world.run(Duration::from_mins(6));
    assert_eq!(
        world.steps,
        [
            Step::Make,
            Step::Enter(Phase::Trust),
            Step::Enter(Phase::Sign),
            Step::Call,
            Step::Clear(true),
            Step::Enter(Phase::Retire),
            Step::Finish
        ]
    );
    assert_eq!(world.now, BEGIN.after(OLD), "connections of before last as long as their certificates");
}

#[test]
fn each_member_holds_up_the_phase_in_which_it_lacks_something() {
    type Spoil = fn(&mut Member);
    let spoilers: [(Kind, Phase, Spoil); 6] = [
        (Kind::Edge, Phase::Trust, |member| member.told = Some(false)),
        (Kind::Control, Phase::Trust, |member| member.told = Some(false)),
        (Kind::Control, Phase::Sign, |member| member.leaf = Some(leaf("old"))),
        (Kind::Bundles, Phase::Sign, |member| member.leaf = Some(leaf("old"))),
        (Kind::Warpgate, Phase::Sign, |member| member.leaf = Some(leaf("old"))),
        (Kind::Warpgate, Phase::Sign, |member| member.stale = 2),
    ];
    for (kind, phase, spoil) in spoilers {
        let mut world = World::new(What::Root, false, MAX_WAIT);
        world.renew_all("new");
        spoil(world.members.iter_mut().find(|member| member.kind == kind).unwrap());
        world.run(Duration::from_hours(1));
        assert_eq!(world.rotation().phase, phase, "{kind:?}");
        let lacking = world.members.iter().filter(|member| world.rotation().lacks(member).is_some());
        assert_eq!(lacking.map(|member| member.kind).collect::<Vec<_>>(), [kind]);
    }
}

#[test]
fn a_follower_that_never_comes_is_waited_for_as_long_as_was_said() {
    let mut world = World::new(What::Issuing, false, Duration::from_hours(2));
    world.members[2].told = Some(false);
    world.members[2].here = false;
    world.run(Duration::from_mins(119));
    assert_eq!(world.rotation().phase, Phase::Trust);
    world.run(Duration::from_mins(3));
    assert_eq!(world.rotation().phase, Phase::Sign);
}

#[test]
fn in_a_hurry_only_who_is_here_is_waited_for() {
    let mut world = World::new(What::Issuing, true, MAX_WAIT_HURRY);
    world.members[2].told = Some(false);
    world.members[2].here = false;
    world.members[3].here = false;
    world.run(Duration::from_secs(2));
    assert_eq!(world.rotation().phase, Phase::Sign);
    for at in [0, 1] {
        world.members[at].leaf = Some(leaf("new"));
    }
    world.run(Duration::from_secs(10));
    assert!(world.rotation.is_none(), "the warpgate and the edge that are away enrol anew");
}

#[test]
fn an_edge_that_is_away_is_not_waited_for_once_its_certificate_has_ended() {
    let mut world = World::new(What::Issuing, false, MAX_WAIT);
    world.members[2] = Member { here: false, told: Some(false), leaf: None, ..member(Kind::Edge, "edge") };
    world.run(Duration::from_secs(5));
    assert_eq!(world.rotation().phase, Phase::Sign);
}

#[test]
fn somebody_who_comes_back_while_connections_settle_is_waited_for_again() {
    let mut world = World::new(What::Issuing, false, MAX_WAIT);
    world.renew_all("new");
    world.run(Duration::from_secs(20));
    assert!(world.rotation().clear_ms.is_some());
    world.members.push(member(Kind::Warpgate, "late"));
    world.run(Duration::from_mins(10));
    assert_eq!(world.rotation().phase, Phase::Sign);
    assert_eq!(world.rotation().clear_ms, None);
    world.renew_all("new");
    world.old_until = world.now.after(OLD);
    world.run(Duration::from_mins(4));
    assert!(world.rotation().clear_ms.is_some(), "settling again");
    world.run(Duration::from_mins(2));
    assert!(world.rotation.is_none());
}

#[test]
fn a_clock_that_jumps_neither_ends_the_waiting_nor_makes_it_endless() {
    // Ahead by a year, in the middle of waiting.
    let mut world = World::new(What::Issuing, false, Duration::from_hours(1));
    world.members[2].told = Some(false);
    world.run(Duration::from_mins(10));
    world.pass(Duration::from_hours(365 * 24));
    world.run(Duration::from_mins(10));
    assert_eq!(world.rotation().phase, Phase::Trust, "a year was not waited");
    world.run(Duration::from_mins(41));
    assert_eq!(world.rotation().phase, Phase::Sign, "and what was counted before still counts");

    // Back by a year.
    let mut world = World::new(What::Issuing, false, Duration::from_hours(1));
    world.members[2].told = Some(false);
    world.run(Duration::from_mins(10));
    world.rotation.as_mut().unwrap().to.as_mut().unwrap().made_at =
        BEGIN.before(Duration::from_hours(2 * 365 * 24));
    world.now = world.now.before(Duration::from_hours(365 * 24));
    world.run(Duration::from_mins(51));
    assert_eq!(world.rotation().phase, Phase::Sign);
}

#[test]
fn a_night_without_control_is_not_waiting() {
    let mut world = World::new(What::Issuing, false, Duration::from_hours(1));
    world.members[2].told = Some(false);
    world.run(Duration::from_mins(1));
    world.pass(Duration::from_hours(12));
    world.run(Duration::from_mins(50));
    assert_eq!(world.rotation().phase, Phase::Trust, "the edge had no chance to come at night");
}

#[test]
fn a_ca_made_under_a_clock_that_ran_ahead_does_not_sign_until_it_is_valid() {
    let mut world = World::new(What::Issuing, false, Duration::from_mins(1));
    world.look();
    world.rotation.as_mut().unwrap().to.as_mut().unwrap().made_at = BEGIN.after(Duration::from_hours(3));
    world.run(Duration::from_mins(119));
    assert_eq!(world.rotation().phase, Phase::Trust);
    world.run(Duration::from_mins(2));
    assert_eq!(world.rotation().phase, Phase::Sign);
}

#[test]
fn taken_back_while_it_signs_it_waits_until_nobody_shows_the_new_ca() {
    let mut world = World::new(What::Root, false, MAX_WAIT);
    world.run(Duration::from_secs(5));
    world.renew_nodes("new");
    world.run(Duration::from_secs(5));
    world.renew_all("new");
    let rotation = world.rotation.as_mut().unwrap();
    assert_eq!(rotation.phase, Phase::Sign);
    rotation.undo = true;
    rotation.enter(Phase::Sign, world.now);
    assert_eq!(rotation.leaving().unwrap().key_sha256, "new");
    world.run(Duration::from_hours(1));
    assert_eq!(world.rotation().phase, Phase::Sign, "everybody shows the new one still");
    world.renew_nodes("old");
    world.run(Duration::from_secs(5));
    world.renew_all("old");
    world.run(Duration::from_mins(5));
    assert!(world.rotation.is_none());
    assert_eq!(
        world.steps.iter().filter(|step| **step == Step::Call).count(),
        2,
        "warpgates were asked each way"
    );
}

#[test]
fn waiting_is_written_down_now_and_then_and_not_at_each_look() {
    let mut world = World::new(What::Issuing, false, MAX_WAIT);
    world.members[2].told = Some(false);
    let mut ticks = 0;
    for _ in 0..600 {
        ticks += usize::from(world.look() == Step::Tick);
        world.pass(Duration::from_secs(1));
    }
    assert!((55..=60).contains(&ticks), "{ticks} writes in ten minutes");
}

#[test]
fn the_schedule_replaces_an_issuing_ca_at_a_third_and_a_root_a_year_before_its_end() {
    let issuing = ca("a", 1);
    let far = BEGIN.after(Duration::from_hours(10 * 365 * 24));
    let days = |days: u64| BEGIN.after(Duration::from_hours(days * 24));
    let schedule = Schedule::of(&issuing, far, None);
    assert_eq!(schedule.due(BEGIN), None);
    assert_eq!(schedule.due(days(729)), None);
    assert_eq!(schedule.due(days(731)), Some(What::Issuing));
    assert_eq!(schedule.next(), (days(730), What::Issuing));
    let soon = Schedule::of(&issuing, days(400), None);
    assert_eq!(soon.due(days(34)), None);
    assert_eq!(soon.due(days(36)), Some(What::Root), "the root first: the issuing CA comes with it");
    assert_eq!(soon.next(), (days(35), What::Root));
}

#[test]
fn the_schedule_rests_for_a_week_after_a_rotation_was_taken_back_but_not_until_the_end() {
    let issuing = ca("a", 1);
    let far = BEGIN.after(Duration::from_hours(10 * 365 * 24));
    let days = |days: u64| BEGIN.after(Duration::from_hours(days * 24));
    let ended = |how: How, at: Timestamp| {
        let (what, by) = (What::Issuing, "schedule".to_owned());
        Ended { what, how, started_at: at, at, by, left_behind: 0 }
    };
    let last = ended(How::Aborted, days(740));
    let rests = Schedule::of(&issuing, far, Some(&last));
    assert_eq!((rests.due(days(741)), rests.due(days(746))), (None, None));
    assert_eq!((rests.due(days(747)), rests.next()), (Some(What::Issuing), (days(747), What::Issuing)));
    let early = ended(How::Aborted, days(10));
    assert_eq!(Schedule::of(&issuing, far, Some(&early)).next(), (days(730), What::Issuing));
    let done = ended(How::Done, days(740));
    assert_eq!(Schedule::of(&issuing, far, Some(&done)).due(days(741)), Some(What::Issuing));
    // Its end is near: at day 1095.
    let late = ended(How::Aborted, days(1066));
    assert_eq!(Schedule::of(&issuing, far, Some(&late)).due(days(1067)), Some(What::Issuing));
}

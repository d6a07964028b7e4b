//! What routing a request costs in allocations: one for a plain path, none to find its route, none to decide.
#![expect(unsafe_code, reason = "counting allocations takes an allocator, and that trait is unsafe")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shop;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use mezusphere_model::Timestamp;
use mezusphere_model::id::{RouteId, UserId};
use mezusphere_model::identity::{Assurance, Identity, Method, Subject};
use mezusphere_model::path::RequestPath;
use mezusphere_model::policy::{Circumstances, decide};
use mezusphere_model::route::{AuthMode, ClaimRule, PathMatch, Requirement, RouteDoc, Site, StepUp};
use mezusphere_model::slug::{Name, Slug};

use shop::publishing;

/// The system's allocator, counting per thread.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _gone = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `run` gives, and how often it allocated.
fn counted<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = COUNT.get();
    let given = black_box(run());
    (given, COUNT.get() - before)
}

fn site() -> Site {
    let patterns = ["/", "/api/*", "/api/v1/*", "/health", "~/files/[0-9]+", "/*"];
    let routes = (1..).zip(patterns).map(|(id, text)| {
        let path = PathMatch::parse(text).unwrap();
        RouteDoc::new(RouteId::from_bits(id), path, AuthMode::Required, Slug::parse("web").unwrap())
    });
    Site::build(publishing(routes.collect())).unwrap()
}

#[test]
fn a_plain_path_costs_one_allocation_and_its_route_none() {
    let site = site();
    for (text, id) in [("/", 1), ("/api/v1/orders", 3), ("/assets/app.3f2a.js", 6), ("/.well-known/x", 6)] {
        let (path, parsing) = counted(|| RequestPath::parse(text).unwrap());
        assert_eq!(parsing, 1, "{text}");
        let (found, finding) = counted(|| site.find(&path, "GET").unwrap().id.bits());
        assert_eq!((found, finding), (id, 0), "{text}");
    }
}

#[test]
fn to_let_somebody_in_costs_no_allocation_however_much_is_demanded() {
    let names = || vec![Name::parse("a").unwrap(), Name::parse("b").unwrap()];
    let path = PathMatch::parse("/*").unwrap();
    let route = RouteDoc::new(RouteId::from_bits(1), path, AuthMode::Required, Slug::parse("web").unwrap());
    let claims = vec![ClaimRule { name: "plan".to_owned(), any_of: vec!["pro".into(), 3.into()] }];
    let full = RouteDoc {
        require: Requirement {
            any_role: names(),
            all_roles: names(),
            any_permission: names(),
            all_permissions: names(),
            claims,
        },
        step_up: StepUp { acr: Some(Assurance::Aal2), max_auth_age_s: Some(900) },
        networks: vec!["10.0.0.0/8".parse().unwrap(), "192.0.2.0/24".parse().unwrap()],
        ..route
    };
    let caller = Identity {
        subject: Subject::User(UserId::from_bits(1)),
        session: None,
        email: String::new(),
        name: String::new(),
        roles: names(),
        permissions: names(),
        methods: vec![Method::Passkey],
        assurance: Assurance::Aal2,
        authenticated_at: Timestamp::from_seconds(0),
        claims: [("plan".to_owned(), 3.into())].into(),
    };
    let request = Circumstances { client: "192.0.2.7".parse().unwrap(), now: Timestamp::from_seconds(900) };
    let (permit, deciding) = counted(|| decide(&full, Some(&caller), &request).unwrap());
    assert!(permit.forwards_identity());
    assert_eq!(deciding, 0);
}

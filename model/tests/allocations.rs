//! What routing a request costs in allocations: one for a plain path, none to find its route.
#![expect(unsafe_code, reason = "counting allocations takes an allocator, and that trait is unsafe")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shop;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use mezusphere_model::id::RouteId;
use mezusphere_model::path::RequestPath;
use mezusphere_model::route::{AuthMode, PathMatch, RouteDoc, Site};
use mezusphere_model::slug::Slug;

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

//! R23: a decoder takes memory for what has come, never for what was promised. Measured, by counting what is allocated.
#![expect(unsafe_code, reason = "counting what is allocated takes an allocator, and that trait is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tunnel_proto::{connect, control, exchange};

/// The system's allocator, counting per thread, so that tests side by side do not see each other.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(by: isize) {
    // Threads that are ending have no counters any more, and no test.
    let _gone = LIVE.try_with(|live| {
        live.set(live.get() + by);
        let _gone = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

fn signed(size: usize) -> isize {
    isize::try_from(size).unwrap_or(isize::MAX)
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory, in octets, that was held at once while `run` ran, over what was held before.
fn peak(run: impl FnOnce()) -> isize {
    let before = LIVE.get();
    PEAK.set(before);
    run();
    PEAK.get() - before
}

fn drive_exchange(mut decoder: exchange::Decoder, bytes: &Bytes, size: usize) {
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        decoder.push(rest.split_to(size.clamp(1, rest.len())));
        while let Ok(Some(event)) = decoder.poll() {
            drop(event);
        }
    }
}

fn drive_control(mut decoder: control::Decoder, bytes: &Bytes, size: usize) {
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        decoder.push(rest.split_to(size.clamp(1, rest.len())));
        while let Ok(Some(message)) = decoder.poll() {
            drop(message);
        }
    }
}

#[test]
fn r23_a_promise_of_length_takes_no_memory() {
    let promises: [&[u8]; 6] = [
        &[0x01, 0x80, 0x01, 0x00, 0x00, 1], // a request head of 64 KiB
        &[0x02, 0x80, 0x01, 0x00, 0x00, 1], // a response head of 64 KiB
        &[0x05, 0x80, 0x01, 0x00, 0x00, 1], // trailers of 64 KiB
        &[0x3f, 0x80, 0x01, 0x00, 0x00, 1], // 64 KiB of an unknown frame
        &[0x08, 0x80, 0x10, 0x00, 0x00, 1], // a bundle of 1 MiB
        &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], // no end of an unknown message
    ];
    for promise in promises {
        let bytes = Bytes::from_static(promise);
        for size in [1, 100] {
            let peak = peak(|| {
                drive_exchange(exchange::Decoder::requests(), &bytes, size);
                drive_exchange(exchange::Decoder::responses(), &bytes, size);
                drive_control(control::Decoder::from_edge(), &bytes, size);
                drive_control(control::Decoder::from_warpgate(), &bytes, size);
            });
            assert!(peak < 2048, "{promise:?}: {peak} octets");
        }
    }
    let peak = peak(|| {
        let mut decoder = connect::Decoder::new();
        assert_eq!(decoder.push(&[0, 0x20, 0, 0, b'{']), Ok(false));
    });
    assert!(peak < 2048, "connect: {peak} octets");
}

#[test]
fn r23_a_promise_of_fields_takes_no_memory() {
    // Trailers of 4 octets that claim 128 fields, and of 300 that claim 128 and hold none that reads.
    let head = Bytes::from_static(&[0x02, 4, 0, 0, 200, 0]);
    for payload in [vec![0x40, 128, 0, 0], [&[0x40, 128], [0xff; 298].as_slice()].concat()] {
        let len = u16::try_from(payload.len()).unwrap() | 0x4000;
        let bytes: Bytes = [&head[..], &[0x05], &len.to_be_bytes(), &payload].concat().into();
        let peak = peak(|| drive_exchange(exchange::Decoder::responses(), &bytes, bytes.len()));
        assert!(peak < 32 * 1024, "{peak} octets");
    }
}

proptest! {
    #[test]
    fn r23_no_bytes_take_more_memory_than_a_small_multiple_of_theirs(
        kind in 0..0x10_u8,
        noise in vec(any::<u8>(), 0..3000),
        size in 1..3000_usize,
    ) {
        let bytes: Bytes = [&[kind], noise.as_slice()].concat().into();
        // A header map of 128 fields, its hashes and each field's own bookkeeping come to less than 64 KiB.
        let bound = signed(64 * 1024 + 16 * bytes.len());
        let taken = peak(|| drive_exchange(exchange::Decoder::requests(), &bytes, size));
        prop_assert!(taken <= bound, "{taken} octets for {}", bytes.len());
        let taken = peak(|| drive_exchange(exchange::Decoder::responses(), &bytes, size));
        prop_assert!(taken <= bound, "{taken} octets for {}", bytes.len());
        let taken = peak(|| drive_control(control::Decoder::from_edge(), &bytes, size));
        prop_assert!(taken <= bound, "{taken} octets for {}", bytes.len());
    }
}

//! What is read from a replica's disk: no bytes panic, and whatever passes the check sum reads back as it was written.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((at, rest)) = data.split_first() else { return };
    let (key, value) = rest.split_at(usize::from(*at).min(rest.len()));
    mezusphere_store::replica::check_record(key, value);
});

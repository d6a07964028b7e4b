//! Request paths: no text panics, readings are sane and settled, and a route on one of them is found or ambiguous.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mezusphere_model::path::{READINGS_MAX, RequestPath};
use mezusphere_model::route::PathMatch;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _pattern = PathMatch::parse(text);
    let Ok(path) = RequestPath::parse(text) else { return };
    let readings: Vec<&str> = path.readings().iter().map(|reading| reading.as_str()).collect();
    assert!((1..=READINGS_MAX).contains(&readings.len()));
    for (at, reading) in readings.iter().enumerate() {
        assert!(reading.starts_with('/') && reading.len() <= text.len());
        assert!(!reading.contains(char::is_control));
        assert!(!readings.get(..at).is_some_and(|before| before.contains(reading)), "no reading twice");
    }
    // What the most thorough upstream makes of it is among them.
    let mut settled = readings.first().map(|first| (*first).to_owned()).unwrap_or_default();
    loop {
        let before = settled.clone();
        settled = settled.replace("%2F", "/").replace('\\', "/");
        settled = settled
            .split('/')
            .map(|segment| segment.split(';').next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("/");
        while settled.contains("//") {
            settled = settled.replace("//", "/");
        }
        if settled == before {
            break;
        }
    }
    assert!(readings.contains(&settled.as_str()), "{settled:?} in {readings:?}");
});

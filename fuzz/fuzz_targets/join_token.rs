//! Join tokens: no text panics, and whatever is read writes and reads back the same.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use mezusphere_model::join_token::JoinToken;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        check(text);
    }
    // Past the check sum, which chance does not pass.
    let mut body = data.to_vec();
    body.extend(crc32fast::hash(data).to_be_bytes());
    check(&format!("mzj_{}", URL_SAFE_NO_PAD.encode(body)));
});

fn check(text: &str) {
    if let Ok(token) = text.parse::<JoinToken>() {
        assert!(!token.controls.is_empty() && token.controls.iter().all(|at| !at.host.is_empty()));
        assert_eq!(token.reveal().parse().as_ref(), Ok(&token));
    }
}

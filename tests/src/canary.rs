//! Secrets to be looked for where they must not be: in files, logs, documents and pages.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Something that must be nowhere, and what to call it if it is found.
#[derive(Clone, Debug)]
pub struct Canary {
    what: String,
    octets: Vec<u8>,
}

impl Canary {
    /// A secret that is text as it is.
    pub fn text(what: &str, text: &str) -> Self {
        Self { what: what.to_owned(), octets: text.as_bytes().to_vec() }
    }

    /// The secret as octets and in the texts it could hide in.
    pub fn octets(what: &str, octets: &[u8]) -> Vec<Self> {
        let hex = octets.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let forms = [
            octets.to_vec(),
            STANDARD.encode(octets).into(),
            URL_SAFE_NO_PAD.encode(octets).into(),
            hex.into(),
        ];
        forms.map(|octets| Self { what: what.to_owned(), octets }).into()
    }
}

/// Fails if any of the canaries is in these octets, which are called `place`.
pub fn find(canaries: &[Canary], place: &str, octets: &[u8]) -> anyhow::Result<()> {
    for one in canaries {
        anyhow::ensure!(!one.octets.is_empty(), "{} is empty: it would be found everywhere", one.what);
        let found = octets.windows(one.octets.len()).any(|window| window == one.octets);
        anyhow::ensure!(!found, "{} is in {place}", one.what);
    }
    Ok(())
}

/// Every file under a directory: its path, and what it holds.
pub fn files(dir: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.is_file() {
            found.push((path.display().to_string(), std::fs::read(&path)?));
        }
    }
    Ok(found)
}

//! SHA-256, and octets as people and settings read them.

pub(crate) use mezusphere_model::hex;

/// SHA-256 of some octets.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}

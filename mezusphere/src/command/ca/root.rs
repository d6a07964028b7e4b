//! `mezusphere ca root`: what is done where a root's key is, away from the server. Only `take` asks the server; the others
//! read and write files, and work on a machine without a network.
//!
//! A root's key is written in the clear, to a file for its owner alone: it is for a medium that is locked away.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mezusphere_pki::ceremony::{certificate_to_pem, request_from_pem};
use mezusphere_pki::trust::{certificates_from_pem, root_fingerprint};
use mezusphere_pki::{Root, TrustDomain};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{pem, write_file};
use crate::command::Context;
use crate::failure::{Failure, Kind};
use crate::output::SecretFile;

/// A root whose key is kept elsewhere.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take the root's key off the server into a file; the server then signs with it no more
    Take {
        /// Write the root's certificate and key to this new file (0600).
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make a new root; asks no server
    New {
        /// The installation's trust domain, as `mezusphere ca status` shows it.
        #[arg(long, value_name = "DOMAIN")]
        trust_domain: String,
        /// Write its certificate and key to this new file (0600).
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Write its certificate, which is no secret, to this file.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
    },
    /// Sign the request of `mezusphere ca request`; asks no server
    Sign {
        /// The file of `ca root take` or `ca root new`.
        #[arg(long, value_name = "FILE")]
        root_key: PathBuf,
        /// The request.
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// Write the issuing CA's certificate to this file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Sign the root that replaces this one, so that old connection keys lead to it; asks no server
    Cross {
        /// The old root: the file of `ca root take` or `ca root new`.
        #[arg(long, value_name = "FILE")]
        root_key: PathBuf,
        /// The new root's certificate.
        #[arg(long, value_name = "FILE")]
        new: PathBuf,
        /// Write the cross certificate to this file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

impl Command {
    /// Runs it.
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let (output, now) = (&context.output, crate::node::base::clock().now());
        match self {
            Self::Take { out } => {
                let file = SecretFile::create(&out)?;
                let key = context.client.post("/ca/root-key", &json!({})).await?;
                let secret = key.get("secret_pem").and_then(Value::as_str).unwrap_or_default();
                let sha256 = key.get("sha256").and_then(Value::as_str).unwrap_or_default();
                let at = file.keep(secret.trim_end())?;
                // Read back before the server forgets it: from then on this file is the only one.
                let kept = root(Path::new(&at))?;
                if mezusphere_model::hex(&kept.fingerprint()) != sha256 {
                    return Err(Failure::new(Kind::Files, format!("{at} does not hold what was written"))
                        .next("try again on another medium; the server has the key still"));
                }
                context.client.delete(&format!("/ca/root-key/{sha256}")).await?;
                output.json(&json!({ "out": at, "sha256": sha256 }))?;
                output.say(&format!(
                    "The root's key is in {at}, and nowhere else any more. Keep two copies of the file, away from this server.\n  \
                     next: from now on replace the issuing CA with mezusphere ca request, ca root sign and ca install;\n        \
                     mezusphere ca status says from when"
                ))?;
            }
            Self::New { trust_domain, out, certificate } => {
                let domain = TrustDomain::parse(&trust_domain).map_err(|why| {
                    Failure::new(Kind::Usage, format!("{trust_domain}: {why}"))
                        .next("give the trust domain that mezusphere ca status shows")
                })?;
                let file = SecretFile::create(&out)?;
                let made = Root::create(&domain, now, &context.entropy).map_err(|why| unexpected(&why))?;
                write_file(&certificate, &made.certificate_pem())?;
                let at = file.keep(made.secret_pem().trim_end())?;
                let sha256 = mezusphere_model::hex(&made.fingerprint());
                output.json(&json!({ "out": at, "sha256": sha256 }))?;
                output.say(&format!(
                    "Made a root for {domain}, good until {}. Its key is in {at}: lock it away.\n  \
                     next: to begin an installation under it: mezusphere serve --ca-root {certificate}\n        \
                     to replace a root, sign it with the old one: mezusphere ca root cross --root-key OLD --new {certificate} --out cross.pem",
                    made.not_after(),
                    certificate = certificate.display()
                ))?;
            }
            Self::Sign { root_key, request, out } => {
                let by = root(&root_key)?;
                let refused = |why: String| {
                    Failure::new(Kind::Invalid, format!("{} cannot be signed: {why}", request.display()))
                        .next("give the file of mezusphere ca request, as it is")
                };
                let csr = request_from_pem(&pem(&request)?).map_err(|why| refused(why.to_string()))?;
                let signed =
                    by.sign_request(&csr, now, &context.entropy).map_err(|why| refused(why.to_string()))?;
                write_file(&out, &certificate_to_pem(&signed))?;
                output.json(&json!({ "out": out.display().to_string() }))?;
                output.say(&format!(
                    "Signed. The certificate is in {at}; it is no secret.\n  \
                     next: on the server: mezusphere ca install {at}; for its first start: mezusphere serve --ca-root ROOT --ca-issuing {at}",
                    at = out.display()
                ))?;
            }
            Self::Cross { root_key, new, out } => {
                let old = root(&root_key)?;
                let refused = |why: String| {
                    Failure::new(Kind::Invalid, format!("{} cannot be signed: {why}", new.display()))
                        .next("give the certificate file of mezusphere ca root new")
                };
                let shown = certificates_from_pem(&pem(&new)?).map_err(|why| refused(why.to_string()))?;
                let [shown] = shown.as_slice() else {
                    return Err(refused(format!("it holds {} certificates", shown.len())));
                };
                let cross =
                    old.cross_sign(shown, now, &context.entropy).map_err(|why| refused(why.to_string()))?;
                write_file(&out, &certificate_to_pem(&cross))?;
                let sha256 = mezusphere_model::hex(&root_fingerprint(shown));
                output.json(&json!({ "out": out.display().to_string(), "root": sha256 }))?;
                output.say(&format!(
                    "Signed. The cross certificate is in {cross}; it is no secret.\n  \
                     next: sign the server's request with the new root (mezusphere ca root sign), then on the server:\n        \
                     mezusphere ca install issuing.pem --root {root} --cross {cross}",
                    cross = out.display(),
                    root = new.display()
                ))?;
            }
        }
        Ok(())
    }
}

/// The root in a file.
fn root(path: &Path) -> Result<Root, Failure> {
    let text = Zeroizing::new(pem(path)?);
    Root::from_secret_pem(text.as_bytes()).map_err(|why| {
        Failure::new(Kind::Invalid, format!("{} holds no root with its key: {why}", path.display()))
            .next("give the file of mezusphere ca root take or ca root new")
    })
}

fn unexpected(why: &dyn std::fmt::Display) -> Failure {
    Failure::new(Kind::Unexpected, why)
}

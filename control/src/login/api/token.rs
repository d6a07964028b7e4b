//! The token that says who is signed in at this API: `mza_<payload>.<mac>`, in `authorization`, never in a cookie.
//!
//! It is not stored anywhere, not even as a hash: it is what it names, a sign-in, and an end not far away, under the key that
//! forms are authenticated with. It is good only while the sign-in is, and ends with the sign-in's own token: at sign-out, at a change of password,
//! at each rise of assurance (R11). It is no session of any application, and no cookie of the pages'.

use std::time::Duration;

use aws_lc_rs::digest;
use axum::extract::FromRequestParts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use http::header;
use http::request::Parts;
use mezusphere_identity::sign_in::{SignedIn, is_good};
use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, SignInId};
use mezusphere_model::token::Token;
use mezusphere_store::primary::sign_in::{self, SignInRow};
use mezusphere_store::primary::{ReadTx, user};
use serde::{Deserialize, Serialize};

use super::super::Login;
use super::super::form::{FormKey, Purpose};
use super::problem::{self, Told};

/// How long one is good without being renewed: a page that is open renews it, a stolen copy is worth little the next day.
pub(super) const TOKEN_TTL: Duration = Duration::from_mins(15);

/// What it begins with, so that scanners for lost secrets know it.
const PREFIX: &str = "mza_";

/// Longest one, in characters.
const LEN_MAX: usize = 1024;

#[derive(Serialize, Deserialize)]
struct Payload {
    sign_in: SignInId,
    directory: DirectoryId,
    /// Of the sign-in's own token.
    mark: String,
}

/// Forms are bound to a browser by its cookie; here there is none.
fn nobody() -> Token {
    Token::from_bytes([0; 32])
}

/// Makes the token of a sign-in, and says when it ends.
pub(super) fn seal(key: &FormKey, row: &SignInRow, now: Timestamp) -> (String, Timestamp) {
    let ends_at = now.after(TOKEN_TTL).min(row.expires_at);
    let payload = Payload { sign_in: row.id, directory: row.directory, mark: mark(row) };
    (format!("{PREFIX}{}", key.write(Purpose::ApiToken, &nobody(), ends_at, &payload)), ends_at)
}

/// A fingerprint of the sign-in's own token, from what is stored of it.
fn mark(row: &SignInRow) -> String {
    let hash = digest::digest(&digest::SHA256, row.token_hash.as_bytes());
    BASE64URL.encode(hash.as_ref().get(..16).unwrap_or_default())
}

/// Seals a flow for its client to keep.
pub(super) fn seal_flow<T: Serialize>(key: &FormKey, ends_at: Timestamp, flow: &T) -> String {
    key.write(Purpose::ApiFlow, &nobody(), ends_at, flow)
}

/// Opens what [`seal_flow`] made.
pub(super) fn open_flow<T: serde::de::DeserializeOwned>(
    key: &FormKey,
    text: &str,
    now: Timestamp,
) -> Result<T, Told> {
    let opened = key.read(Purpose::ApiFlow, &nobody(), text).map_err(|_| problem::BAD_REQUEST.told())?;
    if opened.ends_at <= now { Err(problem::EXPIRED.told()) } else { Ok(opened.about) }
}

/// A token as it came.
pub(super) struct Bearer(Option<String>);

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = Told;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Told> {
        let mut fields = parts.headers.get_all(header::AUTHORIZATION).iter();
        let text = match (fields.next(), fields.next()) {
            (Some(one), None) => one.to_str().ok(),
            _ => None,
        };
        let token = text.and_then(|text| text.split_once(' ')).and_then(|(scheme, token)| {
            let token = token.trim().strip_prefix(PREFIX)?;
            let is_ours = scheme.eq_ignore_ascii_case("bearer") && token.len() <= LEN_MAX;
            is_ours.then(|| token.to_owned())
        });
        Ok(Self(token))
    }
}

impl Login {
    /// Who holds the token, if it and its sign-in are good now.
    pub(super) async fn bearer(&self, tx: &mut ReadTx, bearer: &Bearer) -> Result<SignedIn, Told> {
        let text = bearer.0.as_deref().ok_or_else(|| problem::TOKEN.told())?;
        let opened = self.form_key.read::<Payload>(Purpose::ApiToken, &nobody(), text);
        let opened = opened.map_err(|_| problem::TOKEN.told())?;
        let now = tx.now();
        let Payload { sign_in, directory, mark: held } = opened.about;
        if opened.ends_at <= now {
            return Err(problem::TOKEN.told());
        }
        let over = || problem::SESSION_OVER.told();
        let sign_in = sign_in::get(tx, directory, sign_in).await?.ok_or_else(over)?;
        let user = user::get(tx, directory, sign_in.user).await?.ok_or_else(over)?;
        let good = is_good(&sign_in, &user, now) && mark(&sign_in) == held;
        if good { Ok(SignedIn { sign_in, user }) } else { Err(over()) }
    }
}

//! The account page: who this browser is signed in as, until when, and where.

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use mezusphere_identity::sign_in as lifecycle;
use mezusphere_identity::sign_in::SignedIn;
use mezusphere_model::token::Token;
use mezusphere_store::StoreError;
use mezusphere_store::primary::ReadTx;
use mezusphere_store::primary::session::SessionRow;

use super::answer::{self, Failure};
use super::{Login, State, cookie, tenant};
use crate::page::{Account, App, Chrome, Moment, SignInCard};

/// `GET /`.
pub(super) async fn root() -> Response {
    answer::see_other("/account")
}

/// `GET /account`.
pub(super) async fn show(login: State, headers: HeaderMap) -> Result<Response, Failure> {
    let held = cookie::sign_ins(&headers);
    let (browser, set) = cookie::form_or_new(&headers, &login.entropy);
    let cards = login.primary.read(async |tx| {
        let mut cards = Vec::new();
        for token in &held {
            if let Some(found) = lifecycle::resolve(tx, token).await? {
                cards.push(login.card(tx, found, &browser).await?);
            }
        }
        Ok::<_, StoreError>(cards)
    });
    let sign_ins = cards.await?;
    if sign_ins.is_empty() {
        return Ok(answer::see_other("/sign-in"));
    }
    let page = Account { chrome: Chrome::english(), sign_ins };
    Ok(answer::with_cookie(answer::page(StatusCode::OK, &page, None), set))
}

impl Login {
    async fn card(
        &self,
        tx: &mut ReadTx,
        found: SignedIn,
        browser: &Token,
    ) -> Result<SignInCard, StoreError> {
        let SignedIn { sign_in, user } = found;
        let directory = tenant::directory(tx, sign_in.directory).await?;
        let (whose, sessions) = match &directory {
            Some(directory) => {
                (tenant::name(tx, directory).await?, tenant::sessions(tx, directory, &sign_in).await?)
            }
            None => (String::new(), Vec::new()),
        };
        let now = tx.now();
        let good = |row: &SessionRow| row.doc.check(row.doc.project, &row.doc.host, now, None).is_ok();
        let app = |row: SessionRow| App {
            origin: self.platform.origin(&row.doc.host),
            host: row.doc.host.to_string(),
            until: Moment(row.doc.expires_at),
        };
        Ok(SignInCard {
            name: user.name,
            email: user.email,
            directory: whose,
            since: Moment(sign_in.authenticated_at),
            until: Moment(sign_in.expires_at),
            apps: sessions.into_iter().filter(good).map(app).collect(),
            form: self.sign_out_form(browser, Some(sign_in.id)),
        })
    }
}

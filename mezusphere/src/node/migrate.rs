//! `mezusphere store migrate`, on the server's side: copies the state of this node into PostgreSQL while it serves.
//!
//! Answered on the admin socket alone: it takes a database's password, and whoever may open the socket may read
//! the data directory anyway.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use mezusphere_store::Primary;
use mezusphere_store::primary::{PostgresConfig, TransferError};
use serde::Deserialize;
use serde_json::json;
use tracing::info;

use super::base::Base;

/// What is asked.
#[derive(Debug, Deserialize)]
struct Migrate {
    to: String,
}

/// The admin API with this verb added.
pub(crate) fn with_local_admin(api: Router, primary: Primary, _: &Base) -> Router {
    api.merge(Router::new().route("/api/v1/store/migrate", post(migrate)).with_state(primary))
}

async fn migrate(State(primary): State<Primary>, Json(asked): Json<Migrate>) -> Response {
    let config = match PostgresConfig::parse(&asked.to) {
        Ok(config) => config,
        Err(why) => {
            let next = "write it as postgres://user:password@host/database";
            return problem(StatusCode::UNPROCESSABLE_ENTITY, "control.value", &why.to_string(), next);
        }
    };
    info!(to = config.place(), "The state is being copied");
    match primary.transfer_to(config, |step| info!(%step, "Copying")).await {
        Ok(report) => {
            info!(rows = report.rows, tables = report.tables, "The state has moved; start again with --store");
            Json(json!({ "rows": report.rows, "tables": report.tables })).into_response()
        }
        Err(why) => {
            let (status, next) = advice(&why);
            problem(status, "control.store_migrate", &why.to_string(), next)
        }
    }
}

fn advice(_: &TransferError) -> (StatusCode, &'static str) {
    (StatusCode::CONFLICT, "nothing was changed here; put right what it says, and try again with an empty database")
}

/// `application/problem+json` (RFC 9457), as the rest of the admin API answers.
fn problem(status: StatusCode, code: &str, detail: &str, next: &str) -> Response {
    let body = json!({ "code": code, "title": "The state was not moved", "detail": detail, "next": next });
    (status, [("content-type", "application/problem+json")], body.to_string()).into_response()
}

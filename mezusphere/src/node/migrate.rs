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
use mezusphere_store::primary::{PostgresConfig, TransferError, TransferStep};
use serde::Deserialize;
use serde_json::json;
use tracing::info;

/// What is asked.
#[derive(Debug, Deserialize)]
struct Migrate {
    to: String,
}

/// The admin API with this verb added.
pub(crate) fn with_local_admin(api: Router, primary: Primary) -> Router {
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
    let mut tell = |step: TransferStep<'_>| info!(?step, "Moving the state");
    match primary.transfer_to(&config, &mut tell).await {
        Ok(report) => {
            let rows: u64 = report.tables.iter().map(|(_, rows)| rows).sum();
            info!(rows, to = report.to, "The state has moved; start again with --store");
            let tables = report.tables.len();
            let moved = json!({
                "to": report.to,
                "rows": rows,
                "tables": tables,
                "audit_chains": report.audit_chains,
                "partitions": report.partitions,
            });
            Json(moved).into_response()
        }
        Err(why) => {
            let (status, next) = advice(&why);
            problem(status, "control.store_migrate", &why.to_string(), next)
        }
    }
}

fn advice(why: &TransferError) -> (StatusCode, &'static str) {
    match why {
        TransferError::NotSqlite => (StatusCode::CONFLICT, "nothing is to be done"),
        TransferError::Moved => (StatusCode::CONFLICT, "start the server again with --store"),
        TransferError::Target(_) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "check the URL, and that the database is there; nothing was changed",
        ),
        TransferError::NotEmpty { .. } => {
            (StatusCode::CONFLICT, "give an empty database of its own; nothing was changed")
        }
        TransferError::TargetBusy(_) => {
            (StatusCode::CONFLICT, "end that node, and try again; nothing was changed")
        }
        TransferError::Source(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "try again when less is being written; nothing was changed")
        }
        TransferError::Failed(_) | TransferError::Differs(_) => (
            StatusCode::BAD_GATEWAY,
            "look at the log; nothing is left in the new database, and the old one goes on",
        ),
        TransferError::OutcomeUnknown(_) => (
            StatusCode::BAD_GATEWAY,
            "the old database goes on; look into the new one, and empty it before another try",
        ),
        TransferError::NotMarked(_) => {
            (StatusCode::BAD_GATEWAY, "stop this server and start it with --store; never again without")
        }
    }
}

/// `application/problem+json` (RFC 9457), as the rest of the admin API answers.
fn problem(status: StatusCode, code: &str, detail: &str, next: &str) -> Response {
    let body = json!({ "code": code, "title": "The state was not moved", "detail": detail, "next": next });
    (status, [("content-type", "application/problem+json")], body.to_string()).into_response()
}

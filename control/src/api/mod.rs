//! The admin API: JSON over the use cases, for the admin CLI (unix socket), scripts (API key) and, later, the Console.
//!
//! Every endpoint stands in one table (`endpoints`) from which the router is built, so that nothing is served that
//! the authorization test does not know. Handlers read, call one use case, and write; they decide nothing.

mod authenticate;
mod body;
pub(crate) mod endpoints;
mod handlers;
pub mod types;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Redirect, Response};

use crate::Shared;
use crate::platform::secure;
use crate::problem::{self, Refusal};
use crate::use_case::installation::account_page;

/// Where every endpoint's path begins.
pub const PREFIX: &str = "/api/v1";

/// Which way a request comes in, and so who its caller can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// The console host: an API key says who it is.
    Console,
    /// The unix socket of the server's own account: the local operator.
    Local,
}

/// The API behind a door.
pub(crate) fn router(shared: &Arc<Shared>, door: Door) -> Router {
    let keeper = authenticate::Keeper { shared: Arc::clone(shared), door };
    let endpoints = endpoints::router()
        .layer(middleware::from_fn_with_state(keeper, authenticate::authenticate))
        .with_state(Arc::clone(shared));
    let home = Arc::clone(shared);
    Router::new()
        .route(
            "/",
            axum::routing::get(
                move || async move { account_page(&home).map(|page| Redirect::temporary(&page)) },
            ),
        )
        .nest(PREFIX, endpoints)
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(with_headers))
}

async fn nothing_here() -> Refusal {
    Refusal::new(&problem::NOT_FOUND, "there is no such resource")
        .with_next(format!("the API's resources begin with {PREFIX}/"))
}

async fn wrong_method() -> Refusal {
    Refusal::new(&problem::REQUEST_METHOD, "this resource does not have this method")
}

async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await.into_response();
    secure(response.headers_mut());
    response
}

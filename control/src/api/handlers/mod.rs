//! What each endpoint does: read the request, call its use case, write the answer.

mod ca;
mod certificates;
mod installation;
mod keys;
mod machines;
mod mail;
mod nodes;
mod people;
mod publishing;

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use http::StatusCode;

use super::body::Answer;
use crate::Shared;
use crate::caller::Caller;
use crate::problem::Refusal;

pub(super) use ca::*;
pub(super) use certificates::*;
pub(super) use installation::*;
pub(super) use keys::*;
pub(super) use machines::*;
pub(super) use mail::*;
pub(super) use nodes::*;
pub(super) use people::*;
pub(super) use publishing::*;

type Control = State<Arc<Shared>>;
type Asking = Extension<Caller>;
type One = Path<String>;
type Two = Path<(String, String)>;
type Three = Path<(String, String, String)>;
type Done<T> = Result<Answer<T>, Refusal>;
/// Something was removed: there is nothing to show.
type Gone = Result<StatusCode, Refusal>;

const GONE: StatusCode = StatusCode::NO_CONTENT;

fn ok<T>(value: T) -> Answer<T> {
    Answer(StatusCode::OK, value)
}

fn created<T>(value: T) -> Answer<T> {
    Answer(StatusCode::CREATED, value)
}

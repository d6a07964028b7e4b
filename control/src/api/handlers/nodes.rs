//! Edges, their invitations, and control nodes.

use axum::Extension;
use axum::extract::{Path, State};

use super::{Asking, Control, Done, GONE, Gone, One, created, ok};
use crate::api::body::Body;
use crate::api::types as t;
use crate::use_case::{Paging, control_node, edge};

pub(in crate::api) async fn list_edges(State(s): Control, Extension(c): Asking) -> Done<t::Page<t::Edge>> {
    edge::list(&s, &c).await.map(ok)
}

pub(in crate::api) async fn show_edge(
    State(s): Control,
    Extension(c): Asking,
    Path(name): One,
) -> Done<t::Edge> {
    edge::show(&s, &c, &name).await.map(ok)
}

pub(in crate::api) async fn evict_edge(State(s): Control, Extension(c): Asking, Path(name): One) -> Gone {
    edge::evict(&s, &c, &name).await.map(|()| GONE)
}

pub(in crate::api) async fn list_invitations(
    State(s): Control,
    Extension(c): Asking,
    paging: Paging,
) -> Done<t::Page<t::EdgeInvitation>> {
    edge::invitations(&s, &c, paging).await.map(ok)
}

pub(in crate::api) async fn invite_edge(
    State(s): Control,
    Extension(c): Asking,
    Body(request): Body<t::InviteEdge>,
) -> Done<t::InvitedEdge> {
    edge::invite(&s, &c, request).await.map(created)
}

pub(in crate::api) async fn uninvite_edge(State(s): Control, Extension(c): Asking, Path(name): One) -> Gone {
    edge::uninvite(&s, &c, &name).await.map(|()| GONE)
}

pub(in crate::api) async fn list_controls(
    State(s): Control,
    Extension(c): Asking,
) -> Done<t::Page<t::ControlNode>> {
    control_node::list(&s, &c).await.map(ok)
}

//! What would become of a request, from its address alone: whose host it is, which route takes it, what the policy says of who
//! sends it, what they lack, and what would change it.
//!
//! Decides nothing by itself: the route is found by the model's own [`Site`], the answer is [`policy::decide`]'s. What happens to
//! a request that is let in, [`route::explain`] tells.

mod remedy;

use std::net::{IpAddr, Ipv4Addr};

use http::Uri;
use mezusphere_model::document::{PrincipalDoc, Status};
use mezusphere_model::id::ProjectId;
use mezusphere_model::identity::{Assurance, Identity, Method, Subject};
use mezusphere_model::path::RequestPath;
use mezusphere_model::policy::{self, Circumstances, Denial};
use mezusphere_model::route::{NoRoute, RouteDoc, Site};
use mezusphere_model::rules::EdgeAnswer;
use mezusphere_model::{Host, Timestamp};
use mezusphere_store::StoreError;
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::{PageRequest, ReadTx, environment, host, principal, role, session, site};

use super::{route, scope};
use crate::Shared;
use crate::api::types::{
    ExplainRequest, ExplainUrl, ExplainedCaller, ExplainedPlace, ExplainedUrl, ExplainedVerdict,
};
use crate::caller::{Caller, Permission};
use crate::problem::{self, Refusal};

/// Longest address, in octets: a target and a host.
const URL_LEN_MAX: usize = 9 * 1024;

/// What the edge answers itself, on every host.
const OWN: &str = "/.mezu";

/// Tells what would become of a request.
pub(crate) async fn explain(
    shared: &Shared,
    caller: &Caller,
    request: &ExplainUrl,
) -> Result<ExplainedUrl, Refusal> {
    let mut grant = caller.allow(Permission::RoutesRead)?;
    if request.user.is_some() {
        // What a user may do tells what they hold.
        grant = caller.allow(Permission::UsersRead)?;
    }
    let asked = Asked::read(request, shared.clock.now())?;
    if shared.config.platform.which(&asked.host).is_some() {
        let why = "this is a host of the platform itself; no route decides there";
        return Ok(asked.told(None, None, Verdict::ended(why)));
    }
    let found = shared.primary.read(async |tx| {
        let Some(row) = host::find(tx, &asked.host).await? else { return Ok(None) };
        // Out of reach, the host is as unknown as one that is nobody's (R22).
        let project = match scope::people(tx, &grant, &row.project.to_string()).await {
            Ok(project) => project,
            Err(why) if *why.code() == problem::NOT_FOUND => return Ok(None),
            Err(why) => return Err(why),
        };
        let Some(environment) = environment::get(tx, row.project, row.environment).await? else {
            return Ok(None);
        };
        let sender = match &request.user {
            None => None,
            Some(name) => Some(sender(tx, &project, name, &asked).await?),
        };
        let doc = site::load(tx, project.id, environment.id).await?;
        let doc = doc.ok_or_else(|| scope::not_found("environment", ""))?;
        let roles = role::list(tx, project.id).await?;
        Ok::<_, Refusal>(Some((project, environment, sender, doc, roles)))
    });
    let Some((project, environment, sender, doc, roles)) = found.await? else {
        let told = asked.told(
            None,
            None,
            Verdict::refused(404, "edge.unknown_host", "nothing is published under this host"),
        );
        let changes = vec![
            "check the name: mezusphere host list PROJECT".to_owned(),
            format!("or publish it: mezusphere host add PROJECT {}", asked.host),
        ];
        return Ok(ExplainedUrl { changes, ..told });
    };
    let place =
        Some(ExplainedPlace { project: project.slug.to_string(), environment: environment.slug.to_string() });
    let caller_shown = sender.as_ref().map(Sender::shown);
    let site = Site::build(doc)
        .map_err(|why| Refusal::new(&problem::ROUTE_PATTERN, format!("the site is closed: {why}")))?;
    let route = match asked.route(&site) {
        Ok(route) => route,
        Err(verdict) => {
            let changes = remedy::without_route(&verdict, &project, &environment, &asked.path);
            let told = asked.told(place, caller_shown, verdict);
            return Ok(ExplainedUrl { changes, ..told });
        }
    };
    let (verdict, lacks, changes) = if let Some(EdgeAnswer::Maintenance(_)) = route.rules.answer {
        let why = "the route is closed for maintenance, whoever asks";
        let change = remedy::end_of_maintenance(&route, &project, &environment);
        (Verdict::refused(503, "edge.maintenance", why), Vec::new(), vec![change])
    } else {
        let context = remedy::Context { project: &project, environment: &environment, roles: &roles };
        let circumstances = asked.circumstances();
        let (lacks, changes) = remedy::of(&route, sender.as_ref(), circumstances, &context);
        (Verdict::of(&route, sender.as_ref(), circumstances), lacks, changes)
    };
    // Whether it is let in is decided here; there, what happens to whoever is.
    let below = ExplainRequest {
        path: asked.target.clone(),
        method: Some(asked.method.clone()),
        user: None,
        from: None,
    };
    let (project, environment) = (project.id.to_string(), environment.id.to_string());
    let told = route::explain(shared, caller, &project, &environment, &below).await?;
    let steps = if verdict.allowed { told.steps } else { Vec::new() };
    let changes = if verdict.allowed && !verdict.dry_run { Vec::new() } else { changes };
    Ok(ExplainedUrl { route: told.route, lacks, changes, steps, ..asked.told(place, caller_shown, verdict) })
}

/// A request, read.
struct Asked {
    host: Host,
    /// Path and query.
    target: String,
    path: String,
    method: String,
    from: Option<IpAddr>,
    at: Timestamp,
}

impl Asked {
    fn read(request: &ExplainUrl, now: Timestamp) -> Result<Self, Refusal> {
        let bad = |detail: &str| Refusal::new(&problem::REQUEST_INVALID, detail);
        if request.url.len() > URL_LEN_MAX {
            return Err(bad("url: it is longer than any address may be"));
        }
        let text = match request.url.split_once("://") {
            None => format!("https://{}", request.url),
            Some(("https", _)) => request.url.clone(),
            Some(("http", rest)) => format!("https://{rest}"),
            Some(_) => return Err(bad("url: write it as https://shop.example/path")),
        };
        let uri: Uri =
            text.parse().map_err(|_| bad("url: not an address; write it as https://shop.example/path"))?;
        let host = uri.host().unwrap_or_default();
        let host = Host::parse(host).map_err(|why| bad(&format!("url: the host {why}")))?;
        let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let at = match &request.at {
            None => now,
            Some(text) => text.parse().map_err(|why| bad(&format!("at: {why}")))?,
        };
        Ok(Self {
            host,
            path: uri.path().to_owned(),
            target,
            method: request.method.as_deref().unwrap_or("GET").to_ascii_uppercase(),
            from: request.from,
            at,
        })
    }

    /// The route that takes it, or what it gets instead.
    fn route(&self, site: &Site) -> Result<RouteDoc, Verdict> {
        let path = RequestPath::parse(&self.path)
            .map_err(|why| Verdict::refused(400, "edge.bad_path", &why.to_string()))?;
        let is_own = |reading: &str| {
            reading.strip_prefix(OWN).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if path.readings().iter().any(|reading| is_own(reading.as_str())) {
            return Err(Verdict::ended(
                "the edge answers addresses below /.mezu/ itself, on every host; no route decides there",
            ));
        }
        // An address that is not told is taken for one that may.
        let near = |route: &RouteDoc| match self.from {
            Some(_) => route.clone(),
            None => RouteDoc { networks: Vec::new(), ..route.clone() },
        };
        site.find(&path, &self.method).map(|route| near(route)).map_err(|why| match why {
            NoRoute::NotFound => {
                Verdict::refused(404, "edge.no_route", "no route matches this path and method")
            }
            NoRoute::Ambiguous => Verdict::refused(
                400,
                "edge.ambiguous_path",
                "another route would decide if a server read this path in another way",
            ),
            NoRoute::TooNew => {
                Verdict::refused(503, "edge.route_too_new", "a rule of the route cannot be carried out")
            }
        })
    }

    fn circumstances(&self) -> Circumstances {
        Circumstances { client: self.from.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), now: self.at }
    }

    fn told(
        &self,
        place: Option<ExplainedPlace>,
        caller: Option<ExplainedCaller>,
        verdict: Verdict,
    ) -> ExplainedUrl {
        ExplainedUrl {
            method: self.method.clone(),
            host: self.host.to_string(),
            path: self.target.clone(),
            place,
            caller,
            route: None,
            verdict,
            lacks: Vec::new(),
            changes: Vec::new(),
            steps: Vec::new(),
        }
    }
}

type Verdict = ExplainedVerdict;

impl Verdict {
    fn refused(status: u16, code: &str, why: &str) -> Self {
        Self {
            allowed: false,
            status,
            code: code.to_owned(),
            reason: String::new(),
            why: why.to_owned(),
            dry_run: false,
        }
    }

    /// It does not come to a decision.
    fn ended(why: &str) -> Self {
        Self { allowed: true, status: 0, ..Self::refused(0, "", why) }
    }

    fn of(route: &RouteDoc, sender: Option<&Sender>, circumstances: Circumstances) -> Self {
        // Who is not active is nobody: their sessions and keys are ended.
        let identity = sender.filter(|sender| sender.is_active()).map(|sender| &sender.identity);
        match policy::decide(route, identity, &circumstances) {
            Ok(permit) => match permit.would_deny() {
                None => Self { why: access(route), ..Self::ended("") },
                Some(denial) => Self {
                    reason: denial.code().to_owned(),
                    why: format!("the route is in a dry run; enforced, it would refuse: {denial}"),
                    dry_run: true,
                    ..Self::ended("")
                },
            },
            Err(denial) => {
                let (status, code) = match &denial {
                    Denial::TooNew => (503, "edge.route_too_new"),
                    Denial::SignInRequired => (401, "edge.sign_in_required"),
                    // A key is as strong as it will ever be; only people can prove themselves again.
                    denial if denial.is_of_sign_in() && sender.is_some_and(Sender::is_person) => {
                        (401, "edge.step_up_required")
                    }
                    _ => (403, "edge.denied"),
                };
                let why = match sender.filter(|sender| !sender.is_active()) {
                    Some(sender) => {
                        format!("{denial}: the account is {}, so it has no session", sender.status())
                    }
                    None => denial.to_string(),
                };
                Self { reason: denial.code().to_owned(), ..Self::refused(status, code, &why) }
            }
        }
    }
}

/// Why a route lets somebody in.
fn access(route: &RouteDoc) -> String {
    use mezusphere_model::route::AuthMode;
    let demands = route.demands().to_string();
    match route.auth_in_force() {
        AuthMode::Public => "the route is public".to_owned(),
        AuthMode::Optional => "the route lets everybody in, signed in or not".to_owned(),
        AuthMode::Required if demands.is_empty() => {
            "the caller is signed in, and no more is asked".to_owned()
        }
        AuthMode::Required => format!("the caller has what the route asks for: {demands}"),
    }
}

/// Who sends the request.
struct Sender {
    principal: PrincipalDoc,
    identity: Identity,
    /// A session of theirs on this host said how and when they signed in.
    is_signed_in: bool,
}

impl Sender {
    fn is_active(&self) -> bool {
        self.principal.status == Status::Active
    }

    fn is_person(&self) -> bool {
        matches!(self.identity.subject, Subject::User(_))
    }

    fn status(&self) -> String {
        let status = serde_json::to_value(self.principal.status).ok();
        status.and_then(|status| status.as_str().map(str::to_owned)).unwrap_or_default()
    }

    fn shown(&self) -> ExplainedCaller {
        let text = |names: &[mezusphere_model::slug::Name]| names.iter().map(ToString::to_string).collect();
        let Identity { subject, email, name, roles, permissions, assurance, authenticated_at, .. } =
            &self.identity;
        ExplainedCaller {
            id: subject.to_string(),
            email: email.clone(),
            name: name.clone(),
            status: self.status(),
            roles: text(roles),
            permissions: text(permissions),
            acr: assurance.as_str().to_owned(),
            authenticated_at: authenticated_at.to_string(),
            signed_in: self.is_signed_in,
        }
    }
}

/// The user or service account of this name, with what their newest session on the host says of their sign-in.
async fn sender(tx: &mut ReadTx, project: &ProjectRow, name: &str, asked: &Asked) -> Result<Sender, Refusal> {
    let subject = match name.parse() {
        Ok(subject @ Subject::ServiceAccount(_)) => subject,
        _ => Subject::User(scope::user(tx, project, name).await?.id),
    };
    let principal = principal::load(tx, project.id, subject).await?;
    let principal = principal.ok_or_else(|| scope::not_found("user", name))?;
    let newest = match subject {
        Subject::User(user) => newest_session(tx, project.id, user, asked).await?,
        Subject::ServiceAccount(_) => None,
    };
    let just_now = match subject {
        Subject::User(_) => Method::Password,
        Subject::ServiceAccount(_) => Method::ApiKey,
    };
    let identity = Identity {
        subject,
        session: newest.as_ref().map(|session| session.id),
        email: principal.email.clone(),
        name: principal.name.clone(),
        roles: principal.roles.clone(),
        permissions: principal.permissions.clone(),
        methods: newest.as_ref().map_or_else(|| vec![just_now], |session| session.methods.clone()),
        assurance: newest.as_ref().map_or(Assurance::Aal1, |session| session.assurance),
        authenticated_at: newest.as_ref().map_or(asked.at, |session| session.authenticated_at),
        claims: principal.claims.clone(),
    };
    Ok(Sender { principal, identity, is_signed_in: newest.is_some() })
}

async fn newest_session(
    tx: &mut ReadTx,
    project: ProjectId,
    user: mezusphere_model::id::UserId,
    asked: &Asked,
) -> Result<Option<mezusphere_model::session::SessionDoc>, StoreError> {
    let sessions = session::list(tx, project, user, &PageRequest::first()).await?.rows;
    let here = sessions.into_iter().map(|row| row.doc);
    let good = here.filter(|doc| doc.check(project, &asked.host, asked.at, None).is_ok());
    Ok(good.max_by_key(|doc| doc.authenticated_at))
}

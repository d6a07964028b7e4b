//! Control in this process: its store, its admin socket, its jobs, and its node port if it has one.

use std::sync::Arc;

use mezusphere_control::{
    Control, ControlConfig, Jobs, LocalEdge, MailFigures, OpenError, PublicCertificate,
};
use mezusphere_edge::PlatformHosts;
use mezusphere_model::Platform;
use mezusphere_model::id::ControlId;
use mezusphere_model::platform::PlatformHost;
use mezusphere_pki::{CurrentIdentity, CurrentTrust};
use mezusphere_store::Primary;
use tokio::task::JoinHandle;

use super::base::Base;
use super::config::{ControlPart, EdgePart, Store};
use super::edge::{Home, KeepsNothing, Upkeep, caught_up, follow};
use super::port::PortSide;
use super::socket::AdminSocket;
use super::{DRAIN_GRACE, announce, bridge, data, ends, identity, keys, migrate, origin, roots};
use crate::failure::{Failure, Kind};

/// A running control node.
pub(crate) struct ControlSide<'a> {
    base: &'a Base,
    control: Arc<Control>,
    primary: Primary,
    jobs: Jobs,
    admin: JoinHandle<()>,
    roots: JoinHandle<()>,
    node_port: Option<PortSide>,
    store: String,
    platform: Platform,
    edge: Option<LocalEdge>,
    own_ca: bool,
}

impl<'a> ControlSide<'a> {
    /// Opens the store and the installation in it, and starts what control serves beside an edge's listeners.
    pub(crate) async fn open(
        base: &'a Base,
        part: ControlPart,
        edge: Option<&EdgePart>,
    ) -> Result<Self, Failure> {
        let mut config = ControlConfig::new(part.platform, base.data.control_id(&base.entropy)?);
        base.name.clone_into(&mut config.node.name);
        base.region.clone_into(&mut config.node.region);
        config.node.address = part.node_port.as_ref().map(|open| open.advertise.clone());
        config.node_port_open = part.node_port.is_some();
        config.operator_email = part.operator;
        config.root_elsewhere = part.root_elsewhere;
        config.leaf_ttl = part.leaf_ttl;
        config.assertion_rotation = part.assertion_rotation;
        config.mail = part.mail.map(|mail| mail.counted(MailFigures::register(&base.metrics)));
        config.edge = match (edge, config.edge) {
            (Some(edge), Some(mut local)) => {
                base.name.clone_into(&mut local.name);
                base.region.clone_into(&mut local.region);
                if let Some(advertise) = &edge.advertise {
                    local.advertise = advertise.clone();
                }
                Some(local)
            }
            _ => None,
        };
        let own_ca = matches!(part.certificate, PublicCertificate::Internal);
        config.public_certificate = part.certificate;
        config.custom_domains = part.custom_domains;
        config.dns_resolver = part.dns_resolver;
        let platform = config.platform.clone();
        let (primary, store) = open_store(base, &part.store).await?;
        let edge = config.edge.clone();
        let (clock, entropy, seal) = (base.clock.clone(), base.entropy.clone(), Arc::clone(&base.seal));
        let control = Control::open(config, primary.clone(), seal, clock, entropy);
        let control = match control.await {
            Err(OpenError::Unsigned { csr_pem }) => return Err(unsigned(base, &csr_pem)),
            control => Arc::new(control.map_err(ends::control)?),
        };
        let mut trusted = control.roots();
        roots::write(&base.data.roots(), &mut trusted)?;

        let node_port = match &part.node_port {
            Some(open) => Some(PortSide::open(base, open, &platform, &control).await?),
            None => None,
        };
        let socket = AdminSocket::bind(base.data.admin_socket())?;
        base.keys.hold_control(&control, &primary);
        let api = migrate::with_local_admin(control.local_admin(), primary.clone());
        let api = keys::with_local_admin(api, Arc::clone(&base.keys));
        let admin = tokio::spawn(socket.serve(api, base.stop.clone()));
        let jobs = control.start_jobs();
        let roots = tokio::spawn(roots::keep(base.data.roots(), trusted, base.stop.clone()));
        Ok(Self { base, control, primary, jobs, admin, roots, node_port, store, platform, edge, own_ca })
    }

    /// What an edge in the same process lives on.
    pub(crate) async fn home(&self) -> Result<Home, Failure> {
        let id = self.control.edge_id().ok_or_else(|| {
            Failure::new(Kind::Unexpected, "this process has no edge").next("please report this")
        })?;
        let advertise = self.edge.as_ref().map(|edge| edge.advertise.clone()).ok_or_else(|| {
            Failure::new(Kind::Unexpected, "this process has no edge").next("please report this")
        })?;
        let (replica, follower) = follow(self.base, id, self.control.feed())?;
        caught_up(&follower).await?;
        let link = self.control.link(id);
        let identity = identity::certified(&*link).await.map_err(|why| {
            Failure::new(Kind::Unexpected, format!("the edge gets no certificate: {why}"))
                .next("look at the log above")
        })?;
        let trust = replica.trust().map_err(|why| why.to_string());
        let trust = trust.and_then(|doc| doc.ok_or_else(|| "the trust document is missing".to_owned()));
        let trust = trust.and_then(|doc| identity::trust_of(&doc).map_err(|why| why.to_string()));
        let trust = trust.map_err(|why| {
            Failure::new(Kind::Unexpected, format!("the edge does not know whom to trust: {why}"))
                .next("stop the server, delete the replica folder and start again")
        })?;
        let (identity, trust) = (CurrentIdentity::new(identity), CurrentTrust::new(trust));
        let upkeep = Upkeep {
            identity: identity.clone(),
            trust: trust.clone(),
            link: Arc::clone(&link),
            replica: Arc::clone(&replica),
            keeps: Arc::new(KeepsNothing),
            returning: None,
        };
        let runtime = tokio::runtime::Handle::current();
        Ok(Home {
            id,
            platform: self.platform.clone(),
            link,
            hosts: PlatformHosts::Service(bridge::service(self.control.platform_service(), runtime)),
            replica,
            follower,
            identity,
            enroll: Some(self.control.node_identity()),
            trust,
            advertise,
            upkeep: upkeep.start(self.base),
        })
    }

    /// What is said of it at the start.
    pub(crate) fn announced(&self) -> announce::Control<'_> {
        let platform = &self.platform;
        announce::Control {
            console: origin(platform, PlatformHost::Console),
            login: origin(platform, PlatformHost::Login),
            store: self.store.clone(),
            node_port: self.node_port.as_ref().map(PortSide::at),
            roots: self.own_ca.then(|| self.base.data.roots().display().to_string()),
            first_sign_in: self.control.sign_in_link(),
        }
    }

    /// Lets what runs on the node port finish. The node's stop must have been called.
    pub(crate) async fn stop_serving(&mut self) {
        if let Some(open) = self.node_port.take() {
            open.close(DRAIN_GRACE).await;
        }
    }

    /// Ends the jobs and closes the store.
    pub(crate) async fn close(self) {
        self.jobs.stop().await;
        // A task that panicked has said so in the log.
        drop((self.admin.await, self.roots.await));
        self.primary.close().await;
    }
}

/// Whether a new installation could start as this says, before anything of it is made.
pub(crate) fn check(part: &ControlPart) -> Result<(), Failure> {
    let config = ControlConfig {
        operator_email: part.operator.clone(),
        leaf_ttl: part.leaf_ttl,
        assertion_rotation: part.assertion_rotation,
        node_port_open: part.node_port.is_some(),
        public_certificate: part.certificate.clone(),
        ..ControlConfig::new(part.platform.clone(), ControlId::from_bits(0))
    };
    Control::check(&config, super::base::clock().now()).map_err(ends::control)
}

/// An installation that begins under a root elsewhere waits for that: what it is to sign is put where it can be taken from.
fn unsigned(base: &Base, csr_pem: &str) -> Failure {
    let request = base.data.issuing_request();
    if let Err(failure) = data::write_whole(&request, csr_pem.as_bytes(), 0o644) {
        return failure;
    }
    let at = request.display();
    Failure::new(
        Kind::Usage,
        format!("the root that is kept elsewhere must sign this installation's issuing CA first: the request is {at}"),
    )
    .next(format!(
        "where the root's key is: mezusphere ca root sign --root-key FILE --request {at} --out issuing.pem; then start \
         again with --ca-root FILE --ca-issuing issuing.pem"
    ))
}

/// Opens the primary; says where it is, without a password.
async fn open_store(base: &Base, store: &Store) -> Result<(Primary, String), Failure> {
    let (clock, entropy, seal) = (base.clock.clone(), base.entropy.clone(), Arc::clone(&base.seal));
    match store {
        Store::Sqlite => {
            let dir = base.data.control();
            let primary = Primary::open_sqlite(&dir, clock, entropy, seal).await.map_err(ends::primary)?;
            Ok((primary, format!("SQLite in {}", dir.display())))
        }
        Store::Postgres(config) => {
            let primary = Primary::open_postgres(config.clone(), clock, entropy, seal).await;
            Ok((primary.map_err(ends::primary)?, format!("PostgreSQL at {}", config.place())))
        }
    }
}

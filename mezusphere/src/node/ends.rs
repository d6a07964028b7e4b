//! How a node ends: signals, and starts that fail, each with its exit code and what to do next.

use std::process::ExitCode;

use mezusphere_control::OpenError as ControlError;
use mezusphere_edge::StartError;
use mezusphere_store::primary::OpenError as PrimaryError;
use mezusphere_store::replica::OpenError as ReplicaError;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;

use crate::failure::{Failure, Kind};

/// The exit code after a second signal: what a shell says of a program ended by SIGINT.
pub(crate) fn at_once() -> ExitCode {
    ExitCode::from(130)
}

/// SIGTERM and SIGINT, listened to from the start on.
pub(crate) struct Signals(Mutex<(Signal, Signal)>);

impl Signals {
    /// Takes both signals over from their default, which is to die at once.
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self(Mutex::new((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))))
    }

    /// Waits for the first signal.
    pub(crate) async fn first(&self) {
        let mut signals = self.0.lock().await;
        let (terminate, interrupt) = &mut *signals;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    /// Waits for another one.
    pub(crate) async fn second(&self) {
        self.first().await;
    }
}

/// Why the primary did not open.
pub(crate) fn primary(why: PrimaryError) -> Failure {
    let (kind, next) = match &why {
        PrimaryError::Locked { .. } => (Kind::Locked, "stop that process, or use another --data"),
        PrimaryError::Unwritable { .. } => (
            Kind::Files,
            "choose another directory with --data, or give this one to the user the server runs as",
        ),
        PrimaryError::Newer { .. } => {
            (Kind::TooNew, "start the newer version again, or restore a backup from before it")
        }
        PrimaryError::Foreign { .. } => {
            (Kind::Files, "choose another directory with --data, or another database")
        }
        PrimaryError::Moved { .. } => (Kind::Files, "start with --store and that PostgreSQL"),
        PrimaryError::Unreachable { .. } | PrimaryError::ReadOnly { .. } => (
            Kind::Unreachable,
            "check that the PostgreSQL runs and that this host reaches it, then start again",
        ),
        PrimaryError::Refused { .. } => {
            (Kind::Usage, "check user, password and database name in --store, and the server's pg_hba.conf")
        }
        PrimaryError::Rights { .. } => (
            Kind::Usage,
            "let the role own its database: ALTER DATABASE … OWNER TO …, or GRANT CREATE, USAGE ON SCHEMA public TO …",
        ),
        PrimaryError::TooOld { .. } => (Kind::Usage, "use a newer PostgreSQL"),
        PrimaryError::Encoding { .. } => {
            (Kind::Usage, "create the database anew: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0")
        }
        PrimaryError::Damaged { .. } | PrimaryError::Failed { .. } => {
            (Kind::Files, "restore a backup; the file that is there was left as it is")
        }
    };
    Failure::new(kind, why).next(next)
}

/// Why the replica did not open.
pub(crate) fn replica(why: ReplicaError) -> Failure {
    Failure::new(Kind::Files, why).next("the replica folder can be deleted at any time: it is fetched anew")
}

/// Why control did not open.
pub(crate) fn control(why: ControlError) -> Failure {
    let (kind, next) = match &why {
        ControlError::LeafTtl(_)
        | ControlError::AssertionLife(_)
        | ControlError::TrustDomain(..)
        | ControlError::OperatorEmail(_) => (Kind::Usage, "mezusphere serve --help"),
        ControlError::RootElsewhere(_) => (
            Kind::Usage,
            "give --ca-root the certificate of mezusphere ca root new, and --ca-issuing what mezusphere ca root sign made \
             of the request",
        ),
        ControlError::Host(_) => (Kind::Usage, "choose a shorter --base or --apps"),
        ControlError::CertificateFile { .. }
        | ControlError::Certificate { .. }
        | ControlError::CertificateNames { .. } => (Kind::Files, "check --tls-cert and --tls-key"),
        ControlError::CertificateShared { .. } => (
            Kind::Files,
            "give the platform's hosts and the applications a certificate each: --tls-cert and --tls-key twice",
        ),
        ControlError::Mail(_) => (Kind::Files, "check --mail-ca: it holds certificates as PEM"),
        ControlError::Acme(_) => (Kind::Files, "check --acme-ca-file: it holds certificates as PEM"),
        ControlError::EdgeTaken(_) => (
            Kind::Conflict,
            "start this node with --role control; another one already runs this installation's first edge",
        ),
        ControlError::MasterKey(_) => {
            (Kind::Files, "give the master key this data was sealed with: --master-key-file")
        }
        _ => (Kind::Unexpected, "look at the log above; the data was left as it is"),
    };
    Failure::new(kind, why).next(next)
}

/// Why the edge did not start.
pub(crate) fn edge(why: &StartError) -> Failure {
    match why {
        StartError::Listen { source, .. } => {
            let next = if source.kind() == std::io::ErrorKind::PermissionDenied {
                "ports under 1024 need CAP_NET_BIND_SERVICE; or choose another with --listen"
            } else {
                "stop what listens there, or choose another address with --listen or --http"
            };
            Failure::new(Kind::Listen, why).next(next)
        }
        _ => Failure::new(Kind::Unexpected, why).next("please report this with the log above"),
    }
}

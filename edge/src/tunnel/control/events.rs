//! What a warpgate says on its control stream, and what the edge does about it: it is entered as a tunnel, declares its
//! upstreams, is sent bundles, and is reported to control.

use std::sync::Arc;

use mezusphere_model::link::TunnelReport;
use tunnel_proto::codes::CloseCode;
use tunnel_proto::control::{EdgeEvent, Hello, Refused, SessionEnd, SessionLimits};

use super::{Control, Over, PROBES_MAX};
use crate::tunnel::held::Tunnel;
use crate::tunnel::refusal;

impl Control<'_> {
    /// Acts on what the warpgate said; the answer ends the tunnel.
    pub(super) fn handle(&mut self, event: EdgeEvent) -> Option<Over> {
        match event {
            EdgeEvent::Hello(hello) => self.greet(hello),
            EdgeEvent::Offered(upstreams) => self.declare(|tunnel| tunnel.offer(upstreams)),
            EdgeEvent::UpstreamHealth(health) => self.declare(|tunnel| tunnel.tell_health(health)),
            EdgeEvent::Withdrawn(upstreams) => self.declare(|tunnel| tunnel.withdraw(&upstreams)),
            EdgeEvent::PrincipalKnown { slot } => {
                if let Some((tunnel, _)) = &self.tunnel {
                    tunnel.principals().acknowledge(slot);
                }
            }
            EdgeEvent::ProbeRequested { nonce } if self.probes.len() < PROBES_MAX => self.probes.push(nonce),
            EdgeEvent::ProbeRequested { .. } => {}
            EdgeEvent::Draining { .. } => {
                if let Some((tunnel, _)) = &self.tunnel {
                    self.parts.tunnels.set_aside(tunnel);
                    tracing::info!(warpgate = %tunnel.warpgate, "Warpgate drains");
                }
            }
            EdgeEvent::Ended(why) => {
                if self.tunnel.is_none() {
                    tracing::warn!(warpgate = self.uri, %why, "A tunnel was not opened");
                }
                let code = why.close_code();
                if self.tunnel.is_some() && code == CloseCode::Protocol {
                    tracing::warn!(warpgate = self.uri, %why, "A warpgate broke the protocol of its tunnel");
                }
                return Some(match why {
                    SessionEnd::Silent | SessionEnd::Backlog => Over::Gone(code),
                    _ => Over::Told(code),
                });
            }
        }
        None
    }

    fn greet(&mut self, hello: Hello) {
        if let Err(refused) = self.admit(hello) {
            self.session.refuse(refused);
        }
    }

    fn admit(&mut self, hello: Hello) -> Result<(), Refused> {
        if hello.instance != self.name.2 {
            return Err(refusal::other_instance());
        }
        if self.parts.drain.is_draining() {
            return Err(refusal::stopping());
        }
        self.agent = hello.agent;
        self.bundle = hello.bundle_revision;
        let tunnel = Arc::new(Tunnel::new(self.transport.clone(), self.name, hello.index, hello.upstreams));
        self.transport.admit();
        self.parts.tunnels.enter(&tunnel).map_err(refusal::of_full)?;
        self.session.welcome(self.parts.edge, &self.parts.region, SessionLimits::default());
        self.relay_bundle();
        let serial = self.parts.tunnels.reports().came(self.state(&tunnel, true));
        let upstreams = tunnel.upstreams().len();
        tracing::info!(
            warpgate = %self.name.2, environment = %self.name.1, remote = %self.transport.remote_address(),
            transport = self.transport.kind().name(), agent = self.agent, upstreams, "Tunnel connected"
        );
        self.tunnel = Some((tunnel, serial));
        Ok(())
    }

    fn declare(&mut self, change: impl FnOnce(&Tunnel)) {
        if let Some((tunnel, serial)) = &self.tunnel {
            change(tunnel);
            self.parts.tunnels.reports().changed(*serial, self.state(tunnel, true));
        }
    }

    pub(super) fn relay_bundle(&mut self) {
        let (project, environment, _) = self.name;
        if let Some(bundle) = self.parts.view.bundle(project, environment)
            && bundle.revision > self.bundle
        {
            self.bundle = bundle.revision;
            self.session.send_bundle(bundle);
        }
    }

    pub(super) fn state(&self, tunnel: &Tunnel, connected: bool) -> TunnelReport {
        TunnelReport {
            warpgate: self.uri.clone(),
            environment: self.name.1,
            edge: self.parts.edge,
            remote: self.transport.remote_address(),
            agent: self.agent.clone(),
            upstreams: tunnel.upstreams().iter().map(ToString::to_string).collect(),
            bad_upstreams: tunnel
                .bad_upstreams()
                .iter()
                .map(|(name, why)| format!("{name}: {why}"))
                .collect(),
            transport: self.transport.kind(),
            connected,
            at: if connected { self.since } else { self.parts.clock.now() },
        }
    }
}

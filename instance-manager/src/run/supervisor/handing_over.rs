//! One program of the instance manager takes the place of another, while PostgreSQL runs.

use std::os::fd::OwnedFd;
use std::time::Duration;

use kube::runtime::events::EventType;
use tokio::signal::unix::Signal;
use tokio::time::timeout;

use super::Life;
use crate::error::{Error, Result};
use crate::pg::server::Server;
use crate::run::replace::handover::{FORMAT, Handover, HeldLease, to_uptime};
use crate::run::replace::process::ProcessId;
use crate::run::replace::{Adopted, become_program, install, signals};
use crate::run::role::Running;

/// How long a signal that was sent before may take to be heard, when this program makes room for another.
const LAST_SIGNAL: Duration = Duration::from_millis(50);
/// How long a server that was taken over may take to be looked at, before other things are looked after.
const TAKE_OVER: Duration = Duration::from_secs(10);

impl Life {
    /// Goes on with a server that the former program of this process has started. Nothing is written into its data
    /// directory but what changes of the configuration are always written.
    pub(super) async fn go_on(&mut self, adopted: Adopted) -> Result<()> {
        let shared = self.shared.clone();
        let Adopted { child, output, role, proved, former } = adopted;
        let server = Server::adopt(child, shared.local.clone(), output, &self.on_line())
            .map_err(|e| Error::transient("the log of PostgreSQL cannot be read").because(e))?;
        let (pid, version) = (server.pid(), env!("CARGO_PKG_VERSION"));
        self.server = Some(server);
        self.proved = proved;
        tracing::info!(pid, ?role, former, version, "this program took over; PostgreSQL runs on");
        self.follow().await;
        // Also lets the archives know again whose WAL comes.
        let looked = timeout(TAKE_OVER, self.advance(false)).await;
        if !matches!(looked, Ok(Ok(()))) {
            self.say("PostgreSQL runs on under another instance manager", true, false);
        }
        let note = self.named(&format!(
            "instance manager {version} took the place of {former}; PostgreSQL runs on (process {pid})"
        ));
        tokio::spawn(async move {
            let cluster = shared.cluster();
            shared.kube.event(&*cluster, EventType::Normal, "InstanceManagerReplaced", &note).await;
        });
        Ok(())
    }

    /// Gives this process to another program, when one was installed for that and nothing stands in the way. Returns only
    /// when it goes on: `true` when it was told to end meanwhile.
    pub(super) async fn make_room(&mut self, stop: &mut Signal) -> Result<bool> {
        let shared = self.shared.clone();
        let Some(program) = shared.replacer.due() else { return Ok(false) };
        if self.promote || install::obstacle(&shared.server()).is_some() {
            return Ok(false);
        }
        let on_line = self.on_line();
        let Some(server) = self.server.as_mut() else { return Ok(false) };
        server.pause_relay().await;
        signals::block();
        // One that came before is heard now; one that comes later waits for the next program.
        let told = timeout(LAST_SIGNAL, stop.recv()).await.is_ok();
        let failed = match self.handover() {
            _ if told => None,
            Ok(Some((handover, output))) => {
                Some(become_program(&shared.env.paths.manager(), &handover, output))
            }
            // Looked at again at the next tick.
            Ok(None) => None,
            Err(error) => Some(error),
        };
        signals::unblock();
        if let Some(server) = self.server.as_mut() {
            server
                .relay_again(&on_line)
                .map_err(|e| Error::transient("the log of PostgreSQL cannot be read").because(e))?;
        }
        if let Some(error) = failed {
            let why = error.report();
            shared.replacer.give_up(&shared.env.paths, &program, &why);
            tracing::error!("this instance manager goes on: {why}");
            let note = self.named(&format!("the instance manager was not replaced: {why}"));
            let cluster = shared.cluster();
            shared.kube.event(&*cluster, EventType::Warning, "InstanceManagerNotReplaced", &note).await;
        }
        Ok(told)
    }

    /// What the next program has to know; `None` while the lease changes hands.
    fn handover(&self) -> Result<Option<(Handover, &[OwnedFd])>> {
        let shared = &self.shared;
        let Some(server) = &self.server else { return Ok(None) };
        let Some((held, promised)) = shared.authority.hand_over() else { return Ok(None) };
        if held.is_none() && self.running == Running::Primary {
            return Ok(None);
        }
        let lease = match held {
            Some((lease, since)) => Some(HeldLease { lease, since: to_uptime(since)? }),
            None => None,
        };
        let handover = Handover {
            format: FORMAT,
            process: ProcessId::own()?,
            postmaster: ProcessId::of(server.pid())?.0,
            role: self.running,
            major: shared.major,
            tls: shared.tls,
            proved: self.proved,
            output: Vec::new(),
            lease,
            promised_until: promised.map(to_uptime).transpose()?,
            cluster: (*shared.cluster()).clone(),
            secrets: (*shared.secrets()).clone(),
            former: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(Some((handover, server.output())))
    }
}

//! The systemd unit, and the file of settings that goes with it.

use std::path::{Path, PathBuf};

/// First line of every text that `install` writes: what has it may be replaced and removed.
pub const MARK: &str = "# Written by `warpgate service install`; `warpgate service uninstall` removes it.";

/// What the unit is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name, without `.service`.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Groups whose sockets it may use.
    pub groups: Vec<String>,
}

/// Where the parts of a service are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The unit.
    pub unit: PathBuf,
    /// The connection key.
    pub key: PathBuf,
    /// The settings.
    pub settings: PathBuf,
}

impl Paths {
    /// Of the service `name`, below `root`.
    pub fn new(root: &Path, name: &str) -> Self {
        Self {
            unit: root.join(format!("etc/systemd/system/{name}.service")),
            key: root.join(format!("etc/warpgate/{name}.key")),
            settings: root.join(format!("etc/warpgate/{name}.toml")),
        }
    }
}

impl Unit {
    /// The text of the unit.
    pub fn text(&self) -> String {
        let Self { name, program, groups } = self;
        let program = program.display();
        let groups = if groups.is_empty() {
            String::new()
        } else {
            format!("SupplementaryGroups={}\n", groups.join(" "))
        };
        format!(
            "\
{MARK}
[Unit]
Description=Mezusphere warpgate ({name})
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStart={program} connect --config /etc/warpgate/{name}.toml --state-dir %S/warpgate/{name} --output json
ExecReload=/bin/kill -HUP $MAINPID
LoadCredential=warpgate-key:/etc/warpgate/{name}.key
StateDirectory=warpgate/{name}
StateDirectoryMode=0700
RuntimeDirectory=warpgate/{name}
RuntimeDirectoryMode=0700
Restart=always
RestartSec=2
# Wrong usage, a bad or revoked key, a program too old: trying again changes nothing.
RestartPreventExitStatus=2 10 11 16
WatchdogSec=30
# What runs may take 30 s to finish.
TimeoutStopSec=40
KillMode=mixed
# Ten thousand requests at once, each with a connection to its upstream.
LimitNOFILE=65536

DynamicUser=yes
{groups}UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateDevices=yes
PrivateTmp=yes
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"
        )
    }
}

/// The settings a service starts with.
pub fn settings(name: &str, upstreams: &[String]) -> String {
    let upstreams = if upstreams.is_empty() {
        "# upstream = [\"3000\"]   # without it, requests go to http://127.0.0.1:8080".to_owned()
    } else {
        let quoted: Vec<_> = upstreams.iter().map(|one| format!("{one:?}")).collect();
        format!("upstream = [{}]", quoted.join(", "))
    };
    format!(
        "\
{MARK}
# Edit it, then: systemctl reload {name}
# Every setting is in: warpgate connect --help

{upstreams}
# health-check = \"/healthz\"
# health = \"127.0.0.1:9090\"
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of one key, in order; sections do not matter here.
    fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
        let of =
            |line: &'a str| line.split_once('=').filter(|(name, _)| *name == key).map(|(_, value)| value);
        text.lines().filter_map(of).collect()
    }

    fn unit() -> String {
        let groups = vec!["www-data".to_owned()];
        Unit { name: "shop".into(), program: "/usr/local/bin/warpgate".into(), groups }.text()
    }

    #[test]
    fn the_unit_says_who_it_is_where_its_key_is_and_when_it_is_ready() {
        let text = unit();
        assert_eq!(values(&text, "Type"), ["notify"]);
        assert_eq!(values(&text, "LoadCredential"), ["warpgate-key:/etc/warpgate/shop.key"]);
        assert_eq!(values(&text, "StateDirectory"), ["warpgate/shop"]);
        assert_eq!(values(&text, "SupplementaryGroups"), ["www-data"]);
        assert!(
            values(&text, "ExecStart")[0]
                .starts_with("/usr/local/bin/warpgate connect --config /etc/warpgate/shop.toml")
        );
        assert!(!text.contains("mzw_"), "a unit can be read by everybody");
        for line in text.lines() {
            let fits = line.is_empty() || line.starts_with(['#', '[']) || line.contains('=');
            assert!(fits, "{line}");
        }
    }

    #[test]
    fn the_unit_is_hardened() {
        let text = unit();
        for (key, value) in [
            ("DynamicUser", "yes"),
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("MemoryDenyWriteExecute", "yes"),
            ("CapabilityBoundingSet", ""),
            ("Restart", "always"),
            ("WatchdogSec", "30"),
        ] {
            assert_eq!(values(&text, key), [value], "{key}");
        }
        assert_eq!(values(&text, "SystemCallFilter"), ["@system-service", "~@privileged @resources"]);
        let stop: u64 = values(&text, "TimeoutStopSec")[0].parse().unwrap();
        assert!(stop > crate::limits::DRAIN_GRACE.as_secs(), "a drain must not be killed");
    }

    #[test]
    fn the_settings_it_starts_with_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.toml");
        for upstreams in [vec![], vec!["3000".to_owned(), "docs=http://docs:81".to_owned()]] {
            std::fs::write(&path, settings("shop", &upstreams)).unwrap();
            assert_eq!(crate::config::read(&path).unwrap().upstreams.len(), upstreams.len());
        }
    }
}

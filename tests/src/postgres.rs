//! A PostgreSQL of one's own: real server processes on a free port, with their own data, stopped and started at will.
//!
//! Everything is made by the programs of Debian's `postgresql` package. They refuse to run as root, so as root
//! they run as that package's own user.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long a server may take until it answers.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// Where Debian keeps the programs, by version.
const PROGRAMS: &str = "/usr/lib/postgresql";

/// The user the server runs as, where the tests run as root.
const USER: &str = "postgres";

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    data: TempDir,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// Makes an empty cluster and starts it. The role `mezusphere` owns the database `mezusphere`, and is no superuser.
    pub async fn start() -> anyhow::Result<Self> {
        let programs = newest()?;
        let data = tempfile::Builder::new().prefix("mezu-postgres").tempdir()?;
        std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o777))?;
        let mut postgres = Self { programs, data, port: crate::system::free_port()?, server: None };
        let made = postgres
            .program("initdb")
            .args(["--auth=trust", "--username=admin", "--encoding=UTF8", "--locale=C", "--pgdata"])
            .arg(postgres.cluster())
            .output()
            .await?;
        anyhow::ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        postgres.run().await?;
        postgres.sql("postgres", "CREATE ROLE mezusphere LOGIN").await?;
        postgres.sql("postgres", "CREATE DATABASE mezusphere OWNER mezusphere").await?;
        Ok(postgres)
    }

    /// What `--store` takes.
    pub fn url(&self) -> String {
        self.url_of("mezusphere")
    }

    /// The same for another database.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://mezusphere@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Starts the server on the data that is there, and waits until it answers.
    pub async fn run(&mut self) -> anyhow::Result<()> {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.cluster()).args(["-p", &self.port.to_string(), "-h"]);
        command.arg(Ipv4Addr::LOCALHOST.to_string()).arg("-k").arg(self.data.path());
        self.server = Some(command.kill_on_drop(true).spawn().context("cannot start postgres")?);
        let answers = async {
            while self.sql("postgres", "SELECT 1").await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(STARTS_WITHIN, answers).await.context("postgres does not answer")
    }

    /// Kills it at once (SIGKILL): connections break, nothing is written back.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut server) = self.server.take() {
            // Its children notice that it is gone and end; until they have, the data is theirs.
            server.kill().await?;
            let lock = self.cluster().join("postmaster.pid");
            match std::fs::remove_file(lock) {
                Err(why) if why.kind() != std::io::ErrorKind::NotFound => return Err(why.into()),
                Ok(()) | Err(_) => {}
            }
            let gone = async {
                while self.sql("postgres", "SELECT 1").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(STARTS_WITHIN, gone).await.context("postgres does not end")?;
        }
        Ok(())
    }

    /// Runs one statement as the administrator, and gives what it printed.
    pub async fn sql(&self, database: &str, statement: &str) -> anyhow::Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "admin"]);
        command.args(["-p", &self.port.to_string(), "-d", database, "-c", statement]).kill_on_drop(true);
        let output = command.output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "psql: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn cluster(&self) -> PathBuf {
        self.data.path().join("cluster")
    }

    /// A program of the package, run as somebody who may.
    fn program(&self, name: &str) -> Command {
        let path = self.programs.join(name);
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| {
            use std::os::unix::fs::MetadataExt as _;
            own.uid() == 0
        });
        let mut command = if is_root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir("/").stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command
    }
}

/// The programs of the newest version that is installed.
fn newest() -> anyhow::Result<PathBuf> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let installed = std::fs::read_dir(PROGRAMS).with_context(|| {
        format!("{PROGRAMS} is missing; install PostgreSQL: apt-get install postgresql, or run scripts/test")
    })?;
    installed
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/postgres").exists())
        .max_by_key(|path| version(path))
        .map(|path| path.join("bin"))
        .with_context(|| format!("no PostgreSQL server below {PROGRAMS}"))
}

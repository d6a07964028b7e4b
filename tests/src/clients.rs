//! Programs that share no code with the product, asked as people ask them: curl, h2load, chromium, and the Python
//! clients under `tests/clients`.
//!
//! A Python client prints a JSON line for each feature; [`Talk`] reads them as they come.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// No single curl or h2load takes longer, the long rows of `MEZU_FULL` aside.
const RUNS_WITHIN: Duration = Duration::from_mins(1);

/// The long rows: 10 GiB through a build without optimization.
const FULL_RUNS_WITHIN: Duration = Duration::from_mins(15);

/// Where clients are sent, and whom they trust.
#[derive(Clone, Debug)]
pub struct Place {
    /// The host, a name under `localhost`.
    pub host: String,
    /// The port, the same for TCP and UDP.
    pub port: u16,
    /// The root certificate, PEM.
    pub ca: PathBuf,
}

impl Place {
    /// `https://host:port/path`.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", self.host, self.port)
    }
}

/// Where the Python clients' programs lie.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// The interpreter of the clients' virtual environment: beside the build.
pub fn interpreter() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let target = test.ancestors().nth(3).context("a test lies in target/<profile>/deps")?;
    let python = target.join("python-clients/bin/python");
    anyhow::ensure!(
        python.exists(),
        "{} is missing; run `. scripts/lib/install.sh; need_python_clients`",
        python.display()
    );
    Ok(python)
}

/// What a client says of a feature.
#[derive(Clone, Debug, Deserialize)]
pub struct Said {
    /// `done`, or an event on the way, or a server's `ready`.
    pub event: String,
    /// Which feature.
    #[serde(default)]
    pub feature: String,
    /// Whether it works, once done.
    #[serde(default)]
    pub ok: bool,
    /// What was wrong.
    #[serde(default)]
    pub why: String,
    /// A server's port without TLS.
    #[serde(default)]
    pub plain: u16,
    /// A server's port with TLS.
    #[serde(default)]
    pub tls: u16,
}

/// A running client, or server, that prints JSON lines. Killed when dropped.
#[derive(Debug)]
pub struct Talk {
    child: Child,
    answers: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Talk {
    /// Runs a Python program with these arguments.
    pub fn python(program: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(interpreter()?);
        // No byte code beside the sources.
        command.arg("-B").arg(folder().join(program)).args(arguments);
        // A warpgate's look at a gRPC service is a HEAD, which that service has words for.
        command.env("GRPC_VERBOSITY", "NONE");
        Self::spawn(command)
    }

    /// Runs a client at a place: a Python program that takes `--ca`, `--host`, `--port`, then `more`.
    pub fn at(place: &Place, program: &str, more: &[&str]) -> anyhow::Result<Self> {
        let (ca, port) = (place.ca.display().to_string(), place.port.to_string());
        let place = ["--ca", ca.as_str(), "--host", place.host.as_str(), "--port", port.as_str()];
        Self::python(program, &[place.as_slice(), more].concat())
    }

    /// Runs a node program of the clients' folder, with these variables.
    pub fn node(program: &str, environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut command = Command::new("node");
        command.arg(folder().join(program)).envs(environment.iter().copied());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let answers = child.stdin.take().context("piped")?;
        let lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        Ok(Self { child, answers, lines })
    }

    /// Tells one that waits to go on.
    pub async fn go_on(&mut self) -> anyhow::Result<()> {
        self.answers.write_all(b"go on\n").await.context("a client no longer listens")
    }

    /// The next line; `None` once it has ended.
    pub async fn next(&mut self) -> anyhow::Result<Option<Said>> {
        let Some(line) = self.lines.next_line().await? else {
            let status = self.child.wait().await?;
            anyhow::ensure!(status.success(), "a client ended with {status}");
            return Ok(None);
        };
        Ok(Some(serde_json::from_str(&line).with_context(|| format!("no JSON: {line}"))?))
    }
}

/// What came of a curl.
#[derive(Debug)]
pub struct Fetched {
    /// Its exit code: 0, 18 for a body that was cut, 92 for a stream that was reset.
    pub code: i32,
    /// Every head, interim ones too, and trailers.
    pub heads: String,
    /// The body.
    pub body: Vec<u8>,
    /// What it complained of.
    pub said: String,
}

impl Fetched {
    /// The final head's status.
    pub fn status(&self) -> u16 {
        let lines = self.heads.lines().filter(|line| line.starts_with("HTTP/"));
        let mut statuses = lines.filter_map(|line| line.split(' ').nth(1)?.parse::<u16>().ok());
        statuses.rfind(|status| *status >= 200).unwrap_or(0)
    }

    /// The value of a header or trailer, any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut pairs = self.heads.lines().filter_map(|line| line.split_once(':'));
        pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// A curl command over `protocol` (`h1` or `h2`), without its URL; heads go to `heads`.
fn curl_command(place: &Place, protocol: &str, heads: &Path) -> Command {
    let mut command = Command::new("curl");
    let version = if protocol == "h1" { "--http1.1" } else { "--http2" };
    command
        .args(["--silent", "--show-error", version, "--cacert"])
        .arg(&place.ca)
        .arg("--dump-header")
        .arg(heads);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs curl over `protocol` (`h1` or `h2`) with these arguments before the URL, and reads all it gets.
pub async fn curl(place: &Place, protocol: &str, path: &str, arguments: &[&str]) -> anyhow::Result<Fetched> {
    let heads = tempfile::NamedTempFile::new()?;
    let mut command = curl_command(place, protocol, heads.path());
    command.args(arguments).arg(place.url(path));
    let within = if std::env::var_os("MEZU_FULL").is_some() { FULL_RUNS_WITHIN } else { RUNS_WITHIN };
    let output = tokio::time::timeout(within, command.output()).await.context("curl does not end")??;
    Ok(Fetched {
        code: output.status.code().unwrap_or(-1),
        heads: std::fs::read_to_string(heads.path())?,
        body: output.stdout,
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A curl that prints what comes as it comes. Killed when dropped.
#[derive(Debug)]
pub struct Stream {
    child: Child,
    // curl writes there as long as it lives.
    _heads: tempfile::NamedTempFile,
}

impl Stream {
    /// Opens it.
    pub fn open(place: &Place, protocol: &str, path: &str) -> anyhow::Result<Self> {
        let heads = tempfile::NamedTempFile::new()?;
        let mut command = curl_command(place, protocol, heads.path());
        let child = command.arg("--no-buffer").arg(place.url(path)).spawn()?;
        Ok(Self { child, _heads: heads })
    }

    /// The next `len` octets.
    pub async fn read(&mut self, len: usize) -> anyhow::Result<Vec<u8>> {
        let mut octets = vec![0; len];
        let out = self.child.stdout.as_mut().context("piped")?;
        tokio::time::timeout(RUNS_WITHIN, out.read_exact(&mut octets)).await.context("nothing comes")??;
        Ok(octets)
    }

    /// The next line of a response that goes on.
    pub async fn all(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut octets = Vec::new();
        let out = self.child.stdout.as_mut().context("piped")?;
        tokio::time::timeout(RUNS_WITHIN, out.read_to_end(&mut octets)).await.context("it never ends")??;
        anyhow::ensure!(self.child.wait().await?.success(), "the stream was cut");
        Ok(octets)
    }

    /// Leaves, as a person does who closes the window: the process ends, its connection with it.
    pub async fn leave(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// What h2load counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Answers of 2xx.
    pub succeeded: u32,
    /// All the rest.
    pub failed: u32,
}

/// Runs h2load: `total` requests on `connections` connections, `streams` at once on each.
pub async fn h2load(
    place: &Place,
    protocol: &str,
    path: &str,
    (total, connections, streams): (u32, u32, u32),
) -> anyhow::Result<Loaded> {
    let mut command = Command::new("h2load");
    if protocol == "h1" {
        command.arg("--h1");
    }
    command
        .args(["-n", &total.to_string(), "-c", &connections.to_string(), "-m", &streams.to_string()])
        .arg(format!("--connect-to=127.0.0.1:{}", place.port))
        .arg(place.url(path))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output =
        tokio::time::timeout(RUNS_WITHIN, command.output()).await.context("h2load does not end")??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // "status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx"
    let codes = said.lines().find_map(|line| line.strip_prefix("status codes: "));
    let succeeded = codes.and_then(|codes| codes.split(' ').next()?.parse().ok());
    let succeeded: u32 = succeeded.with_context(|| format!("h2load counted nothing:\n{said}"))?;
    if succeeded < total {
        // Whoever reads why a row failed wants to know with what.
        std::io::Write::write_all(&mut std::io::stdout(), said.as_bytes())?;
    }
    Ok(Loaded { succeeded, failed: total.saturating_sub(succeeded) })
}

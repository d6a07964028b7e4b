//! The program as a new user meets it: wrong flags, bad keys, Ctrl-C, and a key that does not show in `ps`.

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use mezusphere_model::connection_key::ConnectionKey;
use mezusphere_model::id::{ApiKeyId, EnvironmentId};
use mezusphere_model::token::{ApiKeyToken, Token};
use mezusphere_model::{Entropy, Host};

fn key() -> ConnectionKey {
    let entropy = Entropy::counting();
    ConnectionKey {
        key: ApiKeyToken { id: ApiKeyId::random(&entropy), secret: Token::random(&entropy) },
        environment: EnvironmentId::random(&entropy),
        root: [7; 32],
        host: Host::parse("connect.mezu.localhost").unwrap(),
        port: 9, // discard: nobody listens
    }
}

fn warpgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warpgate"));
    for variable in
        ["WARPGATE_KEY", "WARPGATE_KEY_FILE", "WARPGATE_KEY_WAS_ARGUMENT", "CREDENTIALS_DIRECTORY"]
    {
        command.env_remove(variable);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> (i32, String, String) {
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), utf8(&output.stdout), utf8(&output.stderr))
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn wrong_usage_ends_with_two_and_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("key");
    let nowhere = nowhere.to_str().unwrap();
    let rows: [(&[&str], &str); 6] = [
        (&[], "Usage: warpgate <COMMAND>"),
        (&["conect"], "connect"),
        (&["connect", "--keyy", "x"], "--key"),
        (&["connect", "--upstream", "ftp://127.0.0.1"], "write http://HOST:PORT"),
        (&["connect", "--output", "text"], "no connection key was given"),
        (&["connect", "--output", "text", "--key-file", nowhere], "there is no such file"),
    ];
    for (arguments, says) in rows {
        let (code, out, err) = text(&warpgate(arguments).output().unwrap());
        assert_eq!(code, 2, "{arguments:?}: {err}");
        assert!(err.contains(says), "{arguments:?}: {err}");
        assert_eq!(out, "");
    }
}

#[test]
fn a_bad_key_ends_with_ten_and_never_shows() {
    let good = key().reveal();
    let api_key = key().key.reveal();
    for bad in ["hello", &good[..good.len() - 5], &api_key] {
        for output in ["text", "json"] {
            let run = warpgate(&["connect", "--output", output, "--key", bad]).output().unwrap();
            let (code, out, err) = text(&run);
            assert_eq!(code, 10, "{out}{err}");
            let told = if output == "text" { &err } else { &out };
            assert!(told.contains("mzw_"), "what to do: {told}");
            assert!(bad.len() < 10 || !told.contains(bad));
        }
    }
}

#[test]
fn a_key_may_come_from_each_documented_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("warpgate-key");
    std::fs::write(&file, key().reveal()).unwrap();
    let path = file.to_str().unwrap();
    let connect = ["connect", "--exit-on-failure", "--output", "json"];
    let unreachable = |mut command: Command| {
        let (code, out, err) = text(&command.output().unwrap());
        assert_eq!(code, 12, "the key was read, and nobody was there: {out}{err}");
    };
    let mut by_flag = warpgate(&connect);
    by_flag.args(["--key-file", path]);
    unreachable(by_flag);
    let mut by_variable = warpgate(&connect);
    by_variable.env("WARPGATE_KEY", key().reveal());
    unreachable(by_variable);
    let mut by_credential = warpgate(&connect);
    by_credential.env("CREDENTIALS_DIRECTORY", directory.path());
    unreachable(by_credential);
    let mut by_stdin = warpgate(&connect);
    by_stdin.args(["--key", "-"]).stdin(Stdio::piped());
    let mut child = by_stdin.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{}\n", key().reveal()).as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(12));
}

#[test]
fn r25_a_key_on_the_command_line_leaves_ps_at_once() {
    for given in [vec!["--key".to_owned(), key().reveal()], vec![format!("--key={}", key().reveal())]] {
        let mut command = warpgate(&["connect", "--output", "text", "--upstream", "3000"]);
        let mut child = command.args(given).spawn().unwrap();
        let shown = || {
            let line = std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap_or_default();
            String::from_utf8(line).unwrap().replace('\0', " ")
        };
        let start = Instant::now();
        while shown().contains("mzw_") || !shown().contains("connect") {
            assert!(start.elapsed() < Duration::from_secs(5), "{}", shown());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(shown().trim().ends_with("connect --output text --upstream 3000"), "{}", shown());
        std::thread::sleep(Duration::from_millis(300));
        signal(&child, "-INT");
        let (code, out, err) = {
            let status = child.wait().unwrap();
            let read = |from: &mut dyn std::io::Read| {
                let mut text = String::new();
                from.read_to_string(&mut text).unwrap();
                text
            };
            let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
            (status.code(), read(&mut out), read(&mut err))
        };
        assert_eq!(code, Some(0), "Ctrl-C while connecting: {out}{err}");
        assert!(out.contains("note: --key was visible to other users"), "{out}");
        assert!(!out.contains(&key().reveal()) && !err.contains(&key().reveal()));
    }
}

#[test]
fn the_state_directory_must_be_usable() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let mut command = warpgate(&["connect", "--output", "text", "--state-dir", file.to_str().unwrap()]);
    let (code, _, err) = text(&command.env("WARPGATE_KEY", key().reveal()).output().unwrap());
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("the state directory") && err.contains("next:"), "{err}");
}

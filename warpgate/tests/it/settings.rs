//! Settings as a user gives them: a file that is wrong, who wins, help on a narrow terminal, completions and man pages.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mezusphere_model::connection_key::ConnectionKey;
use mezusphere_model::id::{ApiKeyId, EnvironmentId};
use mezusphere_model::token::{ApiKeyToken, Token};
use mezusphere_model::{Entropy, Host};

fn warpgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warpgate"));
    for name in
        ["WARPGATE_KEY", "WARPGATE_KEY_FILE", "CREDENTIALS_DIRECTORY", "WARPGATE_CONFIG", "HTTPS_PROXY"]
    {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn key() -> String {
    let entropy = Entropy::counting();
    let key = ConnectionKey {
        key: ApiKeyToken { id: ApiKeyId::random(&entropy), secret: Token::random(&entropy) },
        environment: EnvironmentId::random(&entropy),
        root: [7; 32],
        host: Host::parse("connect.mezu.localhost").unwrap(),
        port: 9, // discard: nobody listens
    };
    key.reveal()
}

#[test]
fn a_file_that_is_wrong_ends_with_two_names_the_line_and_what_was_meant() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("warpgate.toml");
    let path = file.to_str().unwrap();
    for (text, says) in [
        ("\nupstrem = \"3000\"", "line 2: there is no setting \"upstrem\""),
        ("upstream = [\"3000\", \"4000\"]", "the upstream default is given twice"),
        ("log = 3", "line 1: a text is wanted here"),
        ("proxy = \"socks5://x\"", "only http:// proxies can be used"),
    ] {
        std::fs::write(&file, text).unwrap();
        for verb in ["connect", "check"] {
            let (code, out, err) =
                run(warpgate(&[verb, "--output", "text", "--config", path]).env("WARPGATE_KEY", key()));
            assert_eq!(code, 2, "{verb} {text}: {out}{err}");
            assert!(err.contains(says) && err.contains("next:"), "{verb} {text}: {err}");
        }
    }
    let (code, _, err) =
        run(&mut warpgate(&["connect", "--config", "/nonexistent/warpgate.toml", "--output", "text"]));
    assert_eq!(code, 2);
    assert!(err.contains("/nonexistent/warpgate.toml") && err.contains("there is no such file"), "{err}");
}

#[test]
fn the_key_may_be_named_by_the_file_and_a_variable_wins_over_it() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("key"), key()).unwrap();
    let file = directory.path().join("warpgate.toml");
    std::fs::write(&file, "key-file = \"key\"\nexit-on-failure = true\noutput = \"text\"\n").unwrap();
    let (code, out, err) = run(&mut warpgate(&["connect", "--config", file.to_str().unwrap()]));
    assert_eq!(code, 12, "the key was found beside the file, and nobody was there: {out}{err}");
    let (code, _, err) =
        run(warpgate(&["connect", "--config", file.to_str().unwrap()]).env("WARPGATE_KEY", "nonsense"));
    assert_eq!(code, 10, "{err}");
    let (code, out, err) =
        run(warpgate(&["connect"]).env("WARPGATE_CONFIG", &file).env("WARPGATE_OUTPUT", "json"));
    assert_eq!(code, 12, "{err}");
    assert!(out.starts_with('{'), "the variable wins over the file: {out}");
}

#[test]
fn check_ends_with_ten_for_a_key_that_is_none_and_twelve_where_nobody_is() {
    let (code, out, _) = run(warpgate(&["check", "--output", "json"]).env("WARPGATE_KEY", "nonsense"));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, report["exit"].as_u64(), report["checks"][0]["verdict"].as_str()),
        (10, Some(10), Some("FAIL"))
    );
    let (code, out, _) = run(warpgate(&["check"]).env("WARPGATE_KEY", key()).env("COLUMNS", "80"));
    assert_eq!(code, 12, "{out}");
    assert!(out.contains("FAIL  control plane") && out.contains("Exit code 12."), "{out}");
    let words = |line: &&str| line.split(' ').all(|word| word.chars().count() < 40);
    assert!(out.lines().filter(words).all(|line| line.chars().count() <= 80), "{out}");
    let (code, _, err) = run(&mut warpgate(&["check"]));
    assert_eq!(code, 2, "no key at all is wrong usage: {err}");
}

#[test]
fn a_wrong_flag_or_verb_is_answered_with_the_right_one() {
    for (arguments, says) in [
        (&["connect", "--upstrem", "3000"][..], "--upstream"),
        (&["connect", "--health-chek", "/"], "--health-check"),
        (&["statsu"], "status"),
        (&["service", "instal"], "install"),
    ] {
        let (code, _, err) = run(&mut warpgate(arguments));
        assert_eq!(code, 2);
        assert!(err.contains("similar") && err.contains(says), "{arguments:?}: {err}");
    }
}

#[test]
fn completions_and_manual_pages_are_made_from_the_command_line() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run(&mut warpgate(&["completions", shell]));
        assert!(code == 0 && out.contains("require-origin"), "{shell}");
    }
    let directory = tempfile::tempdir().unwrap();
    let (code, _, err) = run(&mut warpgate(&["man", "--dir", directory.path().to_str().unwrap()]));
    assert_eq!(code, 0, "{err}");
    for page in ["warpgate", "warpgate-connect", "warpgate-service-install"] {
        let text = std::fs::read_to_string(directory.path().join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
    let (code, out, _) = run(&mut warpgate(&["man"]));
    assert!(code == 0 && out.contains("warpgate\\-connect"), "{out}");
    let (code, _, err) = run(&mut warpgate(&["man", "--dir", "/nonexistent/man"]));
    assert!(code == 2 && err.contains("next:"), "{err}");
}

#[test]
fn hanging_up_reloads_where_no_terminal_was_closed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("warpgate.toml");
    std::fs::write(&file, "upstream = \"3000\"\n").unwrap();
    let places = directory.path().join("run");
    let mut command = warpgate(&["connect", "--output", "json", "--config", file.to_str().unwrap()]);
    let mut child = command.env("WARPGATE_KEY", key()).env("WARPGATE_RUNTIME_DIR", &places).spawn().unwrap();
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
    };
    let status = || {
        let mut asking = warpgate(&["status", "--output", "json"]);
        serde_json::from_str::<serde_json::Value>(&run(asking.env("WARPGATE_RUNTIME_DIR", &places)).1).ok()
    };
    let start = Instant::now();
    let first = loop {
        if let Some(status) = status() {
            break status;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "it never answered");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(first["phase"], "enrolling");
    let upstream =
        first["settings"].as_array().unwrap().iter().find(|row| row["name"] == "upstream").unwrap();
    assert_eq!(
        (upstream["value"].as_str(), upstream["source"].as_str()),
        (Some("default=http://127.0.0.1:3000"), Some("file"))
    );
    let shown = first["settings"][0].to_string();
    assert!(shown.contains("environment") && !first.to_string().contains("mzw_"), "{shown}");
    signal("-HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert!(status().is_some(), "it runs on");
    signal("-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

//! The files that run the programs elsewhere (`deploy/`) hold what they promise, and installing a service writes them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use saphyr::{LoadableYamlNode as _, Yaml};
use warpgate::service::Unit;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap()
}

fn yaml(name: &str) -> Vec<Yaml<'static>> {
    Yaml::load_from_str(Box::leak(text(name).into_boxed_str())).unwrap()
}

fn strings(list: &Yaml<'_>) -> Vec<String> {
    list.as_vec().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

/// The instructions of a Dockerfile, continued lines joined, comments left out.
fn instructions() -> Vec<(String, String)> {
    let joined = text("Dockerfile").replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').map(|(name, rest)| (name.to_owned(), rest.to_owned())).unwrap())
        .collect()
}

#[test]
fn the_images_are_small_run_without_rights_and_hold_one_program_each() {
    const KNOWN: [&str; 12] = [
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "USER",
        "ENV",
        "VOLUME",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
        "EXPOSE",
    ];
    let all = instructions();
    for (name, rest) in &all {
        assert!(KNOWN.contains(&name.as_str()), "{name}");
        let json = ["CMD", "ENTRYPOINT", "VOLUME"].contains(&name.as_str());
        assert!(
            !json || serde_json::from_str::<Vec<String>>(rest).is_ok(),
            "{name} {rest}: no shell is there"
        );
        assert!(name != "ADD" && !rest.contains(":latest"), "{rest}");
    }
    let stages: Vec<_> =
        all.iter().filter(|(name, _)| name == "FROM").map(|(_, rest)| rest.as_str()).collect();
    assert!(stages[0].starts_with("rust:") && stages[0].ends_with(" AS build"), "{stages:?}");
    assert!(stages[1].contains("distroless") && stages[1].contains(":nonroot AS base"));
    assert_eq!(stages[2..], ["base AS warpgate", "base AS mezusphere"]);
    let after_base = all.iter().position(|(_, rest)| rest.ends_with("AS base")).unwrap();
    assert!(all[after_base..].iter().all(|(name, _)| name != "RUN"), "there is no shell to run anything");
    assert!(all.contains(&("USER".to_owned(), "65532:65532".to_owned())));
    for program in ["warpgate", "mezusphere"] {
        let copied = format!("--from=build /out/{program} /usr/local/bin/{program}");
        let entry = format!("[\"/usr/local/bin/{program}\"]");
        assert!(all.iter().any(|(name, rest)| name == "COPY" && *rest == copied), "{program}");
        assert!(all.iter().any(|(name, rest)| name == "ENTRYPOINT" && *rest == entry), "{program}");
    }
    let minimum = include_str!("../../../Cargo.toml").split("rust-version = \"").nth(1).unwrap();
    let minimum = minimum.split('"').next().unwrap();
    assert!(
        stages[0].starts_with(&format!("rust:{minimum}")),
        "the compiler is the one the workspace asks for"
    );
}

#[test]
fn the_compose_example_refers_to_what_is_there_and_gives_no_rights_away() {
    let all = yaml("compose.yaml");
    let services = all[0]["services"].as_mapping().unwrap();
    let names: Vec<_> = services.keys().filter_map(|name| name.as_str()).collect();
    assert_eq!(names, ["server", "web", "warpgate"]);
    let stages: Vec<_> =
        instructions().into_iter().filter(|(name, _)| name == "FROM").map(|(_, rest)| rest).collect();
    for (name, service) in services {
        let name = name.as_str().unwrap();
        assert_eq!(strings(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(strings(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert_eq!(service["read_only"].as_bool(), Some(true), "{name}");
        if let Some(build) = service.as_mapping_get("build") {
            let target = build["target"].as_str().unwrap();
            assert!(stages.iter().any(|stage| stage.ends_with(&format!("AS {target}"))), "{target}");
            assert_eq!(build["dockerfile"].as_str(), Some("deploy/Dockerfile"));
        }
        for volume in service.as_mapping_get("volumes").map(strings).unwrap_or_default() {
            let volume = volume.split(':').next().unwrap();
            assert!(all[0]["volumes"].as_mapping_get(volume).is_some(), "{volume} is declared");
        }
    }
    assert!(
        services.iter().all(|(name, service)| {
            name.as_str() == Some("server") || service.as_mapping_get("ports").is_none()
        }),
        "only the server has a public port"
    );
    parses_as_warpgate(&strings(&all[0]["services"]["warpgate"]["command"]));
}

#[test]
fn the_kubernetes_example_runs_without_rights_and_stops_after_the_workload() {
    let all = yaml("kubernetes/sidecar.yaml");
    let kinds: Vec<_> = all.iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds, ["ConfigMap", "Deployment"]);
    let pod = &all[1]["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
    let grace = pod["terminationGracePeriodSeconds"].as_integer().unwrap();
    assert!(grace > i64::try_from(warpgate::limits::DRAIN_GRACE.as_secs()).unwrap());
    let sidecar = &pod["initContainers"][0];
    assert_eq!(
        (sidecar["name"].as_str(), sidecar["restartPolicy"].as_str()),
        (Some("warpgate"), Some("Always"))
    );
    assert_eq!(sidecar["securityContext"]["readOnlyRootFilesystem"].as_bool(), Some(true));
    parses_as_warpgate(&strings(&sidecar["args"]));
    for mount in sidecar["volumeMounts"].as_vec().unwrap() {
        let name = mount["name"].as_str();
        assert!(
            pod["volumes"].as_vec().unwrap().iter().any(|volume| volume["name"].as_str() == name),
            "{name:?}"
        );
    }
    let labels = all[1]["spec"]["template"]["metadata"]["labels"]["app"].as_str();
    assert_eq!(all[1]["spec"]["selector"]["matchLabels"]["app"].as_str(), labels);
    let directory = tempfile::tempdir().unwrap();
    let settings = directory.path().join("warpgate.toml");
    std::fs::write(&settings, all[0]["data"]["warpgate.toml"].as_str().unwrap()).unwrap();
    assert_eq!(warpgate::config::read(&settings).unwrap().upstreams.len(), 1);
}

/// The program understands these arguments: it gets as far as the file it cannot read.
fn parses_as_warpgate(arguments: &[String]) {
    let output = warpgate(&[]).args(arguments).output().unwrap();
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("there is no such file"), "{arguments:?}: {told}");
}

fn warpgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warpgate"));
    for name in ["WARPGATE_KEY", "WARPGATE_KEY_FILE", "CREDENTIALS_DIRECTORY"] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn the_unit_in_the_repository_is_the_one_that_install_writes() {
    let unit =
        Unit { name: "warpgate".into(), program: "/usr/local/bin/warpgate".into(), groups: Vec::new() };
    assert_eq!(text("systemd/warpgate.service"), unit.text());
}

#[test]
fn every_unit_is_hardened_and_known_to_systemd_where_there_is_one() {
    let names = ["warpgate", "mezusphere", "mezusphere-control", "mezusphere-edge"];
    for name in names {
        let file = format!("systemd/{name}.service");
        let text = text(&file);
        for wanted in [
            "\nDynamicUser=yes\n",
            "\nNoNewPrivileges=yes\n",
            "\nProtectSystem=strict\n",
            "\nMemoryDenyWriteExecute=yes\n",
            "\nSystemCallFilter=@system-service\n",
            "\nRestart=always\n",
            "\nWantedBy=multi-user.target\n",
        ] {
            assert!(text.contains(wanted), "{name}: {wanted}");
        }
        let mut section = "";
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                Some(name) => section = name,
                None => assert!(line.contains('=') && !section.is_empty(), "{name}: {line}"),
            }
        }
    }
    // Without systemd on this machine its own judge is not there either.
    let Ok(output) = Command::new("systemd-analyze").arg("--version").output() else { return };
    assert!(output.status.success());
    let directory = tempfile::tempdir().unwrap();
    for name in names {
        // It also asks whether the program is there.
        let text = text(&format!("systemd/{name}.service")).replace("/usr/local/bin/warpgate", "/bin/true");
        let path = directory.path().join(format!("{name}.service"));
        std::fs::write(&path, text.replace("/usr/local/bin/mezusphere", "/bin/true")).unwrap();
        let output =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_service_is_installed_below_a_root_and_removed_again() {
    let root = tempfile::tempdir().unwrap();
    let key_file = root.path().join("key");
    let key = support_key();
    std::fs::write(&key_file, &key).unwrap();
    let (root_text, key_text) = (root.path().to_str().unwrap(), key_file.to_str().unwrap());
    let common = ["--name", "shop", "--root", root_text];
    let install = [
        "service",
        "install",
        "--key-file",
        key_text,
        "--upstream",
        "3000",
        "--program",
        "/usr/bin/warpgate",
    ];
    let run = |arguments: &[&str], more: &[&str]| {
        let output = warpgate(arguments).args(common).args(more).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = run(&install, &["--dry-run"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("would write") && out.contains("Type=notify") && !out.contains(&key), "{out}");
    assert!(!root.path().join("etc").exists());

    let (code, out, err) = run(&install, &[]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("systemctl daemon-reload && systemctl enable shop"),
        "what to run where it runs: {out}"
    );
    let unit = root.path().join("etc/systemd/system/shop.service");
    assert!(std::fs::read_to_string(&unit).unwrap().contains("ExecStart=/usr/bin/warpgate connect"));
    assert_eq!(std::fs::read_to_string(root.path().join("etc/warpgate/shop.key")).unwrap().trim(), key);

    let (code, out, err) = run(&["service", "uninstall"], &[]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("removed") && !unit.exists(), "{out}");
    let (code, _, err) = run(&["service", "uninstall"], &[]);
    assert_eq!(code, 2);
    assert!(err.contains("there is no service shop") && err.contains("next:"), "{err}");
}

fn support_key() -> String {
    use mezusphere_model::connection_key::ConnectionKey;
    use mezusphere_model::id::{ApiKeyId, EnvironmentId};
    use mezusphere_model::token::{ApiKeyToken, Token};
    let key = ConnectionKey {
        key: ApiKeyToken { id: ApiKeyId::from_bits(9), secret: Token::from_bytes([9; 32]) },
        environment: EnvironmentId::from_bits(1),
        root: [7; 32],
        host: mezusphere_model::Host::parse("connect.mezu.localhost").unwrap(),
        port: 9,
    };
    key.reveal()
}

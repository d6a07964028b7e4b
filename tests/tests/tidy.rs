//! The repository's own rules, as tests: floors, file headers, dead files, dead links, error codes, bans.
//!
//! Reads the checkout as text; needs nothing built and nothing installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A crate may use only crates of lower floors (ARCHITECTURE.md, "Floors").
const FLOORS: [(&str, &str, u8); 15] = [
    ("model", "mezusphere-model", 0),
    ("telemetry", "mezusphere-telemetry", 0),
    ("udp", "mezusphere-udp", 0),
    ("tunnel-proto", "tunnel-proto", 1),
    ("pki", "mezusphere-pki", 1),
    ("store", "mezusphere-store", 1),
    ("identity", "mezusphere-identity", 2),
    ("edge-link", "mezusphere-edge-link", 2),
    ("edge", "mezusphere-edge", 3),
    ("control", "mezusphere-control", 3),
    ("warpgate", "warpgate", 3),
    ("mezusphere", "mezusphere", 4),
    ("tests", "mezusphere-tests", 5),
    ("examples/echo", "mezusphere-example-echo", 5),
    ("examples/verify-rust", "mezusphere-example-verify", 5),
];

/// Dotted words that look like error codes and are not: file names, audit actions, example hosts.
const NOT_CODES: [&str; 16] = [
    "control.id",
    "control.mezu.internal",
    "edge.evict",
    "edge.example",
    "edge.invite",
    "edge.join",
    "edge.json",
    "edge.mezu.internal",
    "edge.rejoin",
    "edge.uninvite",
    "key.pem",
    "key.prompt",
    "warpgate.enroll",
    "warpgate.evict",
    "warpgate.name",
    "warpgate.renew",
];

/// A file longer than this must say in its header why it is one piece.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in the repository").to_owned()
}

/// Files of the checkout with this ending, in order; build output, dependencies and hidden folders left out.
fn files(ending: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("readable folder").map(|entry| entry.expect("readable entry")) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if name.starts_with('.') || ["target", "node_modules", "bench-results"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                walk(&path, ending, found);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), ending, &mut found);
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Names of a manifest's own crates among its dependencies, without those for tests only.
fn own_dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]" || line == "[build-dependencies]";
        } else if inside {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if FLOORS.iter().any(|(_, package, _)| *package == name) {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

#[test]
fn a_crate_uses_only_lower_floors() {
    let floor: BTreeMap<&str, u8> = FLOORS.iter().map(|(_, package, floor)| (*package, *floor)).collect();
    for (dir, package, own) in FLOORS {
        let manifest = read(&root().join(dir).join("Cargo.toml"));
        for used in own_dependencies(&manifest) {
            assert!(
                floor[used.as_str()] < own,
                "{package} (floor {own}) uses {used} (floor {})",
                floor[used.as_str()]
            );
        }
    }
}

#[test]
fn every_workspace_member_has_a_floor() {
    let manifest = read(&root().join("Cargo.toml"));
    let members =
        manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).expect("members");
    for member in members.split(',').map(|m| m.trim().trim_matches('"')).filter(|m| !m.is_empty()) {
        assert!(FLOORS.iter().any(|(dir, _, _)| *dir == member), "{member} has no floor in {}", file!());
    }
}

#[test]
fn only_the_node_links_both_halves_of_the_store() {
    let edge = read(&root().join("edge/Cargo.toml"));
    let control = read(&root().join("control/Cargo.toml"));
    let warpgate = read(&root().join("warpgate/Cargo.toml"));
    let plain = |manifest: &str| manifest.split("[dev-dependencies]").next().unwrap_or_default().to_owned();
    assert!(!plain(&edge).contains("\"primary\""), "an edge never links SQL");
    assert!(!plain(&control).contains("\"replica\""), "control never links sled");
    assert!(!plain(&warpgate).contains("mezusphere-store"), "a warpgate links neither");
}

#[test]
fn every_source_file_says_what_it_owns() {
    for path in files(".rs") {
        let text = read(&path);
        assert!(text.starts_with("//!"), "{} has no module header", short(&path));
        assert!(!text.starts_with("//! placeholder"), "{} is a placeholder", short(&path));
    }
}

#[test]
fn a_long_file_says_why_it_is_one_piece() {
    for path in files(".rs") {
        let text = read(&path);
        let lines = text.lines().count();
        let header: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(
            lines <= LINES_MAX || header.contains("one piece"),
            "{} has {lines} lines: find its seam, or say in its header why it is one piece",
            short(&path)
        );
    }
}

#[test]
fn every_source_file_belongs_to_its_crate() {
    let sources: Vec<String> = files(".rs").iter().map(|path| read(path)).collect();
    for path in files(".rs") {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let dir = path.parent().expect("a folder");
        let standalone = ["lib", "main", "build"].contains(&name.as_str())
            || ["bin", "tests", "examples", "benches", "fuzz_targets"].iter().any(|kind| dir.ends_with(kind));
        if standalone {
            continue;
        }
        let (module, parents) = if name == "mod" {
            let module = dir.file_name().expect("a name").to_string_lossy().into_owned();
            let above = dir.parent().expect("a folder");
            (module, vec![above.join("mod.rs"), above.join("lib.rs"), above.join("main.rs")])
        } else {
            let sibling = dir.with_extension("rs");
            (name, vec![dir.join("mod.rs"), dir.join("lib.rs"), dir.join("main.rs"), sibling])
        };
        // Test code that several test binaries share is declared with its path.
        let by_path = format!("/{}/mod.rs\"]", dir.file_name().unwrap_or_default().to_string_lossy());
        if sources.iter().any(|source| source.contains(&by_path)) {
            continue;
        }
        // A folder of shared test code is declared by each test file beside it.
        let beside = dir.parent().map(|above| above.join("tests")).unwrap_or_default();
        let declared = |parent: &PathBuf| {
            fs::read_to_string(parent).is_ok_and(|text| {
                text.lines().any(|line| {
                    let line = line.trim_start();
                    let line = line.strip_prefix("pub").map_or(line, |rest| {
                        rest.split_once(") ").map_or(rest, |(_, rest)| rest).trim_start()
                    });
                    line.starts_with(&format!("mod {module};"))
                })
            })
        };
        let siblings: Vec<PathBuf> = [dir.parent().map(Path::to_owned), Some(beside)]
            .into_iter()
            .flatten()
            .filter(|dir| dir.ends_with("tests") || dir.ends_with("examples"))
            .filter_map(|dir| fs::read_dir(dir).ok())
            .flat_map(|entries| entries.filter_map(|entry| entry.ok().map(|entry| entry.path())))
            .collect();
        assert!(
            parents.iter().any(declared) || siblings.iter().any(declared),
            "{} is declared by no module: a dead file",
            short(&path)
        );
    }
}

#[test]
fn no_work_is_left_for_somebody_else() {
    // Spelled so that this file does not find itself.
    let marks = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
    ];
    for path in files(".rs") {
        let text = read(&path);
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{} holds {mark}", short(&path));
        }
    }
}

/// `(text, target)` of the inline links of a Markdown text, code left out.
fn links(markdown: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push(rest[..end].to_owned());
            }
        }
    }
    found
}

/// The anchors a Markdown text has, as forges make them from headings.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let headings = markdown.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let keep = |c: char| c.is_alphanumeric() || c == ' ' || c == '-' || c == '_';
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title.chars().filter(|c| keep(*c)).collect::<String>().replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_in_the_docs_leads_somewhere() {
    for path in files(".md") {
        let text = read(&path);
        for link in links(&text) {
            if link.starts_with("http://") || link.starts_with("https://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(f, a)| (f, Some(a)));
            let target =
                if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            assert!(target.exists(), "{}: dead link {link}", short(&path));
            if let Some(anchor) = anchor {
                assert!(anchors(&read(&target)).contains(anchor), "{}: no heading for {link}", short(&path));
            }
        }
    }
}

#[test]
fn every_error_code_is_explained() {
    let listed = read(&root().join("docs/errors.md"));
    let mut missing = BTreeSet::new();
    for path in files(".rs") {
        let name = short(&path);
        if name.contains("tests/") || name.ends_with("tests.rs") || name.contains("/examples/") {
            continue;
        }
        let text = read(&path);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in code.split('"').skip(1).step_by(2) {
            let known = [
                "edge.",
                "warpgate.",
                "tunnel.",
                "control.",
                "key.",
                "clock.",
                "agent.",
                "login.",
                "join.",
                "trust.",
            ];
            let is_code = known.iter().any(|prefix| word.starts_with(prefix))
                && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.')
                && !word.ends_with('.')
                && !NOT_CODES.contains(&word);
            if is_code && !listed.contains(&format!("`{word}`")) {
                missing.insert(format!("{word} ({name})"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/errors.md does not explain: {missing:#?}");
}

#[test]
fn nothing_forbidden_is_linked() {
    // The lock file also names what other platforms would link; what counts is what is linked here.
    let arguments = [
        "tree",
        "--workspace",
        "--all-features",
        "--locked",
        "--offline",
        "--prefix",
        "none",
        "--edges",
        "all",
    ];
    let output = std::process::Command::new(env!("CARGO")).args(arguments).current_dir(root()).output();
    let output = output.expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("UTF-8");
    let linked: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, rest)| (name, rest.split(' ').next().unwrap_or_default()))
        .collect();
    let versions = |name: &str| -> Vec<&str> {
        linked.iter().filter(|(linked, _)| *linked == name).map(|(_, version)| *version).collect()
    };
    for banned in ["ring", "openssl", "openssl-sys", "native-tls"] {
        assert!(versions(banned).is_empty(), "{banned} is linked");
    }
    for single in ["rustls", "quinn-proto", "h2", "hyper", "tokio"] {
        assert_eq!(versions(single).len(), 1, "{single}: {:?}", versions(single));
    }
    assert!(versions("rustls")[0].starts_with("0.23."), "rustls 0.24 is a development version");
}

#[test]
fn every_requirement_said_to_be_shown_has_its_test() {
    let model = read(&root().join("docs/threat-model.md"));
    let sources: Vec<String> = files(".rs").iter().map(|path| read(path)).collect();
    let is_requirement = |line: &&str| {
        line.strip_prefix("| R").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    for row in model.lines().filter(is_requirement) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (number, shown) = (cells[1].trim_start_matches('R'), cells[3]);
        let test = format!("fn r{number:0>2}_");
        assert!(
            shown == "later" || sources.iter().any(|source| source.contains(&test)),
            "R{number} is said to be shown ({shown}), and no test is named {test}"
        );
    }
}

#[test]
fn every_test_the_threat_model_names_exists() {
    let model = read(&root().join("docs/threat-model.md"));
    let sources: Vec<String> = files(".rs").iter().map(|path| read(path)).collect();
    // Tests are named as facts, so nothing else that is quoted there has as many words.
    let is_name = |word: &&str| {
        let plain = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'_';
        word.bytes().all(plain) && word.matches('_').count() >= 3
    };
    let named: Vec<&str> = model.split('`').skip(1).step_by(2).filter(is_name).collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        let test = format!("fn {name}(");
        assert!(sources.iter().any(|source| source.contains(&test)), "no test is called {name}");
    }
}

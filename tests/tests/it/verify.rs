//! The examples that verify the assertion: behind a real warpgate they answer who it is, and believe nothing else.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use mezusphere_tests::client::browser::Browser;
use mezusphere_tests::clients;
use mezusphere_tests::program::Program;
use mezusphere_tests::system::Node;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tunnel_proto::jws::{self, Jwk, SigningKey};

const ISSUER: &str = "spiffe://mezu.internal";
const AUDIENCE: &str = "prj_ours/env_ours";
const TYP: &str = "mezu-assertion+jwt";

/// A workload in one of the languages.
#[derive(Clone, Copy, Debug)]
enum Example {
    Rust,
    Node,
    Python,
}

impl Example {
    /// Starts it on a free port; gives it and its address.
    async fn start(self, arguments: &[&str]) -> Result<(Program, String)> {
        let listen = ["--listen", "127.0.0.1:0"];
        let words = [listen.as_slice(), arguments].concat();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let program = match self {
            Self::Rust => Program::start("mezusphere-example-verify", &words, &[])?,
            Self::Node => script(Path::new("node"), &folder.join("verify-node/server.mjs"), &words)?,
            Self::Python => {
                script(&clients::interpreter()?, &folder.join("verify-python/server.py"), &words)?
            }
        };
        let line = program.line("its address", |line| line.starts_with("listening on ")).await?;
        let address = line.trim_start_matches("listening on http://").to_owned();
        Ok((program, address))
    }
}

fn script(interpreter: &Path, script: &Path, words: &[&str]) -> Result<Program> {
    Program::start_outside(interpreter, &[&[script.to_str().context("a path in UTF-8")?], words].concat())
}

/// What the workload answers to a request with these fields, asked directly.
async fn ask(address: &str, fields: &[(&str, &str)]) -> Result<(StatusCode, Value)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the sender.
    tokio::spawn(connection);
    let mut request = Request::get("/").header(header::HOST, address);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::<bytes::Bytes>::default())?).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body)?))
}

fn now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the examples read the machine's clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "usr_zoe", "email": "zoe@shop.example", "name": "Zoë",
        "roles": ["customer"], "iat": now() - 5, "exp": now() + 600, "auth_time": now() - 5, "amr": ["pwd"], "acr": "aal1",
    })
}

fn key() -> Result<SigningKey> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    SigningKey::from_pkcs8(&pair.serialize_der()).context("a P-256 key")
}

fn sign(key: &SigningKey, typ: &str, claims: &Value) -> Result<String> {
    Ok(jws::sign(key, typ, claims.to_string().as_bytes())?)
}

/// An assertion with another header under the same key's name; signed by `sign`, if at all.
fn forged(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| BASE64URL.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), BASE64URL.encode(signature))
}

/// What an example is shown, and what it must say.
fn rows(ours: &SigningKey) -> Result<Vec<(&'static str, String, &'static str)>> {
    let with = |name: &str, value: Value| {
        let mut changed = claims();
        changed[name] = value;
        changed
    };
    let kid = &ours.public().kid;
    let good = sign(ours, TYP, &claims())?;
    let (signed, signature) = good.rsplit_once('.').context("three parts")?;
    let other_payload = {
        let (head, _) = signed.split_once('.').context("three parts")?;
        format!("{head}.{}.{signature}", BASE64URL.encode(with("sub", json!("usr_admin")).to_string()))
    };
    let impostor = {
        // Another key under our key's name.
        let (head, payload) = signed.split_once('.').context("three parts")?;
        let theirs = sign(&key()?, TYP, &claims())?;
        format!("{head}.{payload}.{}", theirs.rsplit_once('.').context("three parts")?.1)
    };
    let header = |alg: &str| json!({ "alg": alg, "typ": TYP, "kid": kid });
    Ok(vec![
        ("expired", sign(ours, TYP, &with("exp", json!(now() - 1)))?, "expired"),
        ("foreign audience", sign(ours, TYP, &with("aud", json!("prj_ours/env_other")))?, "wrong audience"),
        ("audience as a list", sign(ours, TYP, &with("aud", json!([AUDIENCE])))?, ""),
        ("foreign issuer", sign(ours, TYP, &with("iss", json!("spiffe://evil.internal")))?, "wrong issuer"),
        ("of the future", sign(ours, TYP, &with("iat", json!(now() + 3600)))?, "not valid yet"),
        ("another type", sign(ours, "JWT", &claims())?, "wrong type"),
        ("unknown key", sign(&key()?, TYP, &claims())?, "unknown key"),
        ("another payload", other_payload, "bad signature"),
        ("another key under our name", impostor, "bad signature"),
        ("none", forged(&header("none"), &claims(), &[]), "wrong algorithm"),
        ("HMAC with the public key", forged(&header("HS256"), &claims(), &[7; 32]), "wrong algorithm"),
        ("no signature", format!("{signed}."), ""),
        ("half a signature", good[..good.len() - 20].to_owned(), ""),
        ("a number", "1".to_owned(), ""),
        ("empty", String::new(), "nobody is signed in"),
    ])
}

async fn believes_nothing_else(example: Example) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ours = key()?;
    let set: PathBuf = dir.path().join("jwks.json");
    let keys = std::slice::from_ref(ours.public());
    tokio::fs::write(&set, Jwk::write_set(keys).to_string()).await?;
    let file = set.to_str().context("a path in UTF-8")?;
    let arguments = ["--issuer", ISSUER, "--audience", AUDIENCE, "--keys", file];
    let (_program, address) = example.start(&arguments).await?;
    let good = sign(&ours, TYP, &claims())?;
    let (status, told) = ask(&address, &[("mezu-assertion", &good)]).await?;
    assert_eq!((status, &told["account"]), (StatusCode::OK, &json!("usr_zoe")), "{example:?} {told}");
    assert_eq!((&told["name"], &told["roles"]), (&json!("Zoë"), &json!(["customer"])), "{example:?}");
    for (what, assertion, why) in rows(&ours)? {
        let (status, told) = ask(&address, &[("mezu-assertion", &assertion)]).await?;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{example:?} {what} {told}");
        assert!(why.is_empty() || told["error"] == why, "{example:?} {what}: {told}");
    }
    for fields in [
        &[][..],
        &[("mezu-user-id", "usr_zoe"), ("mezu-user-email", "zoe@shop.example")],
        &[("mezu-assertion", good.as_str()), ("mezu-assertion", good.as_str())],
    ] {
        let (status, told) = ask(&address, fields).await?;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{example:?} {fields:?} {told}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r06_no_example_believes_what_control_did_not_sign_for_it() -> Result<()> {
    for example in [Example::Rust, Example::Node, Example::Python] {
        believes_nothing_else(example).await?;
    }
    Ok(())
}

/// What a workload would be told to expect of its environment.
async fn expected(node: &Node, project: &str) -> Result<(String, String)> {
    let list = node.admin(&["environment", "list", project]).await?;
    let environment = list.pointer("/items/0").or_else(|| list.get(0)).context("an environment")?;
    let text = |name: &str| environment[name].as_str().map(str::to_owned).context("a text");
    Ok((text("issuer")?, text("audience")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_example_behind_a_warpgate_says_who_you_are() -> Result<()> {
    let node = Node::start(&[]).await?;
    let shop = node.seed_shop().await?;
    let (issuer, audience) = expected(&node, "shop").await?;
    let keys = format!("https://{}:{}/.mezu/jwks.json", shop.host, node.port);
    let roots = node.roots().display().to_string();
    let arguments = ["--issuer", &issuer, "--audience", &audience, "--keys", &keys, "--ca", &roots];
    for example in [Example::Rust, Example::Node, Example::Python] {
        let (_program, address) = example.start(&arguments).await?;
        let gate = node.connect(&shop.connection_key, &address).await?;
        let mut browser = Browser::new(&node.roots());
        let account = format!("https://{}:{}/account/me", shop.host, node.port);
        let arrived = browser.sign_in(&account, &shop.email, &shop.password).await?;
        let told: Value = serde_json::from_str(&arrived.body).with_context(|| arrived.body.clone())?;
        assert_eq!(told["account"], shop.user, "{example:?} {told}");
        assert_eq!(
            (&told["email"], &told["roles"]),
            (&json!(shop.email), &json!(["customer"])),
            "{example:?}"
        );
        let stranger =
            Browser::new(&node.roots()).navigate(&account.replace("/account/me", "/public")).await?;
        assert_eq!(
            stranger.status,
            StatusCode::UNAUTHORIZED,
            "{example:?}: on a public route nobody is told"
        );
        gate.kill().await?;
    }
    Ok(())
}

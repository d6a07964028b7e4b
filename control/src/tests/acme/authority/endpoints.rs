//! The authority's endpoints (RFC 8555 §7): what each answers, and what it changes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use mezusphere_model::Timestamp;
use mezusphere_model::document::{Document, Partition};
use mezusphere_store::feed::FeedSource as _;
use rcgen::{CertificateSigningRequestParams, KeyPair, SanType};
use serde_json::{Value, json};

use super::{Authority, Order, Reply};

impl Authority {
    pub(super) fn directory(&self) -> Reply {
        self.count("directory");
        let mut directory = json!({
            "newNonce": "https://ca.example/nonce",
            "newAccount": "https://ca.example/account",
            "newOrder": "https://ca.example/order",
        });
        if self.state().window.is_some() {
            directory["renewalInfo"] = json!("https://ca.example/renewal");
        }
        Reply::json(200, &directory)
    }

    pub(super) fn renewal(&self) -> Reply {
        self.count("renewal");
        let Some((start, end)) = self.state().window.clone() else { return Reply::problem(404, "malformed") };
        Reply::json(200, &json!({ "suggestedWindow": { "start": start, "end": end } }))
            .with("retry-after", "21600")
    }

    fn count(&self, endpoint: &'static str) {
        *self.state().asked.entry(endpoint).or_default() += 1;
    }

    pub(super) async fn post(&self, path: &str, body: &[u8]) -> Reply {
        let jws: Value = serde_json::from_slice(body).unwrap();
        let part = |name: &str| {
            let text = jws[name].as_str().unwrap();
            (!text.is_empty())
                .then(|| serde_json::from_slice::<Value>(&BASE64URL.decode(text).unwrap()).unwrap())
        };
        let (protected, payload) = (part("protected").unwrap(), part("payload"));
        assert_eq!(protected["url"], format!("https://ca.example{path}"), "RFC 8555 §6.4");
        if !self.takes(protected["nonce"].as_str().unwrap()) {
            return Reply::problem(400, "badNonce");
        }
        if self.state().mischief.loses_accounts && path != "/account" {
            return Reply::problem(400, "accountDoesNotExist");
        }
        let steps: Vec<_> = path.trim_start_matches('/').split('/').collect();
        let number = |text: &str| text.parse::<usize>().unwrap();
        match steps.as_slice() {
            ["account"] => self.account(),
            ["order"] => self.new_order(&payload.unwrap()),
            ["order", id] => self.order(number(id), 200),
            ["authz", id, name] => self.authorization(number(id), name),
            ["chall", id, name, kind] => self.challenge(number(id), name, kind).await,
            ["finalize", id] => self.finalize(number(id), &payload.unwrap()),
            ["cert", id] => self.certificate(number(id)),
            _ => Reply::problem(404, "malformed"),
        }
    }

    /// Whether a nonce is good; each is good once.
    fn takes(&self, nonce: &str) -> bool {
        let mut state = self.state();
        let known = state.nonces.remove(nonce);
        known && (state.drawn.is_multiple_of(4) || !state.mischief.refuses_nonces)
    }

    fn account(&self) -> Reply {
        self.count("account");
        let mut state = self.state();
        state.accounts += 1;
        let url = format!("https://ca.example/account/{}", state.accounts);
        Reply::json(201, &json!({ "status": "valid" })).with("location", url)
    }

    fn new_order(&self, payload: &Value) -> Reply {
        self.count("order");
        if let Some(seconds) = self.state().mischief.limits {
            return Reply::problem(429, "rateLimited").with("retry-after", seconds.to_string());
        }
        let names: Vec<String> = payload["identifiers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|identifier| identifier["value"].as_str().unwrap().to_owned())
            .collect();
        let proofs = names.iter().map(|name| (name.clone(), "pending")).collect();
        let id = {
            let mut state = self.state();
            state.orders.push(Order { names, status: "pending", proofs, problem: None, chain: None });
            state.orders.len() - 1
        };
        let mut reply = self.order(id, 201);
        if let Some(replaced) = payload.get("replaces") {
            let mut body: Value = serde_json::from_str(&reply.body).unwrap();
            body["replaces"] = replaced.clone();
            reply.body = body.to_string();
        }
        reply.with("location", format!("https://ca.example/order/{id}"))
    }

    fn order(&self, id: usize, status: u16) -> Reply {
        let state = self.state();
        if state.mischief.loses_orders && status == 200 {
            return Reply::problem(404, "malformed");
        }
        let Some(order) = state.orders.get(id) else { return Reply::problem(404, "malformed") };
        let told = if state.mischief.dawdles { "processing" } else { order.status };
        let mut authorizations: Vec<_> =
            order.names.iter().map(|name| format!("https://ca.example/authz/{id}/{name}")).collect();
        if state.mischief.asks_twice {
            authorizations.extend_from_within(..);
        }
        let mut body = json!({
            "status": told,
            "identifiers": order.names.iter().map(|name| json!({ "type": "dns", "value": name })).collect::<Vec<_>>(),
            "authorizations": authorizations,
            "finalize": format!("https://ca.example/finalize/{id}"),
        });
        if order.chain.is_some() {
            body["certificate"] = json!(format!("https://ca.example/cert/{id}"));
        }
        Reply::json(status, &body)
    }

    fn authorization(&self, id: usize, name: &str) -> Reply {
        let state = self.state();
        let Some(order) = state.orders.get(id) else { return Reply::problem(404, "malformed") };
        let status = order.proofs.get(name).copied().unwrap();
        let bare = name.trim_start_matches("*.");
        let kinds: &[&str] = if bare == name { &["http-01", "tls-alpn-01", "dns-01"] } else { &["dns-01"] };
        let challenges: Vec<_> = kinds
            .iter()
            .map(|kind| {
                let mut challenge = json!({
                    "type": kind,
                    "url": format!("https://ca.example/chall/{id}/{name}/{kind}"),
                    "token": token(id, name, kind),
                    "status": status,
                });
                if let (Some(problem), "tls-alpn-01" | "http-01") = (&order.problem, *kind) {
                    challenge["error"] = problem.clone();
                }
                challenge
            })
            .collect();
        Reply::json(
            200,
            &json!({
                "identifier": { "type": "dns", "value": bare },
                "status": status,
                "wildcard": bare != name,
                "challenges": challenges,
            }),
        )
    }

    /// Looks for the proof where edges, or the DNS, would have it.
    async fn challenge(&self, id: usize, name: &str, kind: &str) -> Reply {
        self.count("challenge");
        let token = token(id, name, kind);
        let is_there = if kind == "dns-01" {
            let bare = name.trim_start_matches("*.");
            let wanted = format!("_acme-challenge.{bare}");
            self.state().records.iter().any(|(name, value)| *name == wanted && value.len() == 43)
        } else {
            let page = self.primary.snapshot(Partition::Platform, None, 1000).await.unwrap();
            page.documents.iter().any(|filed| {
                matches!(
                    serde_json::from_str(filed.body.get()).unwrap(),
                    Document::AcmeChallenge(doc) if doc.token == token && doc.host.as_str() == name
                        && doc.key_authorization.starts_with(&format!("{token}."))
                )
            })
        };
        let mut state = self.state();
        let problem = match state.mischief.finds {
            Some(kind) => Some(kind),
            None if is_there => None,
            None => Some("unauthorized"),
        };
        let Some(order) = state.orders.get_mut(id) else { return Reply::problem(404, "malformed") };
        if let Some(kind) = problem {
            order.status = "invalid";
            order.proofs.insert(name.to_owned(), "invalid");
            let kind = format!("urn:ietf:params:acme:error:{kind}");
            order.problem = Some(json!({ "type": kind, "detail": format!("{name} is not yours") }));
        } else {
            order.proofs.insert(name.to_owned(), "valid");
            if order.proofs.values().all(|status| *status == "valid") {
                order.status = "ready";
            }
        }
        let url = format!("https://ca.example/chall/{id}/{name}/{kind}");
        Reply::json(200, &json!({ "type": kind, "url": url, "token": token, "status": "processing" }))
    }

    fn finalize(&self, id: usize, payload: &Value) -> Reply {
        self.count("finalize");
        let request = BASE64URL.decode(payload["csr"].as_str().unwrap()).unwrap();
        let mut csr = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
        let now = self.hand.clock().now();
        {
            let mut state = self.state();
            if state.orders.get(id).is_none_or(|order| order.status != "ready") {
                return Reply::problem(403, "orderNotReady");
            }
            let at = |at: Timestamp| time::OffsetDateTime::from_unix_timestamp(at.as_seconds()).unwrap();
            let begin = now.before(state.mischief.stale);
            csr.params.not_before = at(begin);
            csr.params.not_after = at(begin.after(state.life));
            let surplus = state.mischief.adds.map(|name| SanType::DnsName(name.try_into().unwrap()));
            csr.params.subject_alt_names.extend(surplus);
            csr.params.use_authority_key_identifier_extension = true;
            csr.params.serial_number = Some(u64::try_from(id + 1).unwrap().into());
            let leaf = if state.mischief.swaps_keys {
                csr.params.signed_by(&KeyPair::generate().unwrap(), &*self.issuer).unwrap()
            } else {
                csr.signed_by(&self.issuer).unwrap()
            };
            let order = state.orders.get_mut(id).unwrap();
            order.chain = Some(leaf.pem() + &self.own_pem);
            order.status = "valid";
        }
        self.order(id, 200)
    }

    fn certificate(&self, id: usize) -> Reply {
        self.count("certificate");
        let state = self.state();
        match state.orders.get(id).and_then(|order| order.chain.clone()) {
            Some(chain) => Reply { status: 200, body: chain, headers: Vec::new() },
            None => Reply::problem(404, "malformed"),
        }
    }
}

fn token(id: usize, name: &str, kind: &str) -> String {
    format!("token-{id}-{}-{kind}", name.replace(['.', '*'], "_"))
}

//! A client with a browser's habits and no screen: cookies by host, redirects, hidden form fields, Fetch metadata.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::Full;

use super::{Target, h1, tls};

/// Most redirects followed, as browsers do.
const REDIRECTS_MAX: usize = 20;

/// A browser profile: its cookies live as long as it does.
#[derive(Debug)]
pub struct Browser {
    roots: PathBuf,
    /// Which edge its resolver answers with; `None`: what the names say.
    via: Option<IpAddr>,
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

/// Where a navigation ended.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The last URL.
    pub url: String,
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as text.
    pub body: String,
    /// Every URL on the way, the last one included.
    pub way: Vec<String>,
}

impl Browser {
    /// An empty profile that trusts `roots`.
    pub fn new(roots: &Path) -> Self {
        Self { roots: roots.to_owned(), via: None, cookies: BTreeMap::new() }
    }

    /// From now on every name leads to this edge, as if its resolver had answered so.
    pub fn resolve_to(&mut self, edge: IpAddr) {
        self.via = Some(edge);
    }

    /// The cookies it would send to a host.
    pub fn cookies(&self, host: &str) -> BTreeMap<String, String> {
        self.cookies.get(host).cloned().unwrap_or_default()
    }

    /// Puts a cookie into the jar.
    pub fn set_cookie(&mut self, host: &str, name: &str, value: &str) {
        self.cookies.entry(host.to_owned()).or_default().insert(name.to_owned(), value.to_owned());
    }

    /// Types a URL into the address bar and follows where it leads.
    pub async fn navigate(&mut self, url: &str) -> anyhow::Result<Arrived> {
        self.follow(url, None, "none").await
    }

    /// Loads a URL once, without following redirects.
    pub async fn load(&mut self, url: &str) -> anyhow::Result<Arrived> {
        let (arrived, _) = self.once(url, None, "none").await?;
        Ok(arrived)
    }

    /// Submits the first form of a page with these fields, beside its hidden ones, and follows.
    pub async fn submit(&mut self, page: &Arrived, fields: &[(&str, &str)]) -> anyhow::Result<Arrived> {
        let form = page.body.split("<form").nth(1).with_context(|| format!("{} has no form", page.url))?;
        let form = form.split("</form>").next().unwrap_or_default();
        let action = attribute(form, "action").unwrap_or_default();
        let mut all: Vec<(String, String)> = form
            .split("<input")
            .skip(1)
            .filter(|input| attribute(input, "type").as_deref() == Some("hidden"))
            .filter_map(|input| Some((attribute(input, "name")?, attribute(input, "value")?)))
            .collect();
        all.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let url = resolve(&page.url, if action.is_empty() { &page.url } else { &action })?;
        self.follow(&url, Some(encode(&all)), "same-origin").await
    }

    /// Signs in on the page a protected URL leads to, and gives where that ends.
    pub async fn sign_in(&mut self, url: &str, email: &str, password: &str) -> anyhow::Result<Arrived> {
        let page = self.navigate(url).await?;
        anyhow::ensure!(
            page.body.contains("type=\"password\""),
            "{} is no sign-in page:\n{}",
            page.url,
            page.body
        );
        self.submit(&page, &[("email", email), ("password", password)]).await
    }

    async fn follow(&mut self, url: &str, form: Option<String>, site: &str) -> anyhow::Result<Arrived> {
        let (mut url, mut form, mut way) = (url.to_owned(), form, Vec::new());
        for _ in 0..REDIRECTS_MAX {
            way.push(url.clone());
            let (mut arrived, location) = self.once(&url, form.take(), site).await?;
            let Some(next) = location.filter(|_| arrived.status.is_redirection()) else {
                arrived.way = way;
                return Ok(arrived);
            };
            url = resolve(&url, &next)?;
        }
        anyhow::bail!("a redirect loop: {}", way.join(" → "))
    }

    async fn once(
        &mut self,
        url: &str,
        form: Option<String>,
        site: &str,
    ) -> anyhow::Result<(Arrived, Option<String>)> {
        let mut target = Target::parse(url)?;
        if let Some(edge) = self.via {
            target.address.set_ip(edge);
        }
        let config = Arc::new(tls(&self.roots, &[b"http/1.1"])?);
        let mut connection = h1::Connection::open(&target, &config).await.with_context(|| url.to_owned())?;
        let mut request = Request::builder()
            .uri(&target.path)
            .header(header::HOST, &target.authority)
            .header(header::ACCEPT, "text/html,application/xhtml+xml")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
            .header("sec-fetch-site", site);
        let cookies = self.cookies(&target.host);
        if !cookies.is_empty() {
            let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(header::COOKIE, pairs.join("; "));
        }
        let request = match form {
            None => request.body(Full::default())?,
            Some(form) => request
                .method("POST")
                .header(header::ORIGIN, format!("https://{}", target.authority))
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::new(Bytes::from(form)))?,
        };
        let response = connection.fetch(request).await.with_context(|| url.to_owned())?;
        self.keep_cookies(&target.host, &response);
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.map(str::to_owned);
        let (head, body) = response.into_parts();
        let body = String::from_utf8_lossy(&body).into_owned();
        let arrived = Arrived {
            url: url.to_owned(),
            status: head.status,
            headers: head.headers,
            body,
            way: vec![url.to_owned()],
        };
        Ok((arrived, location))
    }

    fn keep_cookies(&mut self, host: &str, response: &Response<Bytes>) {
        for value in response.headers().get_all(header::SET_COOKIE) {
            let text = String::from_utf8_lossy(value.as_bytes());
            let (pair, attributes) = text.split_once(';').unwrap_or((&text, ""));
            let Some((name, value)) = pair.split_once('=') else { continue };
            let jar = self.cookies.entry(host.to_owned()).or_default();
            if attributes.to_ascii_lowercase().contains("max-age=0") {
                jar.remove(name.trim());
            } else {
                jar.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }
}

/// The value of a tag's attribute, with the entities our templates write turned back.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let tag = tag.split('>').next()?;
    let value = tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
    let entities =
        [("&#38;", "&"), ("&amp;", "&"), ("&#x27;", "'"), ("&#39;", "'"), ("&#34;", "\""), ("&quot;", "\"")];
    Some(entities.iter().fold(value.to_owned(), |text, (entity, plain)| text.replace(entity, plain)))
}

/// Where a link on `base` leads.
fn resolve(base: &str, link: &str) -> anyhow::Result<String> {
    if link.starts_with("https://") {
        return Ok(link.to_owned());
    }
    anyhow::ensure!(!link.contains("://"), "{base} leads to {link}");
    let origin: String = base.split('/').take(3).collect::<Vec<_>>().join("/");
    if link.starts_with('/') {
        return Ok(format!("{origin}{link}"));
    }
    let directory =
        base.split('?').next().unwrap_or(base).rsplit_once('/').map_or(base, |(before, _)| before);
    Ok(format!("{directory}/{link}"))
}

/// `application/x-www-form-urlencoded` (WHATWG URL §5.2).
fn encode(fields: &[(String, String)]) -> String {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect()
    };
    fields
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect::<Vec<_>>()
        .join("&")
}

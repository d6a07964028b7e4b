//! A browser as far as the pages need one: keeps cookies, sends forms with what browsers say of themselves.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::body::Body;
use http::{HeaderMap, Method, Request, header};
use mezusphere_model::id::RequestId;
use mezusphere_model::link::ClientAddress;
use tower::ServiceExt as _;

use super::world::{ORIGIN, World};

/// SHA-256 of some state cookie, base64url.
pub(super) const STATE: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

/// The sign-in page for the shop's orders.
pub(super) const TO_SHOP: &str = "/sign-in?host=shop.localhost&return_to=%2Forders%3Ftab%3D2&state=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

/// The id of every request.
pub(super) const REQUEST: RequestId = RequestId::from_bits(7);

/// The same for the blog.
pub(super) const TO_BLOG: &str =
    "/sign-in?host=blog.localhost&return_to=%2F&state=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn location(&self) -> &str {
        assert_eq!(self.status, 303, "{}", self.body);
        self.header("location")
    }

    /// The first form token of the page.
    pub(super) fn form(&self) -> String {
        self.forms().first().cloned().unwrap_or_else(|| panic!("no form: {} {}", self.status, self.body))
    }

    /// All form tokens of the page.
    pub(super) fn forms(&self) -> Vec<String> {
        let rest = self.body.split("name=\"form\" value=\"").skip(1);
        rest.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    }

    /// The stable code of a notice.
    pub(super) fn code(&self) -> &str {
        self.body.split("<dt>Code</dt><dd>").nth(1).map_or("", |rest| rest.split('<').next().unwrap())
    }
}

pub(super) struct Browser<'a> {
    world: &'a World,
    pub(super) cookies: BTreeMap<String, String>,
    pub(super) address: SocketAddr,
    /// What it says of where a form comes from; a test may lie.
    pub(super) says: Vec<(&'static str, &'static str)>,
}

impl<'a> Browser<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        Self {
            world,
            cookies: BTreeMap::new(),
            address: "192.0.2.7:50000".parse().unwrap(),
            says: vec![("origin", ORIGIN), ("sec-fetch-site", "same-origin")],
        }
    }

    pub(super) fn from(mut self, address: &str) -> Self {
        self.address = format!("{address}:50000").parse().unwrap();
        self
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Body::empty()).await
    }

    pub(super) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.post_raw(path, body).await
    }

    pub(super) async fn post_raw(&mut self, path: &str, body: String) -> Answer {
        let mut headers = self.says.clone();
        headers.push(("content-type", "application/x-www-form-urlencoded"));
        let length = body.len().to_string();
        let mut all: Vec<(&str, &str)> = headers;
        all.push(("content-length", &length));
        self.send(Method::POST, path, &all, Body::from(body)).await
    }

    /// Sends a request as it is, with the cookies of this browser.
    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Answer {
        let mut request =
            Request::builder().method(method).uri(path).header("host", "login.mezu.localhost:8443");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !self.cookies.is_empty() {
            let pairs: Vec<String> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(header::COOKIE, pairs.join("; "));
        }
        let request = request.extension(ClientAddress(self.address)).extension(REQUEST).body(body).unwrap();
        let response = self.world.router.clone().oneshot(request).await.unwrap();
        self.keep(response.headers());
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        // A picture is no text.
        let body = String::from_utf8_lossy(&body).into_owned();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    fn keep(&mut self, headers: &HeaderMap) {
        for set in headers.get_all(header::SET_COOKIE) {
            let set = set.to_str().unwrap();
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            if set.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// Opens the sign-in page and sends it.
    pub(super) async fn sign_in(&mut self, page: &str, email: &str, password: &str) -> Answer {
        let form = self.get(page).await.form();
        self.post("/sign-in", &[("form", &form), ("email", email), ("password", password)]).await
    }
}

//! Platform hosts to their services: `console.` is the admin API, `login.` the hosted pages, `connect.` says
//! how to connect. The edge's listeners have ended TLS and the HTTP versions before a request comes here.

use std::convert::Infallible;

use axum::Router;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use mezusphere_model::platform::PlatformHost;
use mezusphere_model::{Host, Platform};
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

/// Whatever a body can fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of requests and responses between the edge's listeners and control.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Serves the platform's hosts. Cheap to clone; usable from any thread.
pub type PlatformService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// What answers under each platform host.
#[derive(Clone)]
pub(crate) struct Services {
    /// The admin API.
    pub(crate) console: Router,
    /// The hosted pages.
    pub(crate) login: Router,
}

/// One service that chooses by the request's host.
pub(crate) fn service(platform: Platform, services: Services) -> PlatformService {
    let service = tower::service_fn(move |request: Request<Body>| {
        let request = request.map(axum::body::Body::new);
        let chosen = host(&request).and_then(|host| platform.which(&host));
        let router = match chosen {
            Some(PlatformHost::Console) => Some(services.console.clone()),
            Some(PlatformHost::Login) => Some(services.login.clone()),
            Some(PlatformHost::Connect) | None => None,
        };
        async move {
            let response = match (router, chosen) {
                (Some(router), _) => into_shared(router.oneshot(request).await?),
                (None, Some(_)) => text(StatusCode::OK, CONNECT_TEXT),
                // The listeners send platform hosts only; another one is told nothing.
                (None, None) => text(StatusCode::MISDIRECTED_REQUEST, "This host is not served here.\n"),
            };
            Ok::<_, Infallible>(response)
        }
    });
    BoxCloneSyncService::new(service)
}

const CONNECT_TEXT: &str = "Warpgates connect here. Start one with: warpgate connect --key-file FILE\n";

/// The host a request is for: of its URI (h2, h3, absolute form), else of its `Host` header.
fn host<B>(request: &Request<B>) -> Option<Host> {
    if let Some(authority) = request.uri().authority() {
        return Host::parse(authority.host()).ok();
    }
    let value = request.headers().get(header::HOST)?.to_str().ok()?;
    let authority: http::uri::Authority = value.parse().ok()?;
    Host::parse(authority.host()).ok()
}

fn into_shared(response: axum::response::Response) -> Response<Body> {
    response.map(|body| UnsyncBoxBody::new(body.map_err(|why| Box::new(why) as BoxError)))
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let body = http_body_util::Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {});
    let mut response = Response::new(UnsyncBoxBody::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    secure(headers);
    response
}

/// The headers of every answer that is not a page: nothing in it may run, be framed, guessed at or kept (R18).
pub(crate) fn secure(headers: &mut http::HeaderMap) {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (http::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (http::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, host: Option<&str>) -> Request<Body> {
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let empty = http_body_util::Empty::new().map_err(|never| match never {});
        request.body(UnsyncBoxBody::new(empty)).unwrap()
    }

    fn under_test() -> PlatformService {
        let say = |what: &'static str| Router::new().fallback(move || async move { what });
        let services = Services { console: say("console"), login: say("login") };
        service(Platform::development(8443).unwrap(), services)
    }

    async fn answer(request: Request<Body>) -> (u16, String) {
        let response = under_test().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_request_goes_to_the_service_of_its_host() {
        let rows = [
            ("https://console.mezu.localhost:8443/x", None, 200, "console"),
            ("/x", Some("login.mezu.localhost:8443"), 200, "login"),
            ("/x", Some("LOGIN.mezu.localhost"), 200, "login"),
            ("/", Some("connect.mezu.localhost"), 200, CONNECT_TEXT),
            ("/", Some("shop.localhost"), 421, "This host is not served here.\n"),
            ("/", None, 421, "This host is not served here.\n"),
        ];
        for (uri, host, status, body) in rows {
            assert_eq!(answer(request(uri, host)).await, (status, body.to_owned()), "{uri} {host:?}");
        }
    }

    #[tokio::test]
    async fn r18_an_answer_without_a_page_carries_the_security_headers() {
        let response = under_test().oneshot(request("/", Some("connect.mezu.localhost"))).await.unwrap();
        for name in ["strict-transport-security", "content-security-policy", "x-content-type-options"] {
            assert!(response.headers().contains_key(name), "{name}");
        }
    }
}

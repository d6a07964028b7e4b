//! The page a browser gets: who the caller is, and the headers that said so.

use http::{HeaderMap, Method};

use crate::identity::Caller;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2129;--soft:#5c6470;--line:#e3e6ea;--paper:#fff;--accent:#3b5bdb}\
@media(prefers-color-scheme:dark){:root{--ink:#e9ecf1;--soft:#9aa3b0;--line:#2c323b;--paper:#14171c;--accent:#91a7ff}}\
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}\
main{max-width:46rem;margin:0 auto;padding:4rem 1.5rem}p{color:var(--soft);margin:.25rem 0 2rem}\
h1{font-size:1.75rem;line-height:1.2;margin:0}h2{font-size:1rem;margin:2.5rem 0 .75rem}\
dl{margin:0;border-top:1px solid var(--line)}dl div{display:grid;grid-template-columns:13rem 1fr;gap:1rem;\
padding:.6rem 0;border-bottom:1px solid var(--line)}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}\
dt,dd{font:14px/1.5 ui-monospace,monospace}a{color:var(--accent)}\
@media(max-width:36rem){main{padding:2rem 1.25rem}dl div{grid-template-columns:1fr;gap:0}}";

/// Renders the page for one request.
pub(crate) fn html(method: &Method, path: &str, headers: &HeaderMap) -> String {
    let caller = Caller::read(headers);
    let greeting = match &caller {
        None => "Hello, whoever you are".to_owned(),
        Some(caller) => format!("Hello, <span id=\"name\">{}</span>", escape(caller.called())),
    };
    let roles = match &caller {
        Some(caller) if !caller.roles.is_empty() => {
            format!(" Your roles: {}.", escape(&caller.roles.join(", ")))
        }
        _ => String::new(),
    };
    let lead = if caller.is_some() {
        "This workload has no sign-in code. The headers below told it who you are. <a href=\"/.mezu/sign-out\">Sign out</a>"
    } else {
        "This route is public: nobody had to sign in, and nobody did."
    };
    let row = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        // As it came: whoever builds on these sees what has to be decoded.
        let value = String::from_utf8_lossy(value.as_bytes());
        format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(&shorten(&value)))
    };
    let rows = |ours: bool| -> String {
        headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("mezu-") == ours)
            .map(row)
            .collect::<Vec<_>>()
            .concat()
    };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Sample workload</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{STYLE}</style></head>\
         <body><main><h1>{greeting}</h1><p>{lead}{roles}</p><h2>Identity</h2><dl>{}</dl><h2>Request</h2><dl>\
         <div><dt>{method}</dt><dd>{}</dd></div>{}</dl></main></body></html>\n",
        rows(true),
        escape(path),
        rows(false),
    )
}

fn shorten(value: &str) -> String {
    const SHOWN: usize = 96;
    if value.chars().count() <= SHOWN {
        value.to_owned()
    } else {
        value.chars().take(SHOWN).chain(['…']).collect()
    }
}

fn escape(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn somebody_is_greeted_by_the_name_they_have() {
        let mut headers = HeaderMap::new();
        headers.insert("mezu-user-id", HeaderValue::from_static("usr_1"));
        headers.insert("mezu-user-name", HeaderValue::from_static("B%C3%B6b <b>"));
        headers.insert("mezu-roles", HeaderValue::from_static("K%C3%B6ln"));
        let page = html(&Method::GET, "/", &headers);
        assert!(page.contains("<h1>Hello, <span id=\"name\">Böb &lt;b&gt;</span></h1>"), "{page}");
        assert!(page.contains("Your roles: Köln."), "{page}");
    }

    #[test]
    fn whoever_is_not_signed_in_is_greeted_as_nobody() {
        let page = html(&Method::GET, "/", &HeaderMap::new());
        assert!(page.contains("<h1>Hello, whoever you are</h1>") && !page.contains("Your roles"), "{page}");
    }
}

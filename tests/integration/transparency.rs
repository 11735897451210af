//! A backend answers through the gateway as it answers directly: each of many requests is sent both
//! ways, over HTTP/1.1 and HTTP/2, and the answers are compared.
//!
//! The backend is Node's HTTP server, and says back what it was asked.

use http::HeaderMap;
use serde_json::Value;

use crate::support::{Gateway, Process, Program, Redis, Request, SOON, Via, eventually, within};

/// What concerns one connection, or the moment.
const OF_A_CONNECTION: [&str; 5] = ["connection", "date", "keep-alive", "transfer-encoding", "te"];

/// What we say of where a request comes from.
const OURS: [&str; 5] =
    ["via", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

fn requests() -> Vec<Request> {
    let get = |target: &str| Request::get(target).host("app.example");
    let new = |method: &str, target: &str| Request::new(method, target).host("app.example");
    let mut requests: Vec<Request> = [
        // The root, and other paths: the bytes go on as they are.
        "/",
        "/?",
        "/?q",
        "/?a=1&a=2&b=%20+c&%3D==",
        "/a/b/c.html",
        "/a//b///",
        "/%2F%2f/%25/%00",
        "/gr%C3%BC%C3%9Fe/%E2%9C%93",
        "/a;b=c,d:e@f!$&'()*+",
        "/~user/index.php/info?x=[1]",
        "/.hidden/..dots../",
        // Kinds of answers.
        "/headers",
        "/many-headers",
        "/chunks",
        "/length",
        "/empty",
        "/until-closed",
        "/big",
        "/big-chunked",
        "/gzip",
        "/range",
        "/etag",
        "/redirect",
        "/redirect-absolute",
        "/login",
        "/download",
        "/hints",
        "/reason",
        "/status/200",
        "/status/201",
        "/status/204",
        "/status/206",
        "/status/299",
        "/status/301",
        "/status/304",
        "/status/400",
        "/status/404",
        "/status/418",
        "/status/429",
        "/status/500",
        "/status/502",
        "/status/503",
        "/status/599",
    ]
    .map(get)
    .into();
    requests.push(get(&format!("/{}", "long/".repeat(1500))));
    requests.push(get(&format!("/?{}", "q=1&".repeat(1500))));
    // Conditions and preferences.
    requests.push(get("/range").header("range", "bytes=100-199"));
    requests.push(get("/etag").header("if-none-match", "\"v1\""));
    requests.push(get("/etag").header("if-none-match", "\"v0\""));
    requests.push(get("/gzip").header("accept-encoding", "gzip, br;q=0.5"));
    requests.push(get("/x").header("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"));
    requests.push(get("/x").header("accept-language", "de-CH,de;q=0.9,en;q=0.8"));
    requests.push(get("/x").header("authorization", "Basic dXNlcjpwYXNz"));
    requests.push(get("/x").header("cookie", "a=1; b=\"2\"; c=%33"));
    requests.push(get("/x").header("user-agent", "Mozilla/5.0 (X11; Linux x86_64) \"quoted\""));
    requests.push(get("/x").header("referer", "https://other.example/page?x=1"));
    requests.push(get("/x").header("x-empty", "").header("x-twice", "1").header("x-twice", "2"));
    requests.push(get("/x").header("cache-control", "no-cache").header("pragma", "no-cache"));
    requests.push(get("/x").header("x-long", &"v".repeat(8000)));
    requests.push((0..60).fold(get("/x"), |r, n| r.header(&format!("x-h{n}"), &n.to_string())));
    // Other methods, with bodies and without.
    for method in ["HEAD", "OPTIONS", "DELETE", "POST", "PUT", "PATCH", "PROPFIND", "PURGE"] {
        requests.push(new(method, "/method"));
    }
    for target in ["/length", "/chunks", "/big", "/empty", "/status/404", "/gzip", "/etag"] {
        requests.push(new("HEAD", target));
    }
    let json = new("POST", "/api").header("content-type", "application/json");
    requests.push(json.body(b"{\"a\": [1, 2, 3]}"));
    let form = "application/x-www-form-urlencoded";
    requests.push(new("POST", "/form").header("content-type", form).body(b"a=1&b=%20"));
    let multipart =
        new("POST", "/upload").header("content-type", "multipart/form-data; boundary=x");
    let part = b"--x\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n\0\xff\r\n--x--\r\n";
    requests.push(multipart.body(part));
    for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "GET"] {
        requests.push(new(method, "/body").body(b"some body"));
    }
    requests.push(new("POST", "/large").body(&vec![b'x'; 1 << 20]));
    let origin = "https://app.example";
    let preflight = new("OPTIONS", "/api").header("origin", origin);
    requests.push(preflight.header("access-control-request-method", "PUT"));
    requests
}

/// An answer, without what concerns one connection.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    echo: Option<Value>,
}

async fn answer(request: Request, via: Via, to: std::net::SocketAddr) -> Answer {
    let what = format!("{} {}", request.method, request.target);
    // As browsers do; without it, the backend would be sent chunks.
    let request = match request.body.len() {
        length @ 1.. if via.is_http2() => request.header("content-length", &length.to_string()),
        _ => request,
    };
    let mut response = request.send(via, to).await;
    let body = within(SOON, &format!("the body of {what}"), response.body.rest()).await;
    let body = body.unwrap_or_else(|error| panic!("{what} via {via:?}: {error}"));
    let is_echo = response.header("content-type") == "application/json" && !body.is_empty();
    let mut echo: Option<Value> = is_echo.then(|| serde_json::from_slice(&body).unwrap());
    if let Some(echo) = &mut echo {
        clean(echo);
    }
    // What the backend says of a request is compared field by field.
    let body = if echo.is_some() { Vec::new() } else { body };
    let mut headers = fields(&response.headers);
    if echo.is_some() {
        headers.retain(|(name, _)| name != "content-length");
    }
    Answer { status: response.status, headers, body, echo }
}

fn fields(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let fields = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let mut fields: Vec<_> =
        fields.filter(|(name, _)| !OF_A_CONNECTION.contains(&name.as_str())).collect();
    // Fields of one name keep their order.
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

/// Takes away what is ours to say, or concerns the connection.
fn clean(echo: &mut Value) {
    let headers = echo["headers"].as_array_mut().expect("the backend says its headers");
    headers.retain(|header| {
        let (name, _) = header.as_str().and_then(|header| header.split_once(':')).unwrap();
        !OF_A_CONNECTION.contains(&name) && !OURS.contains(&name)
    });
    headers.sort_by_key(|header| {
        header.as_str().and_then(|header| header.split_once(':')).unwrap().0.to_owned()
    });
}

async fn backend() -> (Process, std::net::SocketAddr) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/transparency.cjs");
    let node = Program::new("/usr/bin/env").args(["node", script]).start();
    eventually(SOON, "the backend listens", async || !node.stdout().is_empty()).await;
    let port: u16 = node.stdout()[0].parse().unwrap();
    (node, ([127, 0, 0, 1], port).into())
}

#[tokio::test]
async fn a_backend_answers_through_the_gateway_as_it_answers_directly() {
    let redis = Redis::start().await;
    let (_node, direct) = backend().await;
    let route = format!("- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{direct}\" }}\n");
    let gateway = Gateway::build(&redis).routes(&route).start().await;
    let requests = requests();
    assert!(requests.len() >= 60, "{}", requests.len());
    for request in requests {
        let what = format!("{} {}", request.method, request.target);
        let expected = answer(request.clone(), Via::Http1, direct).await;
        for via in Via::ALL {
            let passed = answer(request.clone(), via, gateway.address_for(via)).await;
            assert_eq!(passed, expected, "{what} via {via:?}");
        }
    }
}

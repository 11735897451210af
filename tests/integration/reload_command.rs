//! `ssegate reload`: the command and `POST /reload`, against a gateway that runs.

use std::path::Path;

use crate::auth::CRON;
use crate::support::{Gateway, GatewayBuilder, Output, Pem, Program, Redis, Request, Response};
use crate::support::{SOON, Via, free_port};

const KEPT: &str = "ssegate: nothing was reloaded: the old configuration stays in use";

/// A gateway whose admin listener stands in its configuration, as the command needs it.
fn build(redis: &Redis) -> GatewayBuilder {
    Gateway::build(redis).admin(&format!("{{ address: \"127.0.0.1:{}\" }}", free_port()))
}

async fn command(dir: &Path, arguments: &[&str]) -> Output {
    let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).dir(dir);
    program.args(arguments.iter().copied()).output(SOON).await
}

async fn post(gateway: &Gateway, request: Request) -> Response {
    request.send(Via::Http1, gateway.address("admin")).await
}

async fn reloads(gateway: &Gateway) -> f64 {
    gateway.metrics().await.sum("ssegate_config_reloads_total", &[])
}

#[tokio::test]
async fn the_new_configuration_is_in_use_when_the_command_has_ended() {
    let redis = Redis::start().await;
    let gateway = build(&redis).settings("shards: 2").start().await;
    let file = gateway.dir().join("gateway.yaml").canonicalize().unwrap();
    let mut stream = gateway.subscribe("/events/news").await;
    for (from, to, said) in [
        ("shards: 2", "shards: 1", "ssegate: shards: the change takes effect after a restart"),
        ("shards: 1", "shards: 2", ""),
        ("/events/{channel}", "/more/{channel}", ""),
        ("127.0.0.1:0\n    tls", "192.0.2.7:9\n    tls", "no network interface has this address"),
    ] {
        gateway.rewrite(|text| text.replace(from, to));
        let output = command(gateway.dir(), &["reload"]).await;
        assert_eq!(output.code(), 0, "{output:?}");
        assert_eq!(output.stdout, format!("{}: reloaded", file.display()));
        assert!(output.stderr.contains(said), "{output:?}");
        assert_eq!(output.stderr.is_empty(), said.is_empty(), "{output:?}");
    }
    assert_eq!(gateway.get("/events/news").await.status, 404);
    gateway.subscribe("/more/news").await;
    redis.publish("news", "still here").await;
    assert_eq!(stream.next_event().await.data, "still here");
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_config_reloads_total", &["success"]), 4.0);
}

#[tokio::test]
async fn a_mistake_is_what_check_says_and_the_old_configuration_stays() {
    let redis = Redis::start().await;
    let gateway = build(&redis).start().await;
    gateway.rewrite(|text| {
        let text = text.replace("/events/{channel}", "/other/{channel}");
        format!("{text}drain: 5 parsecs\nroute: []\n")
    });
    let said = command(gateway.dir(), &["check"]).await;
    assert_eq!((said.code(), said.stderr.lines().count()), (64, 2), "{said:?}");
    let output = command(gateway.dir(), &["reload"]).await;
    assert_eq!((output.code(), &*output.stdout), (64, ""));
    assert_eq!(output.stderr, format!("{}\n{KEPT}", said.stderr));
    assert_eq!(reloads(&gateway).await, 0.0, "the gateway was not asked");

    // One that cannot check for itself is told by the gateway, word for word.
    let url = format!("http://{}", gateway.address("admin"));
    let output = command(gateway.dir(), &["reload", "--url", &url]).await;
    assert_eq!((output.code(), &*output.stdout), (64, ""));
    let file = gateway.dir().join("gateway.yaml").display().to_string();
    assert_eq!(output.stderr.replace(&file, "gateway.yaml"), format!("{}\n{KEPT}", said.stderr));
    assert_eq!(gateway.get("/other/news").await.status, 404);
    gateway.subscribe("/events/news").await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("ssegate_config_reloads_total", &["failure"]), 1.0);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_a_mistake_as_for_check() {
    let redis = Redis::start().await;
    let gateway = build(&redis).start().await;
    let file = gateway.dir().join("gateway.yaml");
    let kept = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let url = format!("http://{}", gateway.address("admin"));
    let at = file.display();
    for (replace, said) in [
        (None, format!("no such file ({at})")),
        (Some(&b"\xff\xfe"[..]), format!("not a text file in UTF-8 ({at})")),
    ] {
        if let Some(bytes) = replace {
            std::fs::write(&file, bytes).unwrap();
        }
        let response = post(&gateway, Request::new("POST", "/reload")).await;
        assert_eq!(response.status, 422);
        let body: serde_json::Value = serde_json::from_str(&response.text().await).unwrap();
        assert_eq!(body["errors"], serde_json::json!([said]));
        // From another directory: the command itself has no file to check.
        let output = command(Path::new("/"), &["reload", "--url", &url]).await;
        assert_eq!((output.code(), &*output.stdout), (64, ""));
        assert_eq!(output.stderr, format!("{said}\n{KEPT}"));
    }
    std::fs::write(&file, kept).unwrap();
    assert_eq!(command(gateway.dir(), &["reload"]).await.code(), 0);
}

#[tokio::test]
async fn what_only_the_gateway_can_read_is_for_the_gateway_to_judge() {
    let redis = Redis::start().await;
    let dir = tempfile::tempdir().unwrap();
    let pem = Pem::write(dir.path());
    let (certificate, key) = (pem.certificate.display(), pem.key.display());
    let jwt = "{ jwt: { keys: \"${JWT_KEY:?a secret}\", algorithms: HS256 } }";
    let gateway = build(&redis)
        .tls(&format!("{{ certificate: \"{certificate}\", key: \"{key}\" }}"))
        .route(&format!("- {{ path: /mine, events: {{ channels: [mine] }}, auth: {jwt} }}\n"))
        .env("JWT_KEY", "0123456789abcdef0123456789abcdef")
        .start()
        .await;
    let output = command(gateway.dir(), &["check"]).await;
    assert_eq!(output.code(), 64, "the variable is not set here: {output:?}");
    let output = command(gateway.dir(), &["reload"]).await;
    assert_eq!(output.code(), 0, "{output:?}");

    std::fs::write(&pem.key, "no key").unwrap();
    let output = command(gateway.dir(), &["reload"]).await;
    assert_eq!((output.code(), &*output.stdout), (64, ""));
    assert!(output.stderr.contains("no private key found in"), "{output:?}");
    assert!(output.stderr.ends_with(KEPT), "{output:?}");
    assert_eq!(gateway.get("/mine").await.status, 401);
}

#[tokio::test]
async fn a_gateway_that_reads_another_file_is_left_alone() {
    let redis = Redis::start().await;
    let gateway = build(&redis).start().await;
    let file = gateway.dir().join("gateway.yaml");
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("copy.yaml");
    std::fs::copy(&file, &copy).unwrap();
    let (file, copy) = (file.canonicalize().unwrap(), copy.canonicalize().unwrap());
    let output = command(elsewhere.path(), &["reload", "-c", "copy.yaml"]).await;
    assert_eq!((output.code(), &*output.stdout), (1, ""), "{output:?}");
    let said = format!(
        "ssegate: the gateway at this admin listener reads {}, not {}; name its file with -c",
        file.display(),
        copy.display()
    );
    assert!(output.stderr.starts_with(&said), "{output:?}");
    assert_eq!(reloads(&gateway).await, 0.0);

    // A link to the file is the file.
    std::os::unix::fs::symlink(&file, elsewhere.path().join("gateway.yaml")).unwrap();
    assert_eq!(command(elsewhere.path(), &["reload"]).await.code(), 0);
    // Who names the listener means the gateway there.
    let url = format!("http://{}", gateway.address("admin"));
    let output = command(elsewhere.path(), &["reload", "--url", &url]).await;
    assert_eq!(output.success(), format!("{}: reloaded", file.display()));
    assert_eq!(reloads(&gateway).await, 2.0);
}

#[tokio::test]
async fn a_gateway_that_cannot_be_asked_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = |admin: &str| {
        format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]\nadmin: {admin}\n\
             redis: {{ url: \"redis://127.0.0.1:1\" }}\n\
             routes: [{{ path: /x, events: {{ channels: [x] }} }}]\n"
        )
    };
    let nowhere = format!("{{ address: \"127.0.0.1:{}\" }}", free_port());
    for (admin, said) in [
        ("off", "no admin listener (admin: off): send SIGHUP to the gateway instead"),
        (&nowhere, "nothing listens there: is it running?"),
    ] {
        std::fs::write(dir.path().join("gateway.yaml"), yaml(admin)).unwrap();
        let output = command(dir.path(), &["reload"]).await;
        assert_eq!((output.code(), &*output.stdout), (1, ""), "{output:?}");
        assert!(output.stderr.contains(said), "{output:?}");
        assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    }
}

#[tokio::test]
async fn not_everybody_may_reload() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let reload = || Request::new("POST", "/reload");
    for (request, status) in [
        (reload().header("origin", "https://evil.example"), 403),
        (reload().header("sec-fetch-site", "cross-site"), 403),
        (reload().host("evil.example"), 403),
        (Request::get("/reload"), 405),
        (Request::new("PUT", "/reload"), 405),
        (Request::new("POST", "/reload?file=/another.yaml"), 409),
    ] {
        let text = format!("{request:?}");
        assert_eq!(post(&gateway, request).await.status, status, "{text}");
    }
    assert_eq!(reloads(&gateway).await, 0.0);
    assert_eq!(post(&gateway, reload()).await.status, 200);

    let auth = format!(
        "{{ address: \"127.0.0.1:{}\", auth: {{ tokens: [{{ name: cron, sha256: {CRON} }}] }} }}",
        free_port()
    );
    let gateway = Gateway::build(&redis).admin(&auth).start().await;
    assert_eq!(post(&gateway, reload()).await.status, 401);
    let output = command(gateway.dir(), &["reload"]).await;
    assert_eq!(output.code(), 1);
    assert!(output.stderr.contains("set SSEGATE_ADMIN_TOKEN to a token"), "{output:?}");
    let program = Program::new(env!("CARGO_BIN_EXE_ssegate")).args(["reload"]).dir(gateway.dir());
    let output = program.env("SSEGATE_ADMIN_TOKEN", "cron-token").output(SOON).await;
    assert_eq!(output.code(), 0, "{output:?}");

    // Where many may read metrics, none of them reloads.
    let gateway = Gateway::build(&redis).admin("{ address: \"0.0.0.0:0\" }").start().await;
    assert_eq!(post(&gateway, reload()).await.status, 403);
    assert_eq!(reloads(&gateway).await, 0.0);
}

#[tokio::test]
async fn many_at_once_are_all_told() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let address = gateway.address("admin");
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..20 {
        asking.spawn(async move {
            Request::new("POST", "/reload").send(Via::Http1, address).await.status
        });
    }
    assert!(gateway.reload().await);
    while let Some(status) = asking.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert!(reloads(&gateway).await >= 21.0);
}

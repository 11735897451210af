//! Arguments, exit codes, messages.

use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::{
    Gateway, Pem, Program, Redis, Request, SOON, Via, eventually, free_port, run,
};

fn ssegate() -> Program {
    Program::new(env!("CARGO_BIN_EXE_ssegate"))
}

#[tokio::test]
async fn help_and_version_are_answers() {
    for question in ["--help", "-h", "help"] {
        let answer = run([question]).await.success();
        for command in ["run", "dev", "check", "pub", "sub", "healthcheck", "completions"] {
            assert!(answer.contains(command), "{question}: {command}");
        }
    }
    let version = run(["--version"]).await.success();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

#[tokio::test]
async fn a_mistake_in_the_arguments_is_exit_64_and_suggests() {
    let output = run(["chek"]).await;
    assert_eq!(output.code(), 64, "{output:?}");
    assert!(output.stderr.contains("check"), "{output:?}");
    assert_eq!(run(["run", "--nonsense"]).await.code(), 64);
}

#[tokio::test]
async fn a_port_that_is_taken_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let dir = TempDir::new().unwrap();
    let yaml = format!(
        "listeners:\n  - address: {address}\nredis: {{ url: \"redis://127.0.0.1:1\" }}\n\
         admin: off\nroutes:\n  - path: /events\n    events: {{ channels: [a] }}\n"
    );
    std::fs::write(dir.path().join("gateway.yaml"), yaml).unwrap();
    let output = ssegate().args(["run"]).dir(dir.path()).output(SOON).await;
    assert_ne!(output.code(), 0);
    let said: Vec<_> = output.stderr.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(said.len(), 1, "{output:?}");
    assert!(said[0].contains(&address.to_string()), "{output:?}");
    let holder = format!("(pid {})", std::process::id());
    assert!(said[0].contains("in use by ") && said[0].contains(&holder), "{output:?}");

    // With `dev` there are options for that, and they are named.
    let port = address.port().to_string();
    for option in ["--https-port", "--http-port", "--admin-port", "--bus-port"] {
        let mut arguments = vec!["dev"];
        for other in ["--https-port", "--http-port", "--admin-port", "--bus-port"] {
            arguments.extend([other, if other == option { port.as_str() } else { "0" }]);
        }
        let dev = ssegate().args(arguments).dir(dir.path()).env("HOME", dir.path());
        let output = dev.env_remove("XDG_STATE_HOME").output(SOON).await;
        assert_eq!(output.code(), 1);
        let words = format!("or choose another port: {option} PORT");
        assert!(output.stderr.contains(&words), "{option}: {output:?}");
    }
}

#[tokio::test]
async fn dev_runs_on_other_ports() {
    let dir = TempDir::new().unwrap();
    let ports = ["--https-port", "--http-port", "--admin-port", "--bus-port"];
    let arguments = ports.into_iter().flat_map(|option| [option, "0"]);
    let dev = ssegate().args(["dev"]).args(arguments).dir(dir.path()).env("HOME", dir.path());
    let gateway = Gateway::wait_for(dev.env_remove("XDG_STATE_HOME"), dir).await;
    let mut stream = gateway.subscribe("/events/news").await;
    let redis = format!("redis://{}", gateway.address("bus"));
    run(["pub", "news", "hello", "--redis", &redis]).await.success();
    assert_eq!(stream.next_event().await.data, "hello");

    // The form of the demo page.
    let form = Request::new("POST", "/demo/publish?channel=news").body(b"from the page");
    let published = gateway.send(Via::Http2, form.clone().header("x-ssegate-demo", "1")).await;
    assert_eq!((published.status, published.text().await.as_str()), (200, "1\n"));
    assert_eq!(stream.next_event().await.data, "from the page");
    assert_eq!(gateway.send(Via::Http2, form).await.status, 403, "a page of another origin");
}

#[tokio::test]
async fn a_gateway_that_runs_on_the_port_is_named_with_the_way_to_take_over() {
    let redis = Redis::start().await;
    let gateway = Gateway::build(&redis).port(free_port()).start().await;
    let config = gateway.dir().join("gateway.yaml");
    let second = ssegate().args(["run", "-c"]).arg(&config).env("HOME", gateway.dir());
    let output = second.output(SOON).await;
    assert_eq!(output.code(), 1);
    let words = format!("in use by ssegate (pid {}), which `ssegate run --takeover`", gateway.id());
    assert!(output.stderr.contains(&words), "{output:?}");
}

#[tokio::test]
async fn a_configuration_may_come_from_standard_input() {
    let yaml = |routes: &str| {
        format!(
            "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\n\
             redis: {{ url: \"embedded://127.0.0.1:0\" }}\nroutes: {routes}\n"
        )
    };
    let dir = TempDir::new().unwrap();
    let (right, wrong) = (dir.path().join("right.yaml"), dir.path().join("wrong.yaml"));
    std::fs::write(&right, yaml("[{ path: /e, events: { channels: [news] } }]")).unwrap();
    std::fs::write(&wrong, yaml("[{ path: /e, events: { chanels: [news] } }]")).unwrap();
    let read = |command: &str, file: &std::path::Path| {
        let shell =
            format!("exec {} {command} -c - < {}", env!("CARGO_BIN_EXE_ssegate"), file.display());
        Program::new("/bin/sh").args(["-c", &shell]).dir(file.parent().unwrap())
    };
    assert!(read("check", &right).output(SOON).await.success().starts_with("-: ok"));
    let output = read("check", &wrong).output(SOON).await;
    assert_eq!(output.code(), 64);
    assert!(output.stderr.contains("did you mean `channels`? (standard input:4:"), "{output:?}");

    let gateway = Gateway::wait_for(read("run", &right), dir).await;
    assert!(gateway.reload().await, "the same text is read again");
    let _stream = gateway.subscribe("/e").await;
}

#[tokio::test]
async fn signals_that_others_stop_for_do_not_end_it() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events/news").await;
    for (signal, name) in
        [(rustix::process::Signal::USR1, "SIGUSR1"), (rustix::process::Signal::USR2, "SIGUSR2")]
    {
        gateway.signal(signal);
        gateway.logs(name).await;
    }
    redis.publish("news", "still here").await;
    assert_eq!(stream.next_event().await.data, "still here");
}

#[tokio::test]
async fn a_key_that_does_not_belong_to_its_certificate_is_one_clear_line() {
    let dir = TempDir::new().unwrap();
    let other = TempDir::new().unwrap();
    let (pem, other) = (Pem::write(dir.path()), Pem::write(other.path()));
    let yaml = format!(
        "listeners:\n  - address: 127.0.0.1:0\n    tls: {{ certificate: {}, key: {} }}\n\
         admin: off\nredis: {{ url: \"redis://127.0.0.1:1\" }}\n\
         routes:\n  - path: /events\n    events: {{ channels: [a] }}\n",
        pem.certificate.display(),
        other.key.display()
    );
    std::fs::write(dir.path().join("gateway.yaml"), yaml).unwrap();
    let output = ssegate().args(["run"]).dir(dir.path()).output(SOON).await;
    assert_ne!(output.code(), 0, "{output:?}");
    assert!(output.stderr.contains("key"), "{output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
}

#[tokio::test]
async fn pub_publishes_and_says_how_many_heard_it() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events/news").await;
    let dir = TempDir::new().unwrap();
    let publish = |arguments: &'static [&'static str]| {
        let config = gateway.dir().join("gateway.yaml");
        let program = ssegate().args(["pub"]).args(arguments.iter().copied());
        program.arg("-c").arg(config).dir(dir.path()).output(SOON)
    };
    let said = publish(&["news", "hello from the shell"]).await.success();
    assert!(said.contains('1'), "{said}");
    assert_eq!(stream.next_event().await.data, "hello from the shell");
}

#[tokio::test]
async fn sub_follows_a_url_and_ends_after_count() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let url = format!("http://{}/events/news", gateway.address("http"));
    let mut program = ssegate().args(["sub", &url, "--count", "2", "--json"]).start();
    let open = async || gateway.metrics().await.sum("ssegate_streams", &[]) == 1.0;
    eventually(SOON, "sub has opened its stream", open).await;
    let heard = async || redis.publish("news", "one\ntwo").await == 1;
    eventually(SOON, "the channel is subscribed", heard).await;
    redis.publish("news", "second").await;

    assert!(program.exit_within(SOON).await.success(), "{}", program.log());
    let lines = program.stdout();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(first["data"], "one\ntwo");
    assert!(first["id"].as_str().is_some_and(|id| id.contains('-')), "{first}");
}

#[tokio::test]
async fn sub_ends_after_its_time() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let url = format!("http://{}/events/news", gateway.address("http"));
    let output = ssegate().args(["sub", &url, "--for", "1s"]).output(SOON).await;
    assert_eq!(output.code(), 0, "{output:?}");
}

#[tokio::test]
async fn healthcheck_tells_alive_and_ready_apart() {
    let mut redis = Redis::start().await;
    let gateway =
        Gateway::build(&redis).admin(&format!("{{ address: \"127.0.0.1:{}\" }}", free_port()));
    let gateway = gateway.start().await;
    gateway.becomes(200, SOON).await;
    let config = gateway.dir().join("gateway.yaml");
    let check = |arguments: &'static [&'static str]| {
        let program = ssegate().args(["healthcheck", "-c"]).arg(&config);
        program.args(arguments.iter().copied()).output(SOON)
    };
    assert_eq!(check(&[]).await.code(), 0);
    assert_eq!(check(&["--ready"]).await.code(), 0);

    redis.kill();
    gateway.becomes(503, SOON).await;
    assert_eq!(check(&[]).await.code(), 0);
    assert_eq!(check(&["--ready"]).await.code(), 1);
    drop(gateway);
    assert_eq!(check(&[]).await.code(), 1);
}

#[tokio::test]
async fn completions_man_and_schema_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(["completions", shell]).await.success();
        assert!(script.contains("healthcheck"), "{shell}");
    }
    assert!(run(["man"]).await.success().contains(".TH ssegate 1"));
    let schema = run(["schema"]).await.success();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert!(schema["properties"]["listeners"].is_object());
    assert_eq!(schema["additionalProperties"], false);
}

#[tokio::test]
async fn a_pipe_that_closes_early_is_no_panic() {
    let shell = format!("{} man | head -1", env!("CARGO_BIN_EXE_ssegate"));
    let output = Program::new("/bin/sh").args(["-c", &shell]).output(SOON).await;
    assert!(!output.stderr.contains("panicked"), "{output:?}");
}

#[tokio::test]
async fn a_password_is_in_no_log_of_a_gateway_that_runs() {
    let redis = Redis::start().await;
    redis.command::<String>(&["ACL", "SETUSER", "u", "on", ">hunter2", "allcommands", "&*"]).await;
    let url = format!("redis://u:hunter2@127.0.0.1:{}", redis.port());
    let mut gateway =
        Gateway::build(&redis).redis_url(&url).env("SSEGATE_LOG", "trace").start().await;
    let mut stream = gateway.subscribe("/events/news").await;
    redis.publish("news", "hello").await;
    stream.next_event().await;
    gateway.terminate();
    gateway.exit_within(2 * SOON).await;
    assert!(!gateway.log().contains("hunter2"), "{}", gateway.log());
}

#[tokio::test]
async fn started_comes_after_every_socket_is_open() {
    let redis = Redis::stopped(&[]);
    let gateway = Gateway::start(&redis).await;
    for kind in ["http", "https", "admin"] {
        assert!(tokio::net::TcpStream::connect(gateway.address(kind)).await.is_ok(), "{kind}");
    }
    assert_eq!(gateway.said("listening").count(), 3);
}

#[tokio::test]
async fn a_port_that_was_just_left_can_be_taken_again() {
    let redis = Redis::start().await;
    let port = free_port();
    for _ in 0..3 {
        let mut gateway = Gateway::build(&redis).port(port).start().await;
        let _streams = gateway.subscribe_all("/events/news", 10).await;
        gateway.terminate();
        assert!(gateway.exit_within(Duration::from_secs(30)).await.success());
    }
}

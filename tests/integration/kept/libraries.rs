//! The libraries that applications use: through `keep` each gives its application what it gives without, and
//! what it does when its connection is lost costs no second generation.
//!
//! `tests/stream_clients/install` puts them into `target/stream-clients/ai`. The backend is the model of
//! examples/ai, which prints a line for each request.

use std::path::{Path, PathBuf};

use super::{Gateway, Redis, SOON};
use crate::support::{Cut, Cutter, Process, Program, Via, eventually};

const NEEDS: &str = "apt-get install python3-venv nodejs npm; tests/stream_clients/install";

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The model, and where it listens.
async fn model() -> (Process, String) {
    let model = Program::new("node").arg(file("examples/ai/model.cjs")).arg("0").start();
    eventually(SOON, "the model listens", async || model.stdout_lines() > 0).await;
    let url = model.stdout().remove(0);
    (model, url)
}

/// The gateway of the example.
async fn gateway(redis: &Redis, model: &str) -> Gateway {
    let yaml = std::fs::read_to_string(file("examples/ai/gateway.yaml")).unwrap();
    let (_, routes) = yaml.split_once("routes:\n").unwrap();
    let port = model.rsplit(':').next().unwrap();
    let routes = routes.replace("${MODEL_PORT:-8000}", port);
    Gateway::build(redis).routes(&unindented(&routes)).start().await
}

fn unindented(text: &str) -> String {
    let line = |line: &str| format!("{}\n", line.strip_prefix("  ").unwrap_or(line));
    text.lines().map(line).collect()
}

/// A client that reads from `url`.
fn client(library: &str, url: &str) -> Program {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| file("target"), PathBuf::from);
    let installed = target.join("stream-clients/ai");
    let (modules, python) = (installed.join("node_modules"), installed.join("venv/bin/python"));
    assert!(modules.exists() && python.exists(), "{}: {NEEDS}", installed.display());
    let (program, script, library) = match library.strip_prefix("python ") {
        Some(library) => (python, "read.py", library),
        None => ("node".into(), "read.cjs", library),
    };
    let script = file("tests/stream_clients/ai").join(script);
    Program::new(program).arg(script).args([library, url]).env("NODE_PATH", modules)
}

/// What the application was given, without the ids that the gateway adds.
async fn seen(program: Program) -> Vec<String> {
    let text = program.output(4 * SOON).await.success();
    let without_id = |line: &str| {
        let mut seen: serde_json::Value = serde_json::from_str(line).unwrap();
        if seen.get("event").is_some()
            && let Some(id) = seen.get_mut("id")
        {
            *id = "".into();
        }
        seen.to_string()
    };
    text.lines().map(without_id).collect()
}

/// How often the model was asked since it printed so many lines.
fn calls(model: &Process, before: usize) -> usize {
    model.stdout_lines() - before
}

#[tokio::test]
#[ignore = "needs node, python and libraries"]
async fn each_library_sees_what_it_sees_without_the_gateway() {
    let redis = Redis::start().await;
    let (model, url) = model().await;
    let gateway = gateway(&redis, &url).await;
    let kept = format!("http://{}", gateway.address_for(Via::Http1));
    for library in [
        "openai",
        "anthropic",
        "ai",
        "fetch-event-source",
        "eventsource",
        "python openai",
        "python anthropic",
        "python httpx-sse",
        "python langgraph",
    ] {
        let mut direct = seen(client(library, &url)).await;
        // What fetch-event-source makes of a comment block: no event.
        direct.retain(|event| !event.contains("\"data\":\"\""));
        let before = model.stdout_lines();
        assert_eq!(seen(client(library, &kept)).await, direct, "{library}");
        assert!(direct.len() >= 10, "{library}: {direct:?}");
        assert_eq!(calls(&model, before), 1, "{library}");
    }
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("ssegate_kept_passed_total", &[]) < 0.5, "all of them were kept");
}

#[tokio::test]
#[ignore = "needs node, python and libraries"]
async fn what_libraries_do_after_a_loss_costs_no_second_generation() {
    let redis = Redis::start().await;
    let (model, url) = model().await;
    let gateway = gateway(&redis, &url).await;
    let kept = format!("http://{}", gateway.address_for(Via::Http1));
    let events = seen(client("fetch-event-source", &url)).await;
    let events: Vec<_> =
        events.into_iter().filter(|event| !event.contains("\"data\":\"\"")).collect();
    let parts = seen(client("ai", &url)).await;
    for (library, by) in [
        ("ai-reload", "name"),
        ("fetch-event-source-hidden", "request"),
        ("eventsource-address", "address"),
    ] {
        let before = model.stdout_lines();
        let seen = seen(client(library, &kept)).await;
        match library {
            // The whole replay, and nothing to resume after it.
            "ai-reload" => assert_eq!(seen, [&parts[..], &["null".to_owned()]].concat()),
            "fetch-event-source-hidden" => assert_eq!(seen, events),
            _ => assert_eq!(seen.len(), events.len(), "{seen:?}"),
        }
        assert_eq!(calls(&model, before), 1, "{library}");
        gateway.counts("ssegate_kept_resumes_total", &[&format!("by=\"{by}\"")], 1.0).await;
    }
    assert_eq!(seen(client("delete", &kept)).await, ["204"]);
    gateway.counts("ssegate_kept_cancelled_total", &["reason=\"deleted\""], 1.0).await;
}

/// Both come back by themselves, to the `Location` of the stream.
#[tokio::test]
#[ignore = "needs node, python and libraries"]
async fn a_connection_that_is_cut_loses_nothing() {
    let redis = Redis::start().await;
    let (model, url) = model().await;
    let gateway = gateway(&redis, &url).await;
    let address = gateway.address_for(Via::Http1);
    let direct = seen(client("python langgraph", &url)).await;
    let cutter = Cutter::to(address, &[Cut::Close(700), Cut::Reset(600)]).await;
    let before = model.stdout_lines();
    let cut = format!("http://{}", cutter.address());
    assert_eq!(seen(client("python langgraph", &cut)).await, direct);
    assert_eq!((calls(&model, before), cutter.cuts_left()), (1, 0));

    // The ten lines of the documentation.
    let cutter = Cutter::to(address, &[Cut::Close(600), Cut::Reset(500)]).await;
    let before = model.stdout_lines();
    let script = format!(
        "import {{ chat }} from '{}';\n\
         const init = {{ method: 'POST', body: '{{}}', headers: {{ authorization: 'Bearer anna' }} }};\n\
         await chat('http://{}/events', init, (event) => console.log(event.data));\n",
        file("examples/ai/chat.mjs").display(),
        cutter.address()
    );
    let program = Program::new("node").args(["--input-type=module", "-e", &script]);
    let text = program.output(4 * SOON).await.success();
    let words = "Once upon a time there was a stream .".split(' ').collect::<Vec<_>>().join("\n");
    assert_eq!(text, format!("{words}\n{{\"a\":1}}\ntwo\nlines\nlast"));
    assert_eq!((calls(&model, before), cutter.cuts_left()), (1, 0));
}

/// A server that says one thing after the other, and the chat of the documentation.
const CHAT: &str = r"
const { createServer } = await import('node:http');
const steps = JSON.parse(process.argv[1]);
const server = createServer((request, response) => {
  const { status, location, body, cut } = steps.shift();
  response.writeHead(status, location ? { location } : {});
  response.write(body ?? '');
  if (cut) response.flushHeaders(), setTimeout(() => response.destroy(), 50); else response.end();
});
server.listen(0, '127.0.0.1', async () => {
  const seen = [];
  const url = `http://127.0.0.1:${server.address().port}/chat`;
  const end = await chat(url, { method: 'POST' }, (event) => seen.push(event.data)).then(() => 'returned', (error) => error.message);
  console.log([...seen, end].join(' '));
  server.close();
});
";

#[tokio::test]
#[ignore = "needs node"]
async fn the_ten_lines_wait_for_who_is_away_and_tell_what_is_lost() {
    let first =
        r#"{"status": 200, "location": "/kept/1", "body": "data: one\nid: s-1\n\n", "cut": true}"#;
    let rest = r#"{"status": 200, "body": "data: two\nid: s-2\n\n"}"#;
    for (steps, expected) in [
        (
            format!("[{first}, {{\"status\": 503}}, {{\"status\": 502}}, {rest}]"),
            "one two returned",
        ),
        (format!("[{first}, {{\"status\": 204}}]"), "one returned"),
        (format!("[{first}, {{\"status\": 410}}]"), "one no chat: 410"),
        (r#"[{"status": 401}]"#.to_owned(), "no chat: 401"),
        (r#"[{"status": 503}]"#.to_owned(), "no chat: 503"),
    ] {
        let script =
            format!("import {{ chat }} from '{}';\n{CHAT}", file("examples/ai/chat.mjs").display());
        let program = Program::new("node").args(["--input-type=module", "-e", &script, &steps]);
        assert_eq!(program.output(4 * SOON).await.success().trim(), expected, "{steps}");
    }
}

#[test]
fn the_ten_lines_of_the_documents_are_those_of_the_example() {
    let example = std::fs::read_to_string(file("examples/ai/chat.mjs")).unwrap();
    for document in ["README.md", "docs/KEPT_STREAMS.md"] {
        let text = std::fs::read_to_string(file(document)).unwrap();
        let is_there =
            |block: &&str| block.contains("async function chat(") && example.contains(*block);
        let blocks = text.split("```js\n").skip(1).filter_map(|rest| rest.split("```").next());
        assert_eq!(blocks.filter(|block| is_there(block)).count(), 1, "{document}");
    }
}

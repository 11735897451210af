//! Official SDKs of services that stream, through a proxy route that keeps their streams alive: they
//! read what they read without it.
//!
//! `tests/stream_clients/install --full` puts the SDKs into `target/stream-clients/full`. MCP has its
//! own servers; for the others a backend in here writes the formats of OpenAI, Anthropic and the AI
//! SDK, piece by piece.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{Gateway, Process, Program, Redis, Request, SOON, Via, eventually, free_port};

/// How often a pause of the backend is filled.
const KEEP_ALIVE: &str = "sse: { keep_alive: 200ms }";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stream_clients/full/sdk").join(name)
}

/// The program that runs `name`, a script for Python or Node.
fn program(name: &str) -> Program {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let installed = target.join("stream-clients/full");
    let (python, modules) = (installed.join("venv/bin/python"), installed.join("node_modules"));
    let (program, needed) = match name.ends_with(".py") {
        true => (python.clone(), python),
        false => ("node".into(), modules.clone()),
    };
    assert!(
        needed.exists(),
        "{} is missing: apt-get install python3-venv nodejs npm; tests/stream_clients/install --full",
        needed.display()
    );
    Program::new(program).arg(script(name)).env("NODE_PATH", modules)
}

fn origin(gateway: &Gateway, via: Via) -> String {
    let scheme = if via.is_tls() { "https" } else { "http" };
    format!("{scheme}://{}", gateway.address_for(via))
}

/// Runs a client to its end; the line of JSON that it printed.
async fn run(name: &str, arguments: &[&str], via: Via) -> Value {
    let mut program = program(name).args(arguments.iter().copied());
    if via.is_http2() {
        program = program.env("HTTP2", "yes");
    }
    let output = program.output(6 * SOON).await;
    let said = format!("{name} {arguments:?} via {via:?}: {output:?}");
    let line = output.success();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// A server of MCP at work.
async fn mcp_server(name: &str, transport: &str) -> (Process, u16) {
    let port = free_port();
    let mut server = program(name).args([port.to_string().as_str(), transport]).start();
    eventually(4 * SOON, "an MCP server listens", async || {
        assert_eq!(server.ended(), None, "{:?}", server.stderr());
        TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
    (server, port)
}

#[tokio::test]
#[ignore = "needs SDKs: run by tests/run --full"]
async fn long_the_sdks_of_mcp_read_streams_that_are_kept_alive() {
    let redis = Redis::start().await;
    let step = |number: u32| json!([f64::from(number), 3.0, format!("h\u{e9}llo {number}")]);
    let progress = |seen: &Value| {
        let steps = seen["progress"].as_array().unwrap().iter();
        let numbers = |step: &Value| json!([step[0].as_f64(), step[1].as_f64(), step[2]]);
        steps.map(numbers).collect::<Vec<_>>()
    };
    for language in ["py", "cjs"] {
        for (transport, path) in [("streamable-http", "/mcp"), ("sse", "/sse")] {
            let (_server, port) = mcp_server(&format!("mcp_server.{language}"), transport).await;
            let route = format!(
                "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://127.0.0.1:{port}\" }}\n"
            );
            let gateway = Gateway::build(&redis).settings(KEEP_ALIVE).routes(&route).start().await;
            for via in [Via::Http1, Via::Http2] {
                let url = origin(&gateway, via) + path;
                let seen = run(&format!("mcp_client.{language}"), &[&url, transport], via).await;
                let what = format!("{language} {transport} via {via:?}: {seen}");
                assert_eq!(seen["tools"], json!(["count"]), "{what}");
                assert_eq!(progress(&seen), [1, 2, 3].map(step), "{what}");
                assert_eq!(seen["text"], json!(["counted to 3"]), "{what}");
            }
        }
    }
}

/// A chunk of a chat completion.
fn chunk(delta: &Value, finish_reason: Option<&str>) -> String {
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish_reason });
    let chunk = json!({
        "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]
    });
    format!("data: {chunk}\n\n")
}

fn chat_completion() -> Vec<String> {
    let say = |text: &str| chunk(&json!({ "content": text }), None);
    vec![
        // As OpenRouter waits.
        ": OPENROUTER PROCESSING\n\n".to_owned(),
        chunk(&json!({ "role": "assistant", "content": "" }), None),
        say("h\u{e9}llo"),
        say(" \u{2028} world"),
        chunk(&json!({}), Some("stop")),
        "data: [DONE]\n\n".to_owned(),
    ]
}

/// Events with a name, each in two pieces: between its lines there may be a comment too.
fn named(events: &[Value]) -> Vec<String> {
    let pieces = events.iter().flat_map(|event| {
        let name = event["type"].as_str().unwrap();
        [format!("event: {name}\n"), format!("data: {event}\n\n")]
    });
    pieces.collect()
}

fn response() -> Vec<String> {
    let body = |status: &str| {
        json!({
            "id": "r", "object": "response", "created_at": 1, "status": status, "model": "m",
            "output": [], "parallel_tool_calls": true, "tool_choice": "auto", "tools": []
        })
    };
    let delta = |text: &str, number: u32| {
        json!({
            "type": "response.output_text.delta", "item_id": "i", "output_index": 0,
            "content_index": 0, "delta": text, "logprobs": [], "sequence_number": number
        })
    };
    named(&[
        json!({ "type": "response.created", "response": body("in_progress"), "sequence_number": 0 }),
        delta("h\u{e9}llo", 1),
        delta(" \u{2028} world", 2),
        json!({ "type": "response.completed", "response": body("completed"), "sequence_number": 3 }),
    ])
}

fn message() -> Vec<String> {
    let start = json!({
        "id": "m", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": 1, "output_tokens": 1 }
    });
    let delta = |text: &str| {
        let delta = json!({ "type": "text_delta", "text": text });
        json!({ "type": "content_block_delta", "index": 0, "delta": delta })
    };
    named(&[
        json!({ "type": "message_start", "message": start }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "ping" }),
        delta("h\u{e9}llo"),
        delta(" \u{2028} world"),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({
            "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null },
            "usage": { "output_tokens": 7 }
        }),
        json!({ "type": "message_stop" }),
    ])
}

fn ui_message() -> Vec<String> {
    let parts = [
        json!({ "type": "start", "messageId": "1" }),
        json!({ "type": "text-start", "id": "t" }),
        json!({ "type": "text-delta", "id": "t", "delta": "h\u{e9}llo" }),
        json!({ "type": "text-delta", "id": "t", "delta": " \u{2028} world" }),
        json!({ "type": "text-end", "id": "t" }),
        json!({ "type": "finish" }),
    ];
    let pieces = parts.iter().map(|part| format!("data: {part}\n\n"));
    pieces.chain(["data: [DONE]\n\n".to_owned()]).collect()
}

/// Writes the stream that was asked for; behind each piece it waits until the clock has told of two
/// keep-alives.
async fn answer(mut socket: TcpStream, mut clock: watch::Receiver<usize>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let lines = head.lines().filter_map(|line| line.strip_prefix("content-length: "));
    let length = lines.map(|length| length.parse::<usize>().unwrap()).sum();
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    while head.contains("transfer-encoding: chunked") && !body.ends_with(b"0\r\n\r\n") {
        body.push(socket.read_u8().await?);
    }
    let pieces = match head.split(' ').nth(1).unwrap() {
        "/v1/chat/completions" => chat_completion(),
        "/v1/responses" => response(),
        "/v1/messages" => message(),
        "/api/chat" => ui_message(),
        // The clock itself: a stream that is always quiet.
        _ => Vec::new(),
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                x-vercel-ai-ui-message-stream: v1\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await?;
    let is_clock = pieces.is_empty();
    for piece in pieces {
        socket.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await?;
        let enough = *clock.borrow() + 2;
        if clock.wait_for(|ticks| *ticks >= enough).await.is_err() {
            break;
        }
    }
    if is_clock {
        std::future::pending::<()>().await;
    }
    socket.write_all(b"0\r\n\r\n").await
}

/// A gateway in front of that backend.
async fn in_front_of_a_backend(redis: &Redis) -> Gateway {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = listener.local_addr().unwrap();
    let (tick, clock) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answering = answer(socket, clock.clone());
            tokio::spawn(async { drop(answering.await) });
        }
    });
    let route = format!("- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{backend}\" }}\n");
    let gateway = Gateway::build(redis).settings(KEEP_ALIVE).routes(&route).start().await;
    let mut quiet = gateway.send(Via::Http1, Request::events("/clock")).await.body;
    tokio::spawn(async move {
        while let Ok(Some(comments)) = quiet.chunk().await {
            tick.send_modify(|ticks| *ticks += comments.split(|&b| b == b'\n').count() - 1);
        }
    });
    gateway
}

#[tokio::test]
#[ignore = "needs SDKs: run by tests/run --full"]
async fn long_the_sdks_of_openai_anthropic_and_ai_read_streams_that_are_kept_alive() {
    let redis = Redis::start().await;
    let gateway = in_front_of_a_backend(&redis).await;
    let text = ["h\u{e9}llo", " \u{2028} world"];
    let response = json!(["response.created", text[0], text[1], "response.completed"]);
    let openai = json!({ "chat": ["", text[0], text[1], null], "response": response });
    let anthropic = json!({ "texts": text, "stop": "end_turn", "tokens": 7 });
    let message = json!(["start", "text-start", text[0], text[1], "text-end", "finish"]);
    let ai = json!({ "chat": text, "message": message });

    // What they are given is not what the backend wrote.
    for target in ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat"] {
        let request = Request::new("POST", target).body(b"{}");
        let text = gateway.send(Via::Http1, request).await.text().await;
        assert!(text.matches("\n:\n").count() >= 5, "{text}");
    }
    for via in [Via::Http1, Via::Http2] {
        let mut clients = JoinSet::new();
        for (name, expected) in [
            ("openai_client.py", &openai),
            ("openai_client.cjs", &openai),
            ("anthropic_client.py", &anthropic),
            ("anthropic_client.cjs", &anthropic),
            ("ai_client.cjs", &ai),
        ] {
            let (url, expected) = (origin(&gateway, via), expected.clone());
            clients.spawn(async move { (name, run(name, &[&url], via).await, expected) });
        }
        for (name, seen, expected) in clients.join_all().await {
            assert_eq!(seen, expected, "{name} via {via:?}");
        }
    }
}

//! nginx as a backend.

use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{Process, Program, SOON, eventually, free_port};

const NGINX: &str = "/usr/sbin/nginx";

/// nginx, in a directory of its own. It listens with HTTP/2 in clear text on one port, and with HTTP/1.1
/// on another.
pub(crate) struct NginxBackend {
    process: Process,
    http1: u16,
    http2: u16,
    _dir: TempDir,
}

impl NginxBackend {
    /// Starts it. `server` is what stands in its server block; its root has the files that `files`
    /// names, with their sizes.
    pub(crate) async fn start(server: &str, files: &[(&str, usize)]) -> Self {
        assert!(Path::new(NGINX).exists(), "missing: apt-get install nginx");
        let dir = TempDir::new().unwrap();
        for (name, size) in files {
            std::fs::write(dir.path().join(name), vec![b'x'; *size]).unwrap();
        }
        let (http1, http2) = (free_port(), free_port());
        let root = dir.path().display();
        // Its workers are those of whoever runs the tests.
        let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
        let configuration = format!(
            "daemon off; worker_processes 1; pid {root}/pid; error_log stderr notice; {user}
            events {{ worker_connections 4096; }}
            http {{
              access_log off;
              client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;
              fastcgi_temp_path {root}/fastcgi; uwsgi_temp_path {root}/uwsgi;
              scgi_temp_path {root}/scgi;
              server {{
                listen 127.0.0.1:{http1};
                listen 127.0.0.1:{http2} http2;
                root {root};
                {server}
              }}
            }}"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        let process = Program::new(NGINX).args(["-p"]).arg(dir.path()).args(["-c"]).arg(&file);
        let process = process.start();
        let nginx = Self { process, http1, http2, _dir: dir };
        for port in [http1, http2] {
            let open = async || TcpStream::connect(("127.0.0.1", port)).await.is_ok();
            eventually(SOON, "nginx listens", open).await;
        }
        nginx
    }

    /// A route for `path` that leads here, over HTTP/2 or HTTP/1.1, with further keys of `proxy`.
    pub(crate) fn route(&self, path: &str, is_http2: bool, more: &str) -> String {
        let port = if is_http2 { self.http2 } else { self.http1 };
        format!(
            "- path: {path}\n  proxy: {{ upstream: \"http://127.0.0.1:{port}\", \
             http2: {is_http2}{more} }}\n"
        )
    }

    /// Reads its configuration again: its workers end their connections, and others begin.
    pub(crate) fn reload(&self) {
        self.process.signal(Signal::HUP);
    }
}

impl Drop for NginxBackend {
    fn drop(&mut self) {
        self.process.terminate();
    }
}

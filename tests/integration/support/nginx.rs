//! A real nginx: a backend as many have it, or a proxy to compare with.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{Process, Program, SOON, eventually, free_port};

/// nginx, with one server in clear text; its access log is kept.
pub(crate) struct Nginx {
    address: SocketAddr,
    dir: TempDir,
    process: Process,
}

impl Nginx {
    /// Starts it; `server` stands in its `server` block, and `listen` behind the port it listens on.
    pub(crate) async fn listening(listen: &str, server: &str) -> Self {
        Self::with_files(listen, server, &[]).await
    }

    /// The same, with these files in its root, of these sizes.
    pub(crate) async fn with_files(listen: &str, server: &str, files: &[(&str, usize)]) -> Self {
        const PROGRAM: &str = "/usr/sbin/nginx";
        assert!(Path::new(PROGRAM).exists(), "missing: apt-get install nginx");
        let dir = TempDir::new().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for (name, size) in files {
            std::fs::write(dir.path().join(name), vec![b'x'; *size]).unwrap();
        }
        let (port, root) = (free_port(), dir.path().display());
        // Its workers are those of whoever runs the tests.
        let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {name};\n"))
            .concat();
        let configuration = format!(
            "{user} daemon off; worker_processes 1; pid nginx.pid; error_log error.log info;
            events {{ worker_connections 4096; }}
            http {{
                {temporary}
                log_format asked '$request $status';
                access_log access.log asked;
                server {{ listen 127.0.0.1:{port} {listen}; root {root}; {server} }}
            }}"
        );
        std::fs::write(dir.path().join("nginx.conf"), configuration).unwrap();
        let prefix = dir.path().to_str().unwrap();
        let mut process = Program::new(PROGRAM)
            .args(["-p", prefix, "-c", "nginx.conf", "-e", "error.log"])
            .start();
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        eventually(SOON, "nginx listens", async || {
            assert!(process.ended().is_none(), "nginx has ended:\n{}", process.log());
            TcpStream::connect(address).await.is_ok()
        })
        .await;
        Self { address, dir, process }
    }

    /// The same, over HTTP/1.1.
    pub(crate) async fn start(server: &str) -> Self {
        Self::listening("", server).await
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A route that leads here.
    pub(crate) fn route(&self, path: &str) -> String {
        let address = self.address;
        format!("- path: {path}\n  proxy: {{ upstream: \"http://{address}\" }}\n")
    }

    /// The same, with further keys of `proxy`.
    pub(crate) fn route_with(&self, path: &str, more: &str) -> String {
        let address = self.address;
        format!("- path: {path}\n  proxy: {{ upstream: \"http://{address}\", {more} }}\n")
    }

    /// Reads its configuration again: its workers end their connections, and others begin.
    pub(crate) fn reload(&self) {
        self.process.signal(Signal::HUP);
    }

    /// The requests that it has answered: their line and the status.
    pub(crate) fn log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.dir.path().join("access.log"));
        log.unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It ends its workers, too.
        self.process.terminate();
    }
}

//! Pushpin: its runner (condure, proxy, handler) and zurl, which asks the origin what to hold.
//!
//! All of them count as the server; zurl has nothing to do while streams are held.

use super::{Running, Site, free_address, origin};
use crate::Outcome;
use crate::process::Process;
use crate::publisher::Way;

pub(super) fn start(site: &Site) -> Outcome<Running> {
    let [plain, publish_at, publish_sub, publish_http, command] =
        std::array::from_fn(|_| free_address());
    let origin = origin::address()?;
    let directory = &site.directory;
    let run = directory.join("pushpin");
    std::fs::create_dir_all(&run)?;
    let run = run.display();
    let zurl_config = directory.join("zurl.conf");
    std::fs::write(
        &zurl_config,
        format!(
            "[General]
instance_id=
in_spec=ipc://{run}/zurl-in
in_stream_spec=ipc://{run}/zurl-in-stream
out_spec=ipc://{run}/zurl-out
in_req_spec=ipc://{run}/zurl-req
defpolicy=allow
allow=
deny=
max_open_requests=20000
buffer_size=200000
timeout=600
in_hwm=20000
out_hwm=20000
"
        ),
    )?;
    std::fs::write(directory.join("routes"), format!("* {origin}\n"))?;
    let config = directory.join("pushpin.conf");
    std::fs::write(
        &config,
        format!(
            "[global]
include={{libdir}}/internal.conf
rundir={run}
ipc_prefix=pushpin-
port_offset=0
stats_connection_ttl=120

[runner]
services=condure,pushpin-proxy,pushpin-handler
http_port={plain}
logdir={run}
log_level=1
client_buffer_size=8192
client_maxconn={connections}
condure_bin=condure
zurl_bin=zurl

[proxy]
routesfile=routes
debug=false
updates_check=off
zurl_out_specs=ipc://{run}/zurl-in
zurl_out_stream_specs=ipc://{run}/zurl-in-stream
zurl_in_specs=ipc://{run}/zurl-out

[handler]
push_in_spec=tcp://{publish_at}
push_in_sub_specs=tcp://{publish_sub}
push_in_http_addr=127.0.0.1
push_in_http_port={http}
command_spec=tcp://{command}
message_rate=100000000
message_hwm=100000000
",
            connections = site.files - 500,
            http = publish_http.port(),
        ),
    )?;
    let cores = &site.cores.servers;
    let arguments = vec![format!("--config={}", zurl_config.display())];
    let zurl = Process::start("zurl", cores, directory, "zurl", &arguments)?;
    let arguments = vec![format!("--config={}", config.display())];
    let pushpin = Process::start("pushpin", cores, directory, "pushpin", &arguments)?;
    Ok(Running {
        processes: vec![pushpin, zurl],
        support: Vec::new(),
        plain,
        tls: None,
        path: "/events/",
        way: Way::ZeroMq,
        publish_at,
        admin: None,
    })
}
